# accel_cuda_target(<target>): what every target with CUDA code is built with: C++20, sm_80 and sm_90a machine code,
# PTX for what comes later, cudart linked statically. Sources named *_sm90.cu are built for sm_90a alone.
include_guard(GLOBAL)
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90a-real;90-virtual")
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
if(CMAKE_VERSION VERSION_LESS 3.26)
  # Debian 12's cmake does not know how nvcc spells C++20.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()

function(accel_cuda_target target)
  set_target_properties(
    ${target}
    PROPERTIES CUDA_STANDARD 20
               CUDA_STANDARD_REQUIRED ON
               CUDA_EXTENSIONS OFF
               CUDA_VISIBILITY_PRESET hidden
               CXX_VISIBILITY_PRESET hidden
               VISIBILITY_INLINES_HIDDEN ON
               POSITION_INDEPENDENT_CODE ON
               CUDA_RUNTIME_LIBRARY Static)
  target_compile_options(
    ${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--compress-mode=size;--extended-lambda;--expt-relaxed-constexpr>"
                      "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall>")
  target_link_libraries(${target} PRIVATE CUDA::cudart_static)
endfunction()
