// What simd.inc.h needs, included outside of any namespace.
#ifndef ACCEL_CPU_SIMD_HEADERS_H
#define ACCEL_CPU_SIMD_HEADERS_H

#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512F__)
// GCC's own AVX-512 intrinsics warn about their "undefined" helper values (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cpu/ops/dtypes.h"

#endif
