// flexprefill_blocks on CUDA: what its kernels share. flexprefill.cu has their order.
#ifndef ACCEL_FLEXPREFILL_WORK_CUH
#define ACCEL_FLEXPREFILL_WORK_CUH

#include "accel/cuda.cuh"
#include "flexprefill.h"

namespace accel_flexprefill {

using accel::cuda::KvPages;

// What a head has chosen.
struct Choice {
  int aware;
  float divergence;
  int counts[2];         // tokens, of the vertical and of the slash profile
  int numbers[2];        // blocks
  int extra;
  uint32_t cut_key;      // of E: entries above it are in, and equal ones up to index cut_last
  int64_t cut_last;
};

struct Work {
  Problem p;
  KvPages pages;
  int span, splits;      // tiles of keys that a block works through, and the number of such blocks
  float2* statistics;    // [heads][splits][kTile]: a row's largest logit and Σ 2^(logit - that), over a split
  float* vertical;       // [heads][tiles * kTile]: v
  float* diagonals;      // [heads][tiles][2 kTile]: sums over the diagonals of a tile
  float* slash;          // [heads][tiles * kTile]: w
  float* key_means;      // [kv heads][columns][dim]
  float* query_means;    // [heads][row blocks][dim]
  float* entries;        // [heads][row blocks][columns]: E
  float* pooled;         // [heads][3][columns]: v and w over blocks, a
  uint32_t* sets;        // [heads][2][words]: bits of columns, and of slash blocks
  Choice* choices;       // [heads]
  int32_t* fine;         // the mask in blocks of p.block

  __device__ int64_t padded() const { return static_cast<int64_t>(p.tiles) * kTile; }
  __device__ const float* entries_of(int h) const {
    return entries + static_cast<int64_t>(h) * p.row_blocks * p.columns;
  }
  __device__ float* pooled_of(int h, int which) const {
    return pooled + (static_cast<int64_t>(h) * 3 + which) * p.columns;
  }
  __device__ uint32_t* set_of(int h, int which) const { return sets + (static_cast<int64_t>(h) * 2 + which) * p.words; }
};

// A largest logit that none is below, for rows that see nothing of a split: -inf - -inf would be NaN.
constexpr float kLowest = -1e30f;

// Launches; each is a step of flexprefill.cu.
int launch_means_of_keys(const accel_call* call, const Work& w);     // flexprefill_means.cu
int launch_means_of_queries(const accel_call* call, const Work& w);
int launch_profiles(const accel_call* call, const Work& w);          // flexprefill_profiles.cu
bool mma_supports(const accel_call* call, const Work& w);            // flexprefill_mma.cu
int launch_profiles_mma(const accel_call* call, const Work& w);
int launch_choose(const accel_call* call, const Work& w);            // flexprefill_choose.cu
int launch_rows(const accel_call* call, const Work& w);              // flexprefill_rows.cu
int launch_mask(const accel_call* call, const Work& w);              // flexprefill_mask.cu

#if defined(__CUDACC__)
// The same tree as tree_sum on the CPU; lane 0 has the sum.
__device__ inline float warp_tree_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_down_sync(~0u, x, step);
  return x;
}
#endif

}  // namespace accel_flexprefill
#endif
