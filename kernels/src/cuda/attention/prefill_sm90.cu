// Attention over the paged cache for Hopper, prefill: TMA, wgmma and warp specialisation.
//
// A block of threads has one producer warp, which loads (prefill_sm90_producer.cuh), and two consumer warpgroups, which
// compute 64 queries each (prefill_sm90_consumer.cuh). It stays on its multiprocessor and takes items from a counter
// (prefill_sm90_work.cuh). Shared memory for D = 128: two stages each of Q, K and V, 6 x 32 KB.
// After FlashAttention-3 (Shah et al. 2024).
#include <stdlib.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "cuda/attention/prefill_sm90_consumer.cuh"
#include "cuda/attention/prefill_sm90_producer.cuh"

namespace accel::cuda {
namespace prefill {

template <class T, int D, bool kPingPong, bool kOverlap>
__global__ void __launch_bounds__(kThreads, 1)
    attention_prefill_sm90(const Problem p, const __grid_constant__ CUtensorMap queries,
                           const __grid_constant__ CUtensorMap pool) {
  extern __shared__ __align__(1024) uint8_t memory[];
  Shared<D>& shared = *reinterpret_cast<Shared<D>*>(memory);
  const int warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);  // the compiler sees that it is the warp's
  if (threadIdx.x == 0) {
    prefetch_tensor_map(&queries);
    prefetch_tensor_map(&pool);
    shared.initialise();
  }
  __syncthreads();
  if (warpgroup == 0) {
    give_registers<kProducerRegisters>();
    if (threadIdx.x < 32) produce<D>(p, shared, &queries, &pool);
  } else {
    take_registers<kConsumerRegisters>();
    consume<T, D, kPingPong, kOverlap>(p, shared, warpgroup - 1);
  }
}

namespace {

constexpr int64_t kCacheBytes = 32 << 20;  // of L2, for the keys and values that run at the same time

// The sequences, those with most tiles first (by the host's row counts, which are a hint). Returns the items.
int64_t plan(const AttentionProblem& problem, std::vector<SequenceWork>& work) {
  const accel_kv& kv = *problem.kv;
  std::vector<int64_t> rows(kv.sequences, 0);
  int32_t query_begin = 0, block_base = 0;
  for (int b = 0; b < kv.sequences; b++) {
    for (int h = 0; h < kv.heads; h++) rows[b] = std::max<int64_t>(rows[b], kv.head[b * kv.heads + h].rows);
    SequenceWork w = {};
    w.sequence = b;
    w.query_begin = query_begin;
    w.len = problem.lens[b];
    w.blocks = (w.len + kTile - 1) / kTile;
    w.block_base = block_base;
    const int64_t head_bytes = std::max<int64_t>(1, rows[b]) * problem.pages.row_bytes * 2;
    w.section = problem.group * static_cast<int32_t>(std::clamp<int64_t>(kCacheBytes / head_bytes, 1, kv.heads));
    query_begin += w.len;
    block_base += w.blocks;
    if (w.blocks > 0) work.push_back(w);
  }
  std::stable_sort(work.begin(), work.end(), [&](const SequenceWork& a, const SequenceWork& b) {
    return rows[a.sequence] > rows[b.sequence];
  });
  int64_t items = 0;
  for (SequenceWork& w : work) {
    w.first_item = static_cast<int32_t>(items);
    items += static_cast<int64_t>(w.blocks) * problem.query_heads;
  }
  return items;
}

// Two maps: queries [token, head, channel], and the pool of pages [page, row, channel]. How many pages the pool has is
// not known here; page numbers are good, so the map's extent is only a bound that no pool reaches.
int make_maps(const AttentionProblem& problem, int box_rows, CUtensorMap* queries, CUtensorMap* pool) {
  const accel_kv& kv = *problem.kv;
  const uint64_t d = problem.head_dim, row = problem.pages.row_bytes;
  const CUtensorMapDataType type = problem.dtype.code == ACCEL_BFLOAT ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                                      : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  const uint64_t heads = problem.query_heads, pages = (uint64_t{1} << 38) / kv.page_bytes;
  const TensorShape q = {const_cast<void*>(problem.q),
                         {d, heads, static_cast<uint64_t>(problem.queries)},
                         {row, row * heads},
                         {1, kTile}};
  const TensorShape kv_pool = {kv.base,
                               {d, static_cast<uint64_t>(kv.rows_per_page), pages},
                               {row, static_cast<uint64_t>(kv.page_bytes)},
                               {static_cast<uint32_t>(box_rows), 1}};
  CUresult result = make_tensor_map(queries, type, q);
  if (result == CUDA_SUCCESS) result = make_tensor_map(pool, type, kv_pool);
  if (result == CUDA_SUCCESS) return ACCEL_OK;
  return problem.call->fail(problem.call, "ERR_ACCEL_INTERNAL", "cuTensorMapEncodeTiled failed with %d",
                            static_cast<int>(result));
}

template <class T, int D, bool kPingPong, bool kOverlap>
int launch(const AttentionProblem& problem, const Problem& p, const CUtensorMap& queries, const CUtensorMap& pool) {
  const accel_call* call = problem.call;
  const auto kernel = attention_prefill_sm90<T, D, kPingPong, kOverlap>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared<D>));
  const int grid = std::min(p.items, call->multiprocessors);
  kernel<<<grid, kThreads, sizeof(Shared<D>), stream_of(call)>>>(p, queries, pool);
  return launched(call);
}

