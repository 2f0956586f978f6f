# Builds a method package's own kernels into an op library that @accel/kernels loads at run time.
#
#   cmake_minimum_required(VERSION 3.24)
#   project(accel_mymethod LANGUAGES CXX)
#   execute_process(
#     COMMAND node -p "require.resolve('@accel/kernels/cmake/AccelOpLibrary.cmake')"
#     WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
#     OUTPUT_VARIABLE accel_op_library OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
#   include("${accel_op_library}")
#   accel_add_op_library(accel_mymethod VERSION 0.0.0 SOURCES kernels/cpu/mymethod.cc)
#
# Run it with `cmake-js compile` (package.json needs "binary": {"napi_versions": [8]}) or with plain cmake; the result
# is build/Release/accel_mymethod.so. The library includes "accel/op.h", exports `accel_op_library_get`, and may use
# the definitions ACCEL_LIBRARY_NAME and ACCEL_LIBRARY_VERSION (string literals) in its table. Neither Node nor any
# other part of the runtime is linked. A source's file suffix chooses its instruction set: see AccelIsa.cmake.
#
# SOURCES may hold CUDA files (mymethod.cu; name_sm90.cu for Hopper alone: see AccelCuda.cmake). They are built in when
# nvcc is there, and then ACCEL_WITH_CUDA is 1; otherwise it is 0, they are left out, and the table says so:
#
#   #if ACCEL_WITH_CUDA
#   int mymethod_cuda(const accel_call* call);  // mymethod.cu
#   #else
#   constexpr accel_op_fn mymethod_cuda = nullptr;
#   #endif
#   const accel_op ops[] = {{"mymethod", "out:tensor, x:tensor", check, mymethod_cpu, mymethod_cuda}};
#
# -DACCEL_CUDA=OFF leaves them out, -DACCEL_CUDA=ON makes a missing nvcc an error; AUTO is the default.
include_guard(GLOBAL)
include("${CMAKE_CURRENT_LIST_DIR}/AccelIsa.cmake")
set(ACCEL_CMAKE_DIR "${CMAKE_CURRENT_LIST_DIR}")
get_filename_component(ACCEL_INCLUDE_DIR "${CMAKE_CURRENT_LIST_DIR}/../include" ABSOLUTE)
# cmake-js points its own variable at node_modules; the headers must be those of the runtime beside this file.
set(ACCEL_INCLUDE_DIR "${ACCEL_INCLUDE_DIR}" CACHE INTERNAL "Headers of @accel/kernels")

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()

# Sets accel_with_cuda. A macro, because languages are enabled in the scope of a file.
macro(accel_find_cuda)
  set(ACCEL_CUDA "$ENV{ACCEL_CUDA}" CACHE STRING "AUTO (or empty): when nvcc is there | ON | OFF")
  set(accel_with_cuda OFF)
  if(NOT ACCEL_CUDA STREQUAL "OFF")
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
      include("${ACCEL_CMAKE_DIR}/AccelCuda.cmake")
      set(accel_with_cuda ON)
    elseif(ACCEL_CUDA STREQUAL "ON")
      message(FATAL_ERROR "ACCEL_CUDA=ON, but no nvcc was found. Install the CUDA toolkit or set CUDACXX.")
    else()
      message(STATUS "No nvcc: building ${PROJECT_NAME} without its CUDA kernels")
    endif()
  endif()
endmacro()

macro(accel_add_op_library)
  set(accel_with_cuda OFF)
  if("${ARGV}" MATCHES "\\.cu(;|$)")
    accel_find_cuda()
  endif()
  accel_build_op_library(${ARGV})
endmacro()

function(accel_build_op_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "VERSION" "SOURCES")
  if(NOT arg_VERSION OR NOT arg_SOURCES OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "usage: accel_add_op_library(name VERSION x.y.z SOURCES a.cc [b_avx2.cc ...] [a.cu ...])")
  endif()
  set(cuda_sources ${arg_SOURCES})
  list(FILTER cuda_sources INCLUDE REGEX "\\.cu$")
  list(FILTER arg_SOURCES EXCLUDE REGEX "\\.cu$")
  accel_isa_sources(sources ${arg_SOURCES})
  add_library(${name} MODULE ${sources})
  set_target_properties(
    ${name}
    PROPERTIES PREFIX ""
               LIBRARY_OUTPUT_DIRECTORY "$<1:${CMAKE_BINARY_DIR}/Release>"
               CXX_STANDARD 20
               CXX_STANDARD_REQUIRED ON
               CXX_EXTENSIONS OFF
               CXX_VISIBILITY_PRESET hidden
               VISIBILITY_INLINES_HIDDEN ON
               POSITION_INDEPENDENT_CODE ON)
  if(APPLE)
    set_target_properties(${name} PROPERTIES SUFFIX ".so")
  endif()
  target_include_directories(${name} PRIVATE "${ACCEL_INCLUDE_DIR}")
  target_compile_definitions(
    ${name} PRIVATE "ACCEL_LIBRARY_NAME=\"${name}\"" "ACCEL_LIBRARY_VERSION=\"${arg_VERSION}\"")
  accel_optimise(${name})

  target_compile_definitions(${name} PRIVATE "ACCEL_WITH_CUDA=$<BOOL:${accel_with_cuda}>")
  if(accel_with_cuda)
    set(hopper_sources ${cuda_sources})
    list(FILTER hopper_sources INCLUDE REGEX "_sm90\\.cu$")
    list(FILTER cuda_sources EXCLUDE REGEX "_sm90\\.cu$")
    foreach(part cuda hopper)
      if(${part}_sources)
        add_library(${name}_${part} OBJECT ${${part}_sources})
        accel_cuda_target(${name}_${part})
        target_include_directories(${name}_${part} PRIVATE "${ACCEL_INCLUDE_DIR}")
        target_compile_definitions(${name}_${part} PRIVATE ACCEL_WITH_CUDA=1)
        target_link_libraries(${name} PRIVATE ${name}_${part})
      endif()
    endforeach()
    if(hopper_sources)
      set_target_properties(${name}_hopper PROPERTIES CUDA_ARCHITECTURES "90a-real")
    endif()
    # The CUDA runtime inside is this library's own affair.
    target_link_libraries(${name} PRIVATE CUDA::cudart_static)
    target_link_options(${name} PRIVATE "-Wl,--exclude-libs,ALL")
  endif()
endfunction()
