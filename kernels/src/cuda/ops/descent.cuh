// Order statistics of a row of fp32 numbers without sorting it: radix descent by a team of blocks.
//
// A score becomes a uint32 key whose unsigned order is the order of the scores (-0 counts as +0). To find where a running
// sum over the numbers in descending order reaches a goal, three levels fix 11 + 11 + 10 bits of the key there: each adds
// up, per value of the next digit, what the keys with the bits known so far contribute (one each: the k-th largest; their
// weight: a quantile of mass), then scans the 2048 sums from the top. (Radix select: Alabi et al. 2012, "Fast k-selection
// algorithms for graphics processors".) All sums are integers, so they do not depend on the order of the threads.
//
// A row is one team's: a cluster of up to 8 blocks on sm_90, which read each other's histograms from shared memory; one
// block before. Each warp of the team owns a contiguous part of the row, so that ranks in index order come from counts.
#ifndef ACCEL_CUDA_OPS_DESCENT_CUH
#define ACCEL_CUDA_OPS_DESCENT_CUH

#include <cooperative_groups.h>
#include <stdint.h>

#include "accel/cuda.cuh"

namespace accel::cuda {

constexpr int team_threads = 1024, team_warps = team_threads / 32, team_most_blocks = 8;
constexpr int digits = 2048;

// ---- the blocks that share a row

struct Team {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  __device__ static int rank() { return (int)cooperative_groups::this_cluster().block_rank(); }
  __device__ static int ranks() { return (int)cooperative_groups::this_cluster().num_blocks(); }
  __device__ static void sync() {
    __syncwarp();  // the cluster's barrier wants whole warps
    cooperative_groups::this_cluster().sync();
  }
  template <class T>
  __device__ static const T& of(T& shared, int rank) {
    return *cooperative_groups::this_cluster().map_shared_rank(&shared, rank);
  }
#else
  __device__ static int rank() { return 0; }
  __device__ static int ranks() { return 1; }
  __device__ static void sync() { __syncthreads(); }
  template <class T>
  __device__ static const T& of(T& shared, int) { return shared; }
#endif
};

// Blocks per row: enough that a row is not one block's work, as long as the device is not full anyway.
inline int team_blocks(const accel_call* call, int64_t rows, int64_t n) {
  int blocks = call->capability >= 90 ? team_most_blocks : 1;
  while (blocks > 1 && (rows * blocks > call->multiprocessors * 2 || n < blocks * (int64_t)2048)) blocks /= 2;
  return blocks;
}

// One team per row, as a dependent launch.
template <class Argument>
inline void launch_teams(const accel_call* call, void (*kernel)(Argument), int64_t rows, int blocks, const Argument& a) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3((unsigned)(rows * blocks));
  config.blockDim = dim3(team_threads);
  config.stream = stream_of(call);
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {(unsigned)blocks, 1, 1};
  config.attrs = attributes;
  config.numAttrs = call->capability >= 90 ? 2 : 0;
  cudaLaunchKernelEx(&config, kernel, a);
}

// ---- keys

__device__ inline uint32_t key_of(float score) {
  const uint32_t u = __float_as_uint(score + 0.f);  // -0 becomes +0
  return u ^ ((u >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}
__device__ inline float score_of(uint32_t key) {
  return __uint_as_float(key ^ ((key >> 31) != 0 ? 0x80000000u : 0xffffffffu));
}

// ---- the part of a row that a warp owns

// Indices are below 2^31, as the ids that the ops return; unsigned, so that a step past the end does not overflow.
struct Part {
  uint32_t begin, end;  // begin is a multiple of 32
};
__device__ inline Part part_of_warp(int64_t n) {
  const int64_t warps = Team::ranks() * team_warps, warp = Team::rank() * team_warps + threadIdx.x / 32;
  const int64_t each = ((n + warps - 1) / warps + 31) / 32 * 32;
  return {(uint32_t)min(n, warp * each), (uint32_t)min(n, (warp + 1) * each)};
}

// visit(score, index) for all scores of the part, in any order, with `ahead` loads of a lane in flight. A warp calls it
// with all lanes; visit is called by the lanes that have a score.
template <int ahead = 8, class Visit>
__device__ inline void for_each_score(const float* row, Part part, Visit&& visit) {
  for (uint32_t base = part.begin + threadIdx.x % 32; base < part.end; base += 32 * ahead) {
    float x[ahead];
#pragma unroll
    for (int i = 0; i < ahead; i++) x[i] = base + i * 32 < part.end ? row[base + i * 32] : 0.f;
#pragma unroll
    for (int i = 0; i < ahead; i++) {
      if (base + i * 32 < part.end) visit(x[i], base + i * 32);
    }
  }
}

// ---- sums over a block

// Inclusive sum over the threads of the block in order of their numbers. `scratch` holds team_warps values.
__device__ inline uint64_t block_inclusive_sum(uint64_t x, uint64_t* scratch) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int step = 1; step < 32; step *= 2) {
    const uint64_t y = __shfl_up_sync(~0u, x, step);
    if (lane >= step) x += y;
  }
  __syncthreads();  // scratch may still be read from the sum before
  if (lane == 31) scratch[warp] = x;
  __syncthreads();
  uint64_t total = scratch[lane];
  for (int step = 1; step < 32; step *= 2) {
    const uint64_t y = __shfl_up_sync(~0u, total, step);
    if (lane >= step) total += y;
  }
  const uint64_t before = __shfl_sync(~0u, total, warp == 0 ? 0 : warp - 1);
  return warp == 0 ? x : x + before;
}

