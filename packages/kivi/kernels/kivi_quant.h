// The arithmetic of a group, in half precision whatever the cache holds, so that every device gives the same bits:
//
//   low = min x, scale = half(half(max x - low) / (2^b - 1)), code = round to even(half(half(x - low) / scale))
//
// half(y) is y rounded to the nearest half, ties to even; a group whose scale is 0 has codes 0. Operations are fp32, which
// has more than twice the digits of a half, so rounding twice is rounding once.
#ifndef ACCEL_KIVI_QUANT_H
#define ACCEL_KIVI_QUANT_H

#include "kivi_layout.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#else
#include "accel/host.h"
#endif

namespace accel_kivi {

// The largest half. A group whose numbers are further apart has no scale.
constexpr float kMostHalf = 65504.f;

#ifdef __CUDACC__
#define ACCEL_KIVI_MATH __device__ inline
ACCEL_KIVI_MATH uint32_t select(bool condition, uint32_t yes, uint32_t no) { return condition ? yes : no; }
ACCEL_KIVI_MATH float as_half(float x) { return __half2float(__float2half_rn(x)); }
ACCEL_KIVI_MATH float quotient(float a, float b) { return __fdiv_rn(a, b); }
ACCEL_KIVI_MATH int nearest(float x) { return __float2int_rn(x); }
#else
#define ACCEL_KIVI_MATH inline
// Every translation unit has its own copy: units may be built for different instruction sets.
namespace {

// `yes` or `no`, without a branch, so that compilers vectorise what is around it.
ACCEL_KIVI_MATH uint32_t select(bool condition, uint32_t yes, uint32_t no) {
  const uint32_t mask = 0u - static_cast<uint32_t>(condition);
  return (yes & mask) | (no & ~mask);
}
ACCEL_KIVI_MATH float as_half(float x) {
  const uint32_t bits = accel::host::to_bits(x), sign = bits & 0x80000000u, magnitude = bits ^ sign;
  const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u)) & ~0x1fffu;
  // Below 2^-14 a half is a multiple of 2^-24, as are the floats from 0.5 to 1.
  const uint32_t tiny = accel::host::to_bits((accel::host::from_bits(magnitude) + 0.5f) - 0.5f);
  const uint32_t finite = select(magnitude < 0x38800000u, tiny, normal);
  const uint32_t large = select(magnitude > 0x7f800000u, 0x7fc00000u, 0x7f800000u);
  return accel::host::from_bits(sign | select(magnitude < 0x477ff000u, finite, large));
}
ACCEL_KIVI_MATH float quotient(float a, float b) { return a / b; }
// Of a number from 0 to 2^22.
ACCEL_KIVI_MATH int nearest(float x) { return static_cast<int>((x + 8388608.f) - 8388608.f); }
#endif

// Of numbers that are all zero the scale is +0, whatever their signs.
ACCEL_KIVI_MATH float scale_of(float low, float high, int most) {
  return as_half(quotient(as_half(high - low + 0.f), static_cast<float>(most)));
}

ACCEL_KIVI_MATH int code_of(float x, float low, float scale, int most) {
  const float u = as_half(quotient(as_half(x - low), scale)), top = static_cast<float>(most);
  // What 0 / 0 gives does not matter.
  return static_cast<int>(select(scale != 0.f, static_cast<uint32_t>(nearest(u < top ? u : top)), 0));
}

#ifndef __CUDACC__
}  // namespace
#endif
}  // namespace accel_kivi
#endif
