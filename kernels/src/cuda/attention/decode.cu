// attention_decode: few queries against a long paged cache, near the memory's rate.
//
// bf16 and fp16, D 64 and 128, up to 64 packed rows (queries x query heads of a kv head) a sequence, causal or not,
// window, ranges, gaps, rows that differ from head to head. Two kernels: decode_split gives every block an equal share of
// all keys (decode_plan.cuh), streams it (decode_stream.cuh) and writes {maximum, sum, weighted values} per segment in
// fp32; decode_combine joins the segments. The second is a dependent launch rather than the last block's work: it needs
// no counter that somebody must have cleared, spreads the joining over all rows, and its blocks are in place, waiting,
// when the first kernel ends. Nothing is added atomically: the same cache gives the same bits.
//
// One block a multiprocessor: what it has in flight is enough for the memory, two would need another division of the
// multiprocessor's memory than the kernels around (launch_pdl). A bucket of rows (row_limit) that is larger than the
// cache changes nothing, as the shares come from the rows read on the device.
#include <stdlib.h>

#include <algorithm>
#include <atomic>

#include "accel/decode_combine.cuh"
#include "accel/window.cuh"
#include "cuda/attention/attention.h"
#include "cuda/attention/decode_stream.cuh"

namespace accel::cuda {
namespace {

constexpr int most_packed_rows = 64;

template <class T, int D, int M>
__global__ void __launch_bounds__(decode_threads, 2) decode_split(const __grid_constant__ DecodeArguments a) {
  extern __shared__ __align__(1024) uint8_t shared[];
  __shared__ float2 states[decode_warps][16 * M];
  __shared__ int begins[16 * M];
  pdl_release();
  if (!a.settled) pdl_wait();
  DecodeStream<T, D, M> stream(a, shared, states, begins);
  decode_segments<16 * M>(a, [&](int unit, int first_tile, int end_tile, int segment) {
    stream.segment(unit, first_tile, end_tile, segment);
  });
  pdl_wait();  // also without a segment: who waits for this kernel waits for those before it
}

// For measurements: blocks on each multiprocessor.
int blocks_per_multiprocessor() {
  static const int blocks = [] {
    const char* text = getenv("ACCEL_CUDA_DECODE_BLOCKS");
    return text == nullptr ? 1 : std::clamp(atoi(text), 1, 64);
  }();
  return blocks;
}

// Kernels must be told, once per device, that they may use more than 48 KB of shared memory.
template <class T, int D, int M>
void configure(int device) {
  static std::atomic<uint64_t> done{0};
  const uint64_t bit = device < 64 ? 1ull << device : 0;
  if ((done.load(std::memory_order_relaxed) & bit) != 0) return;
  cudaFuncSetAttribute(decode_split<T, D, M>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       DecodeStream<T, D, M>::shared_bytes);
  done.fetch_or(bit, std::memory_order_relaxed);
}

template <class T, int D, int M>
int run(const AttentionProblem& p) {
  const accel_call* call = p.call;
  const int packed = p.max_len * p.group;
  DecodeArguments a = {};
  a.pages = p.pages;
  a.q = p.q;
  a.out = p.out;
  a.lse = p.lse;
  a.query_begin = p.query_begin;
  a.ranges = p.ranges;
  a.query_heads = p.query_heads;
  a.group = p.group;
  a.row_blocks = (packed + 16 * M - 1) / (16 * M);
  a.units = p.pages.sequences * p.pages.heads * a.row_blocks;
  a.tile = decode_tile;
  a.align = 16;  // whole groups of 16 slots, as pages often have
  a.window_begin = window_begins(call, p.pages, p.query_begin, p.queries, p.window);
  a.causal = p.causal;
  a.settled = plan_settled(call, a);
  a.scale = p.scale * 1.4426950408889634f;
  const int64_t tiles = (int64_t)a.units * (p.kv->row_limit / decode_tile + 1);  // + 1: a tile may begin before the first key
  const int blocks = (int)std::min<int64_t>(tiles, (int64_t)call->multiprocessors * blocks_per_multiprocessor());
  const size_t rows = (size_t)(blocks + a.units) * 16 * M;
  a.states = static_cast<float2*>(call->scratch(call, rows * sizeof(float2)));
  a.values = static_cast<float*>(call->scratch(call, rows * D * sizeof(float)));
  a.cover = static_cast<int2*>(call->scratch(call, (size_t)a.units * sizeof(int2)));

  using Stream = DecodeStream<T, D, M>;
  configure<T, D, M>(call->device.index);
  launch_pdl(call, decode_split<T, D, M>, dim3(blocks), dim3(decode_threads), Stream::shared_bytes, a);
  if (launched(call) != ACCEL_OK) return ACCEL_FAILED;
  launch_pdl(call, decode_combine<T, D, 16 * M>, dim3(a.units, std::min(16 * M, packed)), dim3(128), 0, a);
  call->ran(call, "attention_decode");
  return launched(call);
}

template <class T, int D>
int run_rows(const AttentionProblem& p) {
  return p.max_len * p.group <= 16 ? run<T, D, 1>(p) : run<T, D, 2>(p);
}

template <class T>
int run_dim(const AttentionProblem& p) {
  return p.head_dim == 64 ? run_rows<T, 64>(p) : run_rows<T, 128>(p);
}

}  // namespace

bool decode_supports(const AttentionProblem& p) {
  if (p.call->capability < 80 || p.dtype.bits != 16 || (p.head_dim != 64 && p.head_dim != 128)) return false;
  if (p.queries == 0 || p.max_len > most_packed_rows || p.max_len * p.group > most_packed_rows) return false;
  if (p.tiles.row_ptr != nullptr || p.pages.page_bytes % 16 != 0) return false;
  if (reinterpret_cast<uintptr_t>(p.pages.base) % 16 != 0 || reinterpret_cast<uintptr_t>(p.q) % 16 != 0) return false;
  int shared = 0;  // consumer cards have 99 KB a block
  cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, p.call->device.index);
  return shared >= DecodeStream<__half, 128, 2>::shared_bytes + 2048;
}

int run_attention_decode(const AttentionProblem& p) {
  return p.dtype.code == ACCEL_BFLOAT ? run_dim<__nv_bfloat16>(p) : run_dim<__half>(p);
}

}  // namespace accel::cuda
