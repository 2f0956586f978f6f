// Attention for Hopper: a consumer warpgroup, 64 queries of an item.
//
//   S_0 = Q K_0', P_0 = terms(S_0)
//   for i = 1 .. tiles - 1:   start S_i = Q K_i';  start O += P_{i-1} V_{i-1};  P_i = terms(S_i)
//   O += P V of the last tile;  out = O / sum
//
// Variants (FlashAttention-3, Shah et al. 2024, section 3); the plain loop waits for both products, then does its softmax:
//   kPingPong  the two groups take turns at starting products, so that one's softmax runs under the other's products;
//   kOverlap   a group waits only for S_i before its softmax, which runs under its own O += P V.
// S, O and P stay in registers: 64 + D / 2 + 32 a thread.
#ifndef ACCEL_CUDA_ATTENTION_PREFILL_SM90_CONSUMER_CUH
#define ACCEL_CUDA_ATTENTION_PREFILL_SM90_CONSUMER_CUH

#include <type_traits>

#include "accel/wgmma.cuh"
#include "cuda/attention/prefill_sm90_softmax.cuh"

namespace accel::cuda::prefill {

// Starts s = q k' for 64 queries and 128 keys.
template <class T, int D>
__device__ inline void start_scores(float (&s)[64], uint32_t q, uint32_t k) {
  const uint64_t a = k_major_descriptor(q), b = k_major_descriptor(k);
#pragma unroll
  for (int step = 0; step < D / 16; step++) {
    const uint64_t offset = (step / 4 * Shared<D>::kPanel + step % 4 * 32) / 16;
    wgmma_shared<T>(s, a + offset, b + offset, step > 0);
  }
}

// Starts o += p v for 64 queries, 128 keys and D channels.
template <class T, int D>
__device__ inline void start_output(float (&o)[D / 2], const uint32_t (&p)[32], uint32_t v) {
  const uint64_t b = mn_major_descriptor(v, Shared<D>::kPanel);
#pragma unroll
  for (int step = 0; step < kTile / 16; step++) wgmma_registers<T>(o, p + 4 * step, b + step * (2048 / 16));
}

template <class T>
__device__ inline void pack_terms(uint32_t (&p)[32], const float (&s)[64]) {
#pragma unroll
  for (int i = 0; i < 32; i++) p[i] = pack_pair<T>(s[2 * i], s[2 * i + 1]);
}

// Four lanes hold four words each, word c of lane t being word t of column group c: gives lane t all of group t.
__device__ inline uint4 gather_group(uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3, int lane) {
  const bool odd = lane & 1, upper = lane & 2;
  uint32_t a = __shfl_xor_sync(~0u, odd ? w0 : w1, 1), b = __shfl_xor_sync(~0u, odd ? w2 : w3, 1);
  (odd ? w0 : w1) = a;
  (odd ? w2 : w3) = b;
  a = __shfl_xor_sync(~0u, upper ? w0 : w2, 2);
  b = __shfl_xor_sync(~0u, upper ? w1 : w3, 2);
  (upper ? w0 : w2) = a;
  (upper ? w1 : w3) = b;
  return {w0, w1, w2, w3};
}

// Divides by the sums and stores the rows that are the sequence's own; the block's other rows belong to the next one.
template <class T, int D>
__device__ inline void store_rows(const Problem& p, const Item& item, float (&o)[D / 2], const RowState& state,
                                  int first_row, int lane) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const int row = first_row + 8 * h;
    const float sum = quad_sum(state.sum[h]);
    const float inverse = sum > 0 ? 1.0f / sum : sum;  // nothing visible: 0; NaN stays
    const int64_t at = static_cast<int64_t>(item.query + row) * p.query_heads + item.head;
    T* out = static_cast<T*>(p.out) + at * D;
#pragma unroll
    for (int c = 0; c < D / 8; c += 4) {
      uint32_t w[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        w[i] = pack_pair<T>(o[4 * (c + i) + 2 * h] * inverse, o[4 * (c + i) + 2 * h + 1] * inverse);
      }
      const uint4 words = gather_group(w[0], w[1], w[2], w[3], lane);
      if (row < item.queries) *reinterpret_cast<uint4*>(out + (c + lane % 4) * 8) = words;
    }
    if (p.lse != nullptr && lane % 4 == 0 && row < item.queries) {
      constexpr float kLn2 = 0.693147180559945f;
      p.lse[at] = sum == 0 ? -INFINITY : (state.max[h] * p.scale_log2 + log2f(sum)) * kLn2;
    }
  }
}