// Measured on an H200 (docs/performance.md): two consumer groups that are left to themselves fall into step, one's softmax
// under the other's products, and are faster than with turns that are enforced, at every length. The other variants
// stay, to be measured on other cards: ACCEL_CUDA_SM90=pingpong|overlap|both, for bf16 and D = 128.
enum class Variant { plain, pingpong, overlap, both };

Variant variant(const AttentionProblem& problem) {
  const char* name = getenv("ACCEL_CUDA_SM90");
  if (name == nullptr || problem.dtype.code != ACCEL_BFLOAT || problem.head_dim != 128) return Variant::plain;
  const std::string_view wanted(name);
  return wanted == "pingpong"  ? Variant::pingpong
         : wanted == "overlap" ? Variant::overlap
         : wanted == "both"    ? Variant::both
                               : Variant::plain;
}

template <class T>
int launch_variant(const AttentionProblem& problem, const Problem& p, const CUtensorMap& queries,
                   const CUtensorMap& pool) {
  const accel_call* call = problem.call;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    switch (variant(problem)) {
      case Variant::pingpong:
        call->ran(call, "attention_sm90_pingpong");
        return launch<T, 128, true, false>(problem, p, queries, pool);
      case Variant::overlap:
        call->ran(call, "attention_sm90_overlap");
        return launch<T, 128, false, true>(problem, p, queries, pool);
      case Variant::both:
        call->ran(call, "attention_sm90_both");
        return launch<T, 128, true, true>(problem, p, queries, pool);
      case Variant::plain: break;
    }
  }
  call->ran(call, "attention_sm90");
  return problem.head_dim == 128 ? launch<T, 128, false, false>(problem, p, queries, pool)
                                 : launch<T, 64, false, false>(problem, p, queries, pool);
}

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace
}  // namespace prefill

bool sm90_supports(const AttentionProblem& problem) {
  const accel_kv& kv = *problem.kv;
  const bool power_of_two = (kv.rows_per_page & (kv.rows_per_page - 1)) == 0;
  return problem.call->capability == 90 && problem.dtype.bits == 16 && kv.dtype.bits == 16 &&
         kv.dtype.code == problem.dtype.code && (problem.head_dim == 64 || problem.head_dim == 128) &&
         problem.window == 0 && problem.ranges == nullptr && !problem.gaps && problem.scale > 0 &&
         kv.rows_per_page >= 8 && power_of_two && kv.page_bytes % 16 == 0 && prefill::aligned(kv.base) &&
         prefill::aligned(problem.q) && prefill::aligned(problem.out) && tensor_map_encode() != nullptr;
}

int run_attention_sm90(const AttentionProblem& problem) {
  using namespace prefill;
  const accel_call* call = problem.call;
  const accel_kv& kv = *problem.kv;
  std::vector<SequenceWork> work;
  const int64_t items = plan(problem, work);
  if (items > INT32_MAX / 2) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "attention over %lld blocks of queries is too much for one call",
                      static_cast<long long>(items));
  }
  if (items == 0) {
    call->ran(call, "attention_sm90");
    return ACCEL_OK;
  }
  Problem p = {};
  p.pages = problem.pages;
  p.tiles = problem.tiles;
  p.work = static_cast<const SequenceWork*>(call->upload(call, work.data(), work.size() * sizeof(SequenceWork)));
  p.counter = static_cast<int32_t*>(call->scratch(call, sizeof(int32_t)));
  p.out = problem.out;
  p.lse = problem.lse;
  p.sequences = static_cast<int32_t>(work.size());
  p.items = static_cast<int32_t>(items);
  p.query_heads = problem.query_heads;
  p.group = problem.group;
  p.box_rows = std::min<int32_t>(kv.rows_per_page, kTile);
  while (1 << p.page_shift < kv.rows_per_page) p.page_shift++;
  p.scale_log2 = problem.scale * 1.44269504088896f;
  p.causal = problem.causal;
  CUtensorMap queries, pool;
  if (make_maps(problem, p.box_rows, &queries, &pool) != ACCEL_OK) return ACCEL_FAILED;
  cudaMemsetAsync(p.counter, 0, sizeof(int32_t), stream_of(call));
  return problem.dtype.code == ACCEL_BFLOAT ? launch_variant<__nv_bfloat16>(problem, p, queries, pool)
                                            : launch_variant<__half>(problem, p, queries, pool);
}

}  // namespace accel::cuda
