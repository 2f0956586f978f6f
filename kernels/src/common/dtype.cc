#include "common/dtype.h"

#include <bit>

namespace accel {
namespace {

float from_bfloat16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

float from_float16(uint16_t bits) {
  uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  uint32_t exponent = (bits >> 10) & 0x1fu;
  uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: fraction · 2^-24 is exact in float32
    float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

}  // namespace

void widen(DType dtype, const uint16_t* from, float* to, size_t count) {
  if (dtype == DType::bfloat16) {
    for (size_t i = 0; i < count; i++) to[i] = from_bfloat16(from[i]);
  } else {
    for (size_t i = 0; i < count; i++) to[i] = from_float16(from[i]);
  }
}

}  // namespace accel
