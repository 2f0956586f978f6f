// think_attention on CUDA (definition in think_attention.cc).
//
// bf16 and fp16, D 64 and 128, any number of queries: two kernels, as in the decode attention of @accel/kernels. The
// first gives every block an equal share of all keys (accel/decode_plan.cuh), streams it (think_stream.cuh) and writes
// {maximum, sum, weighted values} per segment; decode_combine joins the segments. Nothing is added atomically: the same
// cache gives the same bits. Counts come from the heads on the device, so the launch can be replayed while the cache
// grows. Everything else goes to think_attention_any.cu.
#include <algorithm>
#include <atomic>
#include <vector>

#include "accel/decode_combine.cuh"
#include "accel/window.cuh"
#include "think.h"
#include "think_attention.h"
#include "think_stream.cuh"

namespace accel_think {
namespace {

template <class T, int D, int M>
__global__ void __launch_bounds__(kStreamThreads, 1) think_split(const __grid_constant__ ThinkArguments a) {
  extern __shared__ __align__(1024) uint8_t shared[];
  __shared__ typename ThinkStream<T, D, M>::Notes notes;
  pdl_release();
  if (!a.decode.settled) pdl_wait();
  ThinkStream<T, D, M> stream(a, shared, notes);
  decode_segments<16 * M>(a.decode, [&](int unit, int first_tile, int end_tile, int segment) {
    stream.segment(unit, first_tile, end_tile, segment);
  });
  pdl_wait();  // also without a segment: who waits for this kernel waits for those before it
}

// Kernels must be told, once per device, that they may use more than 48 KB of shared memory.
template <class T, int D, int M>
void configure(int device) {
  static std::atomic<uint64_t> done{0};
  const uint64_t bit = device < 64 ? 1ull << device : 0;
  if ((done.load(std::memory_order_relaxed) & bit) != 0) return;
  cudaFuncSetAttribute(think_split<T, D, M>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       ThinkStream<T, D, M>::shared_bytes);
  done.fetch_or(bit, std::memory_order_relaxed);
}

template <class T, int D, int M>
int run(const AttentionProblem& p) {
  const accel_call* call = p.call;
  const int packed = p.longest * p.group;
  ThinkArguments a = {};
  DecodeArguments& d = a.decode;
  d.pages = kv_pages(*p.kv);
  d.q = p.q;
  d.out = p.out;
  d.lse = p.lse;
  d.query_begin = p.query_begin;
  d.query_heads = p.query_heads;
  d.group = p.group;
  d.row_blocks = (packed + 16 * M - 1) / (16 * M);
  d.units = d.pages.sequences * d.pages.heads * d.row_blocks;
  d.tile = kStreamTile;
  d.align = kItemRows;
  d.window_begin = window_begins(call, d.pages, p.query_begin, p.queries, p.window);
  d.causal = true;
  d.settled = plan_settled(call, d);
  d.scale = p.scale * 1.4426950408889634f;
  a.channels = p.channels;
  a.item_bytes = static_cast<unsigned>(p.kv->encoded_key.bytes);
  a.header_bytes = static_cast<unsigned>(p.kv->encoded_key.header);
  a.rows_per_page = Divisor::of(static_cast<uint32_t>(p.kv->rows_per_page));
  a.page_bytes = Divisor::of(static_cast<uint32_t>(p.kv->page_bytes));
  const int64_t tiles = static_cast<int64_t>(d.units) * (p.kv->row_limit / kStreamTile + 1);
  const int blocks = static_cast<int>(std::min<int64_t>(tiles, call->multiprocessors));
  const size_t rows = static_cast<size_t>(blocks + d.units) * 16 * M;
  d.states = static_cast<float2*>(call->scratch(call, rows * sizeof(float2)));
  d.values = static_cast<float*>(call->scratch(call, rows * D * sizeof(float)));
  d.cover = static_cast<int2*>(call->scratch(call, static_cast<size_t>(d.units) * sizeof(int2)));

  configure<T, D, M>(call->device.index);
  launch_pdl(call, think_split<T, D, M>, dim3(blocks), dim3(kStreamThreads), ThinkStream<T, D, M>::shared_bytes, a);
  if (launched(call) != ACCEL_OK) return ACCEL_FAILED;
  launch_pdl(call, decode_combine<T, D, 16 * M>, dim3(d.units, std::min(16 * M, packed)), dim3(128), 0, d);
  call->ran(call, "think_attention");
  return launched(call);
}

template <class T, int D>
int run_rows(const AttentionProblem& p) {
  return p.longest * p.group <= 16 ? run<T, D, 1>(p) : run<T, D, 2>(p);
}

template <class T>
int run_dim(const AttentionProblem& p) {
  return p.kv->head_dim == 64 ? run_rows<T, 64>(p) : run_rows<T, 128>(p);
}

bool fits(const AttentionProblem& p) {
  const accel_kv& kv = *p.kv;
  if (p.call->capability < 80 || kv.dtype.bits != 16 || (kv.head_dim != 64 && kv.head_dim != 128)) return false;
  if (reinterpret_cast<uintptr_t>(kv.base) % 16 != 0 || reinterpret_cast<uintptr_t>(p.q) % 16 != 0 ||
      reinterpret_cast<uintptr_t>(p.out) % 8 != 0) {
    return false;
  }
  // What ThinkArguments says of pages and heads. Places in a stream of encoded keys are 32-bit numbers.
  if (kv.rows_per_page % kItemRows != 0 || kv.page_bytes % 16 != 0 || kv.page_bytes < kv.encoded_key.bytes) return false;
  if (kv.page_bytes >= 1 << 30 || kv.row_limit > 1 << 22) return false;
  for (int i = 0; i < kv.sequences * kv.heads; i++) {
    if (kv.head[i].gap != 0) return false;
  }
  int shared = 0;  // consumer cards have 99 KB a block
  cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, p.call->device.index);
  return shared >= ThinkStream<__half, 128, 2>::shared_bytes + 2048;
}

}  // namespace

int attention_cuda(const accel_call* call) {
  using namespace attention;
  const accel_tensor* q = call->args[kQ].tensor;
  const accel_ints lens = call->args[kLens].ints;
  std::vector<int32_t> begin(static_cast<size_t>(lens.size) + 1, 0);
  AttentionProblem p = {};
  for (int64_t b = 0; b < lens.size; b++) {
    begin[b + 1] = begin[b] + lens.data[b];
    p.longest = std::max(p.longest, lens.data[b]);
  }
  p.call = call;
  p.kv = call->args[kKv].kv;
  p.q = data(q);
  p.out = data(call->args[kOut].tensor);
  p.lse = data<float>(call->args[kLse].tensor);
  p.queries = q->shape[0];
  p.query_heads = static_cast<int>(q->shape[1]);
  p.group = p.query_heads / p.kv->heads;
  p.channels = static_cast<int>(call->args[kChannels].i);
  p.scale = static_cast<float>(call->args[kScale].f);
  p.window = window_of(call->args[kWindow]);
  if (p.queries == 0) return ACCEL_OK;
  p.query_begin = static_cast<const int32_t*>(call->upload(call, begin.data(), begin.size() * sizeof(int32_t)));
  if (!fits(p)) return run_attention_any(p);
  return p.kv->dtype.code == ACCEL_BFLOAT ? run_dim<__nv_bfloat16>(p) : run_dim<__half>(p);
}

}  // namespace accel_think
