# accel_isa_sources(<out> <source>...): the sources this machine can use, lowest instruction set first, with the
# compiler flags of each set by its file suffix:
#
#   name_avx2.cc        AVX2, FMA, F16C
#   name_avx512.cc      the above and AVX-512 F, BW, VL, DQ
#   name_avx512bf16.cc  the above and AVX512-BF16
#   anything else       the portable baseline
#
# The order matters. An inline function of the standard library that several units emit ends up once in the binary,
# and the linker keeps the first copy it meets: lowest level first means no unit can be handed code of a higher level.
function(accel_isa_sources out)
  set(base "")
  set(avx2 "")
  set(avx512 "")
  set(avx512bf16 "")
  set(flags_avx2 "-mavx2;-mfma;-mf16c")
  set(flags_avx512 "${flags_avx2};-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq")
  set(flags_avx512bf16 "${flags_avx512};-mavx512bf16")
  set(x86 OFF)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
    set(x86 ON)
  endif()
  foreach(source IN LISTS ARGN)
    get_filename_component(stem "${source}" NAME_WE)
    if(stem MATCHES "_(avx2|avx512|avx512bf16)$")
      set(level "${CMAKE_MATCH_1}")
      if(x86)
        set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS "${flags_${level}}")
        list(APPEND ${level} "${source}")
      endif()
    else()
      list(APPEND base "${source}")
    endif()
  endforeach()
  set(${out} ${base} ${avx2} ${avx512} ${avx512bf16} PARENT_SCOPE)
endfunction()

# accel_optimise(<target>): the flags every target with kernels is built with.
function(accel_optimise target)
  if(MSVC)
    target_compile_options(${target} PRIVATE /W4 /O2)
  else()
    target_compile_options(${target} PRIVATE -Wall -Wextra -fno-math-errno $<$<CONFIG:Release>:-O3>)
  endif()
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    # Threads of ours may still be inside the library when Node lets go of it.
    target_link_options(${target} PRIVATE "-Wl,-z,nodelete")
  endif()
endfunction()