// ptxas puts a wait for wgmma as early as it can, before the arithmetic that is meant to run meanwhile. It keeps stores
// in front of waits, though: a store that depends on all that arithmetic, and never happens, keeps it there too.
__device__ inline void finish_before_what_follows(float never_negative, uint32_t* unused) {
  asm volatile(
      "{\n.reg .pred never;\nsetp.lt.f32 never, %0, 0f00000000;\n@never st.shared.f32 [%1], %0;\n}\n" ::"f"(
          never_negative),
      "r"(shared_address(unused))
      : "memory");
}

template <class T, int D, bool kPingPong, bool kOverlap>
__device__ void consume(const Problem& p, Shared<D>& shared, int group) {
  const int lane = threadIdx.x % 32;
  const int first_row = group * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4;  // in the block; the other one is + 8
  const auto release = [&](uint64_t* empty) {
    __syncwarp();
    if (lane == 0) mbarrier_arrive(empty);
  };
  RingPosition<kQueryStages> q;
  RingPosition<Shared<D>::kStages> k, v;
  float s[64] = {};
  uint32_t terms[32];

  // Barrier 1 + g lets group g start products. The first turn is group 0's.
  if (kPingPong && group == 1) named_arrive(1, 128 * kGroups);

  for (;; q.use++) {
    mbarrier_wait(shared.q_full + q.stage(), q.parity());
    const Item item = shared.item[q.stage()];
    if (item.tiles < 0) return;
    const uint32_t queries = shared_address(shared.q[q.stage()]) + group * 64 * 128;
    const KeyOrder keys(item.rows, p.box_rows);
    const int bound0 = min(item.rows, item.visible + first_row);
    const int bound1 = min(item.rows, item.visible + first_row + 8);
    RowState state;
    float o[D / 2], factor[2];
#pragma unroll
    for (int i = 0; i < D / 2; i++) o[i] = 0;
    const auto mask = [&](int tile) { mask_scores(s, keys, tile * kTile + 2 * (lane % 4), bound0, bound1); };

    if (item.tiles > 0) {
      mbarrier_wait(shared.k_full + k.stage(), k.parity());
      wgmma_fence();
      start_scores<T, D>(s, queries, shared_address(shared.k[k.stage()]));
      wgmma_commit();
      wgmma_wait<0>();
      release(shared.k_empty + k.stage());
      k.use++;
      pin(s);
      if (item.masked > 0) mask(item.masked_tile[0]);
      softmax_terms(s, state, p.scale_log2, factor);
      pack_terms<T>(terms, s);
    }

    const auto step = [&](auto masked) {
      mbarrier_wait(shared.k_full + k.stage(), k.parity());
      if constexpr (kPingPong) named_sync(1 + group, 128 * kGroups);
      pin(o);
      pin(terms);
      wgmma_fence();
      start_scores<T, D>(s, queries, shared_address(shared.k[k.stage()]));
      wgmma_commit();
      mbarrier_wait(shared.v_full + v.stage(), v.parity());
      start_output<T, D>(o, terms, shared_address(shared.v[v.stage()]));
      wgmma_commit();
      if constexpr (kPingPong) named_arrive(2 - group, 128 * kGroups);
      wgmma_wait<kOverlap ? 1 : 0>();
      release(shared.k_empty + k.stage());
      k.use++;
      pin(s);
      if constexpr (decltype(masked)::value) mask(item.masked_tile[1]);
      const bool rescale = softmax_terms(s, state, p.scale_log2, factor);
      finish_before_what_follows(state.sum[0] + state.sum[1], &shared.never_written);
      wgmma_wait<0>();
      pin(o);
      pin(terms);
      release(shared.v_empty + v.stage());
      v.use++;
      if (rescale) rescale_rows(o, factor);
      pack_terms<T>(terms, s);
    };
    int i = 1;
    if (item.masked > 1) {
      step(std::true_type());
      i++;
    }
#pragma unroll 1
    for (; i < item.tiles; i++) step(std::false_type());

    release(shared.q_empty + q.stage());  // all scores of the item are there
    if (item.tiles > 0) {
      mbarrier_wait(shared.v_full + v.stage(), v.parity());
      pin(o);
      pin(terms);
      wgmma_fence();
      start_output<T, D>(o, terms, shared_address(shared.v[v.stage()]));
      wgmma_commit();
      wgmma_wait<0>();
      pin(o);
      pin(terms);
      release(shared.v_empty + v.stage());
      v.use++;
    }
    store_rows<T, D>(p, item, o, state, first_row, lane);
  }
}

}  // namespace accel::cuda::prefill
#endif
