// Block formats of GGUF files (ggml's names), as float numbers: one definition for the CPU and for CUDA.
//
// A row is a sequence of blocks. A block holds `elements` small whole numbers q and, for each `group` of them, a factor
// and perhaps an offset: x = factor * q + offset. The product is rounded before the offset is added, on every device, so
// that results agree to the bit with ggml's reference. Numbers are little endian; f16 is IEEE binary16. "Low half first"
// means that byte j holds element j in its low four bits and element j + n in its high four.
//
//   Q8_0  32 in  34 bytes: f16 d | 32 x int8 q                                                    x = d q
//   Q4_0  32 in  18 bytes: f16 d | 16 bytes q, low half first (n = 16)                            x = d (q - 8)
//   Q4_1  32 in  20 bytes: f16 d | f16 m | 16 bytes q, low half first                             x = d q + m
//   Q5_0  32 in  22 bytes: f16 d | u32 fifth bits, element i in bit i | 16 bytes as Q4_0          x = d (q - 16)
//   Q5_1  32 in  24 bytes: f16 d | f16 m | u32 fifth bits | 16 bytes                              x = d q + m
//   Q4_K 256 in 144 bytes: f16 d | f16 dmin | 12 bytes: s and m, 6 bits for each group of 32 |
//                          4 x 32 bytes q, low half first (n = 32), for two groups each           x = (d s) q - (dmin m)
//   Q5_K 256 in 176 bytes: as Q4_K, with 32 bytes of fifth bits before q: byte i % 32 has
//                          element i in bit i / 32                                                x = (d s) q - (dmin m)
//   Q6_K 256 in 210 bytes: 128 bytes of low four bits | 64 bytes of high two bits |
//                          16 x int8 s, one for 16 elements | f16 d. In each half of the block
//                          (128 elements, 64 and 32 bytes), element i has its low bits in byte
//                          i % 64, low half first (n = 64), its high bits in byte i % 32 at
//                          bit 2 (i / 32)                                                         x = (d s) (q - 32)
//
// The six bits of s and m (Q4_K, Q5_K): groups 0 to 3 have s in the low six bits of bytes 0 to 3 and m in those of bytes
// 4 to 7. Groups 4 to 7 have their low four bits in bytes 8 to 11 (s in the low half, m in the high), and their high two
// bits in the top of bytes 0 to 3 (s) and 4 to 7 (m).
#ifndef ACCEL_COMMON_QUANT_BLOCKS_H
#define ACCEL_COMMON_QUANT_BLOCKS_H

#include <stdint.h>

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#define ACCEL_BOTH __host__ __device__ inline
#else
#include "accel/host.h"
#define ACCEL_BOTH inline
#endif

