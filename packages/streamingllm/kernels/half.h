// 16-bit floats as storage: arithmetic is fp32, rounding is to nearest even.
#ifndef ACCEL_STREAMINGLLM_HALF_H
#define ACCEL_STREAMINGLLM_HALF_H

#include <stdint.h>
#include <string.h>

namespace {

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

inline float from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
inline uint32_t to_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}

inline float widen(float x) { return x; }
inline float widen(Bf16 x) { return from_bits(static_cast<uint32_t>(x.bits) << 16); }
inline float widen(F16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1fu;
  const uint32_t mantissa = x.bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24 is exact
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return from_bits(sign | (wide << 23) | (mantissa << 13));
}

inline void narrow(float x, float* out) { *out = x; }
inline void narrow(float x, Bf16* out) {
  const uint32_t u = to_bits(x);
  out->bits = x != x ? static_cast<uint16_t>((u >> 16) | 0x40u)
                     : static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
inline void narrow(float x, F16* out) {
  const uint32_t u = to_bits(x);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // rounds to 2^16 or more
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {
    half = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  } else {  // subnormal: adding 0.5 puts the bits of weight 2^-24 last, rounded
    half = to_bits(from_bits(magnitude) + 0.5f) - 0x3f000000u;
  }
  out->bits = static_cast<uint16_t>(sign | half);
}

}  // namespace
#endif
