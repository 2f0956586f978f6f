// What the kernel that streams keys is launched with, and how it is laid out.
#ifndef ACCEL_THINK_ARGUMENTS_CUH
#define ACCEL_THINK_ARGUMENTS_CUH

#include <stdint.h>

#include "accel/decode_plan.cuh"
#include "think_layout.h"

namespace accel_think {

using namespace accel::cuda;

// Seven warps with two or more steps each in flight fill about half of a Hopper multiprocessor's memory; a step takes one
// warp longer than its bytes take to arrive, so it is the number of warps that keeps the memory busy.
constexpr int kStreamWarps = 7, kStreamThreads = kStreamWarps * 32;
constexpr int kStreamTile = kItemRows * kStreamWarps;  // keys

// Divides numbers below 2^31 without dividing: n / d = n m >> s with s = 31 + ceil(log2 d) and m = ceil(2^s / d). The
// product is too large by less than n d / 2^s < 1, which is too little to matter.
struct Divisor {
  uint32_t value, multiplier, shift;

  static Divisor of(uint32_t d) {
    uint32_t shift = 31;
    while ((1ull << (shift - 31)) < d) shift++;
    return {d, static_cast<uint32_t>(((1ull << shift) + d - 1) / d), shift};
  }
  __device__ unsigned quotient(unsigned n) const {
    return static_cast<unsigned>(static_cast<uint64_t>(n) * multiplier >> shift);
  }
};

struct ThinkArguments {
  DecodeArguments decode;  // causal, without ranges; heads have no gap
  int channels;            // kept
  unsigned item_bytes, header_bytes;
  Divisor rows_per_page;   // a multiple of 16: 16 rows that begin at a multiple of 16 are side by side
  Divisor page_bytes;      // no less than an item, which so lies in one page or two
};

}  // namespace accel_think
#endif