namespace accel::quant {
// Every translation unit has its own copy: the two compilers' must not be mixed up.
namespace {

ACCEL_BOTH float half_at(const uint8_t* p) {
  const uint16_t bits = static_cast<uint16_t>(p[0] | p[1] << 8);
#if defined(__CUDACC__)
  return __half2float(__half(__half_raw{bits}));
#else
  return host::widen(host::F16{bits});
#endif
}

ACCEL_BOTH uint32_t word_at(const uint8_t* p) {
  return p[0] | p[1] << 8 | p[2] << 16 | static_cast<uint32_t>(p[3]) << 24;
}

// The four bits of element i of 2 n that lie in n bytes, low half first.
ACCEL_BOTH int nibble(const uint8_t* p, int i, int n) { return p[i % n] >> 4 * (i / n) & 15; }

// What the elements of a group share.
struct Scale {
  float factor;
  float offset;  // unused by formats without one
};

struct Q8_0 {
  static constexpr int elements = 32, bytes = 34, group = 32;
  static constexpr bool has_offset = false;
  ACCEL_BOTH static Scale scale(const uint8_t* b, int) { return {half_at(b), 0.f}; }
  ACCEL_BOTH static int q(const uint8_t* b, int i) { return static_cast<int8_t>(b[2 + i]); }
};

struct Q4_0 {
  static constexpr int elements = 32, bytes = 18, group = 32;
  static constexpr bool has_offset = false;
  ACCEL_BOTH static Scale scale(const uint8_t* b, int) { return {half_at(b), 0.f}; }
  ACCEL_BOTH static int q(const uint8_t* b, int i) { return nibble(b + 2, i, 16) - 8; }
};

struct Q4_1 {
  static constexpr int elements = 32, bytes = 20, group = 32;
  static constexpr bool has_offset = true;
  ACCEL_BOTH static Scale scale(const uint8_t* b, int) { return {half_at(b), half_at(b + 2)}; }
  ACCEL_BOTH static int q(const uint8_t* b, int i) { return nibble(b + 4, i, 16); }
};

struct Q5_0 {
  static constexpr int elements = 32, bytes = 22, group = 32;
  static constexpr bool has_offset = false;
  ACCEL_BOTH static Scale scale(const uint8_t* b, int) { return {half_at(b), 0.f}; }
  ACCEL_BOTH static int q(const uint8_t* b, int i) {
    const int fifth = static_cast<int>(word_at(b + 2) >> i & 1);
    return (nibble(b + 6, i, 16) | fifth << 4) - 16;
  }
};

struct Q5_1 {
  static constexpr int elements = 32, bytes = 24, group = 32;
  static constexpr bool has_offset = true;
  ACCEL_BOTH static Scale scale(const uint8_t* b, int) { return {half_at(b), half_at(b + 2)}; }
  ACCEL_BOTH static int q(const uint8_t* b, int i) {
    const int fifth = static_cast<int>(word_at(b + 4) >> i & 1);
    return nibble(b + 8, i, 16) | fifth << 4;
  }
};

// Factor and offset of group g of a Q4_K or Q5_K block.
ACCEL_BOTH Scale k_scale(const uint8_t* b, int g) {
  const uint8_t* packed = b + 4;
  int s, m;
  if (g < 4) {
    s = packed[g] & 63;
    m = packed[4 + g] & 63;
  } else {
    s = (packed[4 + g] & 15) | packed[g - 4] >> 6 << 4;
    m = packed[4 + g] >> 4 | packed[g] >> 6 << 4;
  }
  return {half_at(b) * static_cast<float>(s), -(half_at(b + 2) * static_cast<float>(m))};
}

struct Q4_K {
  static constexpr int elements = 256, bytes = 144, group = 32;
  static constexpr bool has_offset = true;
  ACCEL_BOTH static Scale scale(const uint8_t* b, int g) { return k_scale(b, g); }
  ACCEL_BOTH static int q(const uint8_t* b, int i) { return nibble(b + 16 + i / 64 * 32, i % 64, 32); }
};

struct Q5_K {
  static constexpr int elements = 256, bytes = 176, group = 32;
  static constexpr bool has_offset = true;
  ACCEL_BOTH static Scale scale(const uint8_t* b, int g) { return k_scale(b, g); }
  ACCEL_BOTH static int q(const uint8_t* b, int i) {
    const int fifth = b[16 + i % 32] >> i / 32 & 1;
    return nibble(b + 48 + i / 64 * 32, i % 64, 32) | fifth << 4;
  }
};

struct Q6_K {
  static constexpr int elements = 256, bytes = 210, group = 16;
  static constexpr bool has_offset = false;
  ACCEL_BOTH static Scale scale(const uint8_t* b, int g) {
    return {half_at(b + 208) * static_cast<float>(static_cast<int8_t>(b[192 + g])), 0.f};
  }
  ACCEL_BOTH static int q(const uint8_t* b, int i) {
    const int half = i / 128, j = i % 128;
    const int high = b[128 + half * 32 + j % 32] >> 2 * (j / 32) & 3;
    return (nibble(b + half * 64, j, 64) | high << 4) - 32;
  }
};

// Element i of a block whose group has this scale.
template <class Format>
ACCEL_BOTH float value(const uint8_t* block, Scale scale, int i) {
  const float q = static_cast<float>(Format::q(block, i));
#if defined(__CUDA_ARCH__)
  const float product = __fmul_rn(scale.factor, q);  // never fused with the addition
  return Format::has_offset ? __fadd_rn(product, scale.offset) : product;
#else
  const float product = scale.factor * q;
  return Format::has_offset ? product + scale.offset : product;
#endif
}

// Numbers that the op takes for a format: those of GGUF's tensor types. ts/dequantize.ts has the same.
enum Id { id_q4_0 = 2, id_q4_1 = 3, id_q5_0 = 6, id_q5_1 = 7, id_q8_0 = 8, id_q4_k = 12, id_q5_k = 13, id_q6_k = 14 };

// Calls f with a value of the format's type; false when there is no such format.
template <class F>
bool with_format(int64_t id, F&& f) {
  switch (id) {
    case id_q4_0: f(Q4_0{}); return true;
    case id_q4_1: f(Q4_1{}); return true;
    case id_q5_0: f(Q5_0{}); return true;
    case id_q5_1: f(Q5_1{}); return true;
    case id_q8_0: f(Q8_0{}); return true;
    case id_q4_k: f(Q4_K{}); return true;
    case id_q5_k: f(Q5_K{}); return true;
    case id_q6_k: f(Q6_K{}); return true;
    default: return false;
  }
}

}  // namespace
}  // namespace accel::quant
#endif
