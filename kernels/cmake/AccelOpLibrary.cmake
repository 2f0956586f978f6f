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
include_guard(GLOBAL)
include("${CMAKE_CURRENT_LIST_DIR}/AccelIsa.cmake")
get_filename_component(ACCEL_INCLUDE_DIR "${CMAKE_CURRENT_LIST_DIR}/../include" ABSOLUTE)
# cmake-js points its own variable at node_modules; the headers must be those of the runtime beside this file.
set(ACCEL_INCLUDE_DIR "${ACCEL_INCLUDE_DIR}" CACHE INTERNAL "Headers of @accel/kernels")

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()

function(accel_add_op_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "VERSION" "SOURCES")
  if(NOT arg_VERSION OR NOT arg_SOURCES OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "usage: accel_add_op_library(name VERSION x.y.z SOURCES a.cc [b_avx2.cc ...])")
  endif()
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
endfunction()
