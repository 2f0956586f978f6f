// How pruned keys lie in a head's stream of encoded bytes, for CPU and CUDA.
//
// Xu et al., ThinK: Thinner Key Cache by Query-Driven Pruning, ICLR 2025 (arXiv:2407.21018).
//
// The stream begins with a header: the numbers of the kept channels as uint16, ascending, then zeros up to a multiple of
// 16 bytes. Item i holds rows [16 i, 16 i + 16), one kept channel after the other, the 16 rows of a channel side by side,
// in the cache's dtype. So an item is 16 * channels elements, whatever the number of channels: nothing is padded. Rows
// that an item does not have yet are zeros.
//
// A channel's rows lie side by side because then 16 channels of an item are what ldmatrix.trans turns into the fragment
// of Q K^T, and on the CPU one vector of 16 logits grows channel by channel.
#ifndef ACCEL_THINK_LAYOUT_H
#define ACCEL_THINK_LAYOUT_H

#include <stdint.h>

#ifdef __CUDACC__
#define ACCEL_THINK_BOTH __host__ __device__
#else
#define ACCEL_THINK_BOTH
#endif

namespace accel_think {

constexpr int kItemRows = 16;
// A header lists no more channels than these, and the CUDA kernels hold a row of so many.
constexpr int kMostChannels = 256;

ACCEL_THINK_BOTH inline int64_t header_bytes(int64_t channels) { return (2 * channels + 15) / 16 * 16; }
ACCEL_THINK_BOTH inline int64_t item_bytes(int64_t channels, int64_t element_bytes) {
  return kItemRows * channels * element_bytes;
}

// Whether the channel is kept: all but the `dropped` with the lowest scores are, equal scores falling from the first
// channel on. Sums of squares are never -0.
ACCEL_THINK_BOTH inline bool is_kept(const float* scores, int dim, int channel, int dropped) {
  int lower = 0;
  for (int j = 0; j < dim; ++j) {
    lower += scores[j] < scores[channel] || (scores[j] == scores[channel] && j < channel) ? 1 : 0;
  }
  return lower >= dropped;
}

}  // namespace accel_think
#endif
