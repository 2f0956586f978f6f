// Codes as operands of mma.sync: two codes of a register are the half floats code * 2^-24 (subnormals, exact), times powers of
// two where they stay at the bits at which the word has them. Those factors are made good in fp32 after the product (rows of
// the fragment) or in the queries before it (columns), never by a shift, because integer operations are what a step is short of.
#ifndef ACCEL_KIVI_FRAGMENTS_CUH
#define ACCEL_KIVI_FRAGMENTS_CUH

#include "accel/mma.cuh"

namespace accel_kivi {

constexpr float kSubnormal = 16777216.f;  // 2^24

// The A fragments of a block of keys, step by step (kivi_layout.h).
template <int B>
struct KeyCodes {
  static constexpr uint32_t mask = ((1u << B) - 1) * 0x00010001u;
  // Columns 8 to 15 are so many times too large; so queries are made smaller there.
  static constexpr int right = B == 2 ? 16 : 1;
  // What makes sums over codes sums over integers: of rows g, and of rows g + 8.
  static constexpr float upper = kSubnormal, lower = B == 8 ? kSubnormal : kSubnormal / (1 << B);

  uint32_t word = 0;

  // The fragment of step s of `steps`, in ascending order, as a word may serve two.
  __device__ void load(const uint8_t* block, int s, int steps, int lane, uint32_t (&a)[4]) {
    const auto* words = reinterpret_cast<const uint32_t*>(block);
    if constexpr (B == 2) {
      if (s % 2 == 0) {
        if (s + 1 < steps) {
          word = words[s / 2 * 32 + lane];
        } else {  // half a word
          const uint32_t x = reinterpret_cast<const uint16_t*>(words + s / 2 * 32)[lane];
          word = (x & 0xffu) | (x & 0xff00u) << 8;
        }
      } else {
        word >>= 8;
      }
#pragma unroll
      for (int i = 0; i < 4; i++) a[i] = word & mask << 2 * i;
    } else if constexpr (B == 4) {
      const uint32_t x = words[s * 32 + lane], y = x >> 8;
      a[0] = x & mask;
      a[1] = x & mask << 4;
      a[2] = y & mask;
      a[3] = y & mask << 4;
    } else {
      const uint32_t x = words[s * 64 + lane], y = words[s * 64 + 32 + lane];
      a[0] = x & mask;
      a[1] = x >> 8 & mask;
      a[2] = y & mask;
      a[3] = y >> 8 & mask;
    }
  }
};

// The same of values, whose steps are a multiple of four. Columns are rows of the cache here, and have no factors.
template <int B>
struct ValueCodes {
  static constexpr uint32_t mask = KeyCodes<B>::mask;

  uint32_t word[2] = {};

  __device__ static constexpr int shift_of(int s, int lower) {
    return B == 2 ? 4 * (s % 2) + 2 * lower : B == 4 ? 4 * lower : 0;
  }
  // What makes a sum over codes one over integers: of channels g (0) or g + 8 (1) of step s.
  __device__ static constexpr float factor(int s, int lower) { return kSubnormal / (1 << shift_of(s, lower)); }

  __device__ void load(const uint8_t* block, int s, int steps, int lane, uint32_t (&a)[4]) {
    if constexpr (B == 2) {
#pragma unroll
      for (int right = 0; right < 2; right++) {
        if (s % 4 == 0) word[right] = reinterpret_cast<const uint32_t*>(block)[(s / 2 + right) * 32 + lane];
        if (s % 4 == 2) word[right] >>= 8;
#pragma unroll
        for (int lower = 0; lower < 2; lower++) a[right * 2 + lower] = word[right] & mask << shift_of(s, lower);
      }
    } else {
      KeyCodes<B>().load(block, s, steps, lane, a);
    }
  }

  // The two codes of register i of such a fragment.
  __device__ static float2 numbers(uint32_t pair, int s, int i) {
    const int shift = shift_of(s, i % 2);
    return {static_cast<float>(pair >> shift & mask & 0xffffu), static_cast<float>(pair >> (16 + shift) & (mask & 0xffffu))};
  }
};

__device__ inline uint32_t multiply_pairs(uint32_t a, uint32_t b) {
  uint32_t product;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
  return product;
}

// An 8 x 8 matrix of 16-bit elements, of which lane 4 g + t has elements 2t, 2t + 1 of row g, turned.
__device__ inline uint32_t transpose_pairs(uint32_t pair) {
  uint32_t turned;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(pair));
  return turned;
}

// Weights of 16 keys as a B fragment of element type E.
template <class E>
__device__ inline void weight_fragment(const float (&s)[4], uint32_t (&p)[2]) {
  p[0] = transpose_pairs(pack_pair<E>(s[0], s[1]));
  p[1] = transpose_pairs(pack_pair<E>(s[2], s[3]));
}

// Over the eight lanes that share the columns of a C fragment.
__device__ inline float column_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 4));
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 8));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 16));
}
__device__ inline float column_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 4);
  x += __shfl_xor_sync(~0u, x, 8);
  return x + __shfl_xor_sync(~0u, x, 16);
}

}  // namespace accel_kivi
#endif