// The same sum for every thread of the block.
__device__ inline uint64_t block_sum(uint64_t x, uint64_t* scratch) {
  const uint64_t upto = block_inclusive_sum(x, scratch);
  __syncthreads();
  if (threadIdx.x == team_threads - 1) scratch[0] = upto;
  __syncthreads();
  const uint64_t total = scratch[0];
  __syncthreads();
  return total;
}

// The sum of x over the warps of the team that own earlier parts of the row. x is the same in all lanes. `counts` holds
// team_warps values and may be used once. One team barrier.
__device__ inline uint64_t team_exclusive_sum(uint64_t x, uint64_t (&counts)[team_warps]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (lane == 0) counts[warp] = x;
  Team::sync();
  uint64_t before = lane < warp ? counts[lane] : 0;
  for (int rank = 0; rank < Team::rank(); rank++) before += Team::of(counts[lane], rank);
  for (int step = 16; step > 0; step /= 2) before += __shfl_xor_sync(~0u, before, step);
  return before;
}

// ---- histograms and the descent

// Where a running sum from the largest key down reaches the goal.
struct Crossing {
  uint32_t key;     // after the last level: the key there
  uint64_t above;   // sum over all larger keys
  uint64_t inside;  // sum over the keys equal to it
};

// In shared memory. A sum has 64 bits in two words, because a 64-bit atomic would be a loop. Two histograms take turns:
// a block may clear one while others still read the other.
struct Histograms {
  uint32_t low[2][digits], high[2][digits];
  uint64_t warps[team_warps];
  Crossing found;
};

// What a thread knows of a histogram of the team: the sums of digits 2047 - 2t and 2046 - 2t.
struct DigitSums {
  uint64_t first, second;
};

class Descent {
 public:
  __device__ explicit Descent(Histograms& h) : h_(h) {}

  // Starts a level: afterwards add() may be called by all threads.
  __device__ void begin() {
    turn_ ^= 1;
    for (int i = threadIdx.x; i < digits; i += team_threads) h_.low[turn_][i] = h_.high[turn_][i] = 0;
    __syncthreads();
  }
  __device__ void count(uint32_t digit) { atomicAdd(&h_.low[turn_][digit], 1u); }
  __device__ void add(uint32_t digit, uint64_t amount) {
    const uint32_t low = (uint32_t)amount, old = atomicAdd(&h_.low[turn_][digit], low);
    const uint32_t high = (uint32_t)(amount >> 32) + (old > ~low ? 1u : 0u);
    if (high != 0) atomicAdd(&h_.high[turn_][digit], high);
  }
  // The sums of the whole team. One team barrier.
  __device__ DigitSums sums() {
    Team::sync();
    DigitSums s = {0, 0};
    const int d = digits - 1 - 2 * threadIdx.x;
    for (int rank = 0; rank < Team::ranks(); rank++) {
      const uint32_t* low = &Team::of(h_.low[turn_][0], rank);
      const uint32_t* high = &Team::of(h_.high[turn_][0], rank);
      s.first += low[d] + ((uint64_t)high[d] << 32);
      s.second += low[d - 1] + ((uint64_t)high[d - 1] << 32);
    }
    return s;
  }
  // The digit at which `above` plus the sums from the top reach `goal`, as the key's next bits. The goal is at least
  // above + 1 and at most above + all sums. Every thread of the block gets the result.
  __device__ Crossing cross(DigitSums s, uint64_t above, uint64_t goal, uint32_t known, int shift) {
    const uint64_t upto = above + block_inclusive_sum(s.first + s.second, h_.warps);
    const uint64_t before = upto - s.first - s.second;
    const uint32_t d = digits - 1 - 2 * threadIdx.x;
    if (before < goal && goal <= upto) {
      const bool first = goal <= before + s.first;
      h_.found = first ? Crossing{known | d << shift, before, s.first}
                       : Crossing{known | (d - 1) << shift, before + s.first, s.second};
    }
    __syncthreads();
    const Crossing found = h_.found;
    __syncthreads();
    return found;
  }

 private:
  Histograms& h_;
  int turn_ = 0;
};

// Bits of the key that are known before a level, and where its digit lies.
__device__ inline int digit_shift(int level) { return level == 0 ? 21 : level == 1 ? 10 : 0; }
__device__ inline uint32_t digit_of(uint32_t key, int level) {
  return level == 0 ? key >> 21 : level == 1 ? key >> 10 & 2047u : key & 1023u;
}
__device__ inline uint32_t known_mask(int level) { return level == 0 ? 0u : level == 1 ? 0xffe00000u : 0xfffffc00u; }

}  // namespace accel::cuda
#endif
