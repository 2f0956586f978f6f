// Column sums for Hopper: a consumer warpgroup, two units of 64 keys.
//
//   S^T [64 keys x 128 queries] = K Q^T     K: A fragments, in registers from first to last
//                                           Q: B, k-major in shared memory
// Units go through two accumulators, so that a product runs while the terms of the one before are added:
//
//   each step:  start S0 = K0 Q';  add the terms of S1 of the step before;
//               start S1 = K1 Q';  wait for S0, add its terms;  wait for S1
//
// and the two warpgroups take turns at starting products, so that they do not both wait for the tensor cores and then
// both for the special function unit (FlashAttention-3's ping-pong; Shah et al. 2024).
// A thread's sums run along the rows of its accumulators; the four lanes of a row are joined once, at the end. Terms of
// a step (32 a key and thread) are added in fp32, steps in fp64, so that many small terms do not stop counting.
#ifndef ACCEL_CUDA_SIGNALS_SM90_CONSUMER_CUH
#define ACCEL_CUDA_SIGNALS_SM90_CONSUMER_CUH

#include "accel/wgmma.cuh"
#include "cuda/ops/signals_sm90_terms.cuh"
#include "cuda/ops/signals_sm90_work.cuh"

namespace accel::cuda::columns {

// A fragments of 64 keys straight from the pages: this thread's words of the keys row and row + 8. Keys behind the last
// one repeat it; their sums are not stored.
template <int D>
__device__ inline void load_keys(uint32_t (&keys)[D / 4], const KvPages& pages, const accel_kv_head& head, int row,
                                 int lane) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const int key = min(row + 8 * h, head.rows - 1);
    const uint32_t* words = reinterpret_cast<const uint32_t*>(pages.key(head, key)) + lane % 4;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
      keys[4 * k + h] = words[8 * k];
      keys[4 * k + h + 2] = words[8 * k + 4];
    }
  }
  pin(keys);
}

// Starts s = keys q' for 64 keys and the 128 queries of a tile.
template <class T, int D>
__device__ inline void start_product(float (&s)[64], const uint32_t (&keys)[D / 4], uint32_t q) {
  const uint64_t b = k_major_descriptor(q);
  wgmma_fence();
  wgmma_registers_k_major<T, false>(s, keys, b);
#pragma unroll
  for (int k = 1; k < D / 16; k++) {
    wgmma_registers_k_major<T, true>(s, keys + 4 * k, b + (k / 4 * Shared<D>::kPanel + k % 4 * 32) / 16);
  }
  wgmma_commit();
}

// ptxas puts a wait for wgmma as early as it can, before the arithmetic that is meant to run meanwhile. It keeps stores
// in front of waits, though: a store that depends on all that arithmetic keeps it there too. It happens for +inf alone,
// which ptxas cannot exclude (that a sum of exponentials is not negative, it knows), and nobody reads what it stores.
__device__ inline void finish_before_what_follows(float finite, uint32_t* unused) {
  asm volatile(
      "{\n.reg .pred never;\nsetp.gt.f32 never, %0, 0f7f7fffff;\n@never st.volatile.shared.f32 [%1], %0;\n}\n" ::"f"(
          finite),
      "r"(shared_address(unused))
      : "memory");
}

template <class T, int D>
__device__ void consume(const Columns& p, const Steps& steps, Shared<D>& shared, int group) {
  const int lane = threadIdx.x % 32;
  const int first_key = steps.first_key + group * 64 * kUnits;
  const int row = threadIdx.x % 128 / 32 * 16 + lane / 4;  // of this thread's first key in 64; the other one is + 8
  uint32_t keys[kUnits][D / 4];
#pragma unroll
  for (int u = 0; u < kUnits; u++) {
    load_keys<D>(keys[u], p.pages, p.pages.at(0, steps.first_head / p.group), first_key + 64 * u + row, lane);
  }

  const float scale = p.scale * log2e;
  float s0[64], s1[64];
  float x[64] = {};                      // exponents of the second unit
  float sum[kUnits][2] = {};             // of this thread's two keys in each unit
  double total[kUnits][2] = {};
  RingPosition<Shared<D>::kStages> ring;
  int tile = steps.first_tile;

  const auto start = [&](float (&s)[64], int u) {
    named_sync(1 + group, 128 * kGroups);                // barrier 1 + g: group g's turn
    start_product<T, D>(s, keys[u], shared_address(shared.q[ring.stage()]));
    named_arrive(2 - group, 128 * kGroups);
  };
  const auto make_exponents = [&](float (&x)[64], const float (&s)[64], int u) {
    shift_scores(x, s, scale, reinterpret_cast<const float4*>(shared.shift[ring.stage()]) + lane % 4);
    const int hidden = first_key + 64 * u - steps.last - tile * kQueries;  // queries that do not see the first key
    if (hidden + 63 > 0) mask_exponents(x, hidden + row, lane);
  };
  const auto add = [&](const float (&x)[64], int u) {
    add_terms(sum[u], x);
    finish_before_what_follows(sum[u][0] + sum[u][1], &shared.never_written);
  };
  const auto finish_step = [&] {
    add(x, 1);
#pragma unroll
    for (int u = 0; u < kUnits; u++) {
#pragma unroll
      for (int h = 0; h < 2; h++) {
        total[u][h] += sum[u][h];
        sum[u][h] = 0;
      }
    }
  };

  if (group == 1) named_arrive(1, 128 * kGroups);
#pragma unroll 1
  for (int step = 0; step < steps.count; step++) {
    mbarrier_wait(shared.full + ring.stage(), ring.parity());
    start(s0, 0);
    if (step > 0) {                      // a branch, which keeps ptxas from starting the product bit by bit
      // The barrier in start() has seen the whole group finish with that stage.
      if (lane == 0) mbarrier_arrive(shared.empty + (ring.use - 1) % Shared<D>::kStages);
      finish_step();
    }
    start(s1, 1);
    wgmma_wait<1>();
    pin(s0);
    float y[64];
    make_exponents(y, s0, 0);
    add(y, 0);
    wgmma_wait<0>();
    pin(s1);
    // Exponents, because ptxas lets nobody read in the next turn of the loop an accumulator of this one while a product
    // runs.
    make_exponents(x, s1, 1);
    ring.use++;
    tile = steps.next(tile);
  }
  finish_step();

  const double divisor = p.reduce == Reduce::mean ? p.group : 1;
#pragma unroll
  for (int u = 0; u < kUnits; u++) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      double y = total[u][h];
      y += __shfl_xor_sync(~0u, y, 1);
      y += __shfl_xor_sync(~0u, y, 2);
      const int key = first_key + 64 * u + row + 8 * h;
      if (lane % 4 == 0 && key < steps.end) p.put(blockIdx.x, key, steps.last, y / divisor);
    }
  }
}

}  // namespace accel::cuda::columns
#endif
