// attention_reference: attention for every dtype, head dimension (up to 256), mask and tile list; the slow twin.
//
// One warp computes one query of one head, 32 rows of the cache at a time: each lane forms the logit of one row, then
// the lanes share out the channels (lane + 32 c) and add up the rows' values. Online softmax (Milakov & Gimelshein 2018,
// arXiv:1805.02867), all in fp32; weights are not rounded. Only rows that the query sees are read. Without `out` it
// computes the log-sum-exp alone.
#include "cuda/attention/attention.h"

namespace accel::cuda {
namespace {

constexpr int warps = 4, most_channels = 256;

struct Reference {
  const void* q;
  void* out;
  float* lse;
  KvPages pages;
  KeyTiles tiles;
  const int32_t* query_begin;
  const int32_t* ranges;
  int64_t items;                         // queries * heads
  int query_heads;
  int group;
  int head_dim;
  float scale;
  int window;
  bool causal;
  bool whole_chunks;                     // cache rows are 16-byte aligned and multiples of 16 bytes
};

__device__ inline float warp_max(float x) {
  for (int i = 16; i > 0; i /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, i));
  return x;
}
__device__ inline float warp_sum(float x) {
  for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
  return x;
}

template <class T>
__device__ float dot(const float* q, const T* key, int head_dim, bool whole_chunks) {
  constexpr int chunk = 16 / sizeof(T);
  float sum = 0;
  if (whole_chunks) {
#pragma unroll 2
    for (int c = 0; c < head_dim; c += chunk) {
      const uint4 bits = *reinterpret_cast<const uint4*>(key + c);
      const T* x = reinterpret_cast<const T*>(&bits);
#pragma unroll
      for (int i = 0; i < chunk; i++) sum = fmaf(q[c + i], to_float(x[i]), sum);
    }
  } else {
    for (int c = 0; c < head_dim; c++) sum = fmaf(q[c], to_float(key[c]), sum);
  }
  return sum;
}

// The state of one query.
struct Row {
  float maximum = -INFINITY, sum = 0;
  float out[most_channels / 32] = {};
};

// Adds cache rows [begin, end).
template <class T>
__device__ void add_rows(const Reference& p, const accel_kv_head& head, const float* q, int begin, int end, Row& row) {
  const int lane = threadIdx.x % 32;
  for (int first = begin; first < end; first += 32) {
    const int key = first + lane;
    float logit = -INFINITY;
    const T* value = nullptr;
    if (key < end) {
      logit = dot(q, reinterpret_cast<const T*>(p.pages.key(head, key)), p.head_dim, p.whole_chunks) * p.scale;
      value = reinterpret_cast<const T*>(p.pages.value(head, key));
    }
    const float top = fmaxf(row.maximum, warp_max(logit)), origin = top == -INFINITY ? 0.0f : top;
    const float factor = expf(row.maximum - origin), weight = key < end ? expf(logit - origin) : 0.0f;
    row.maximum = top;
    row.sum = row.sum * factor + warp_sum(weight);
    if (p.out == nullptr) continue;
#pragma unroll
    for (int c = 0; c < most_channels / 32; c++) row.out[c] *= factor;
    for (int j = 0; j < min(32, end - first); j++) {
      const float w = __shfl_sync(~0u, weight, j);
      const T* v = reinterpret_cast<const T*>(__shfl_sync(~0u, reinterpret_cast<unsigned long long>(value), j));
#pragma unroll
      for (int c = 0; c < most_channels / 32; c++) {
        const int channel = lane + 32 * c;
        if (channel < p.head_dim) row.out[c] = fmaf(w, to_float(v[channel]), row.out[c]);
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(32 * warps, 4) attention_reference(const Reference p) {
  __shared__ float shared[warps][most_channels];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * warps + warp;
  if (item >= p.items) return;
  const int token = static_cast<int>(item / p.query_heads), h = static_cast<int>(item % p.query_heads);
  int sequence = 0;
  int64_t blocks = 0;                    // row blocks of the sequences before
  while (token >= p.query_begin[sequence + 1]) {
    blocks += (p.query_begin[sequence + 1] - p.query_begin[sequence] + list_tile - 1) / list_tile;
    sequence++;
  }
  const int i = token - p.query_begin[sequence], m = p.query_begin[sequence + 1] - p.query_begin[sequence];

  const T* query = static_cast<const T*>(p.q) + item * p.head_dim;
  float* q = shared[warp];
  for (int c = lane; c < p.head_dim; c += 32) q[c] = to_float(query[c]);
  __syncwarp();

  const accel_kv_head& head = p.pages.at(sequence, h / p.group);
  const int n = head.rows, past = n - m;
  int lo = 0, hi = n;
  if (p.ranges != nullptr) {
    lo = p.ranges[2 * sequence];
    hi = min(hi, p.ranges[2 * sequence + 1]);
  }
  if (p.causal) hi = min(hi, past + i + 1);
  lo = max(lo, p.pages.window_begin(head, past + i, p.window));

  Row row;
  if (p.tiles.row_ptr == nullptr) {
    add_rows<T>(p, head, q, lo, hi, row);
  } else {
    const int32_t* at = p.tiles.row_ptr + (blocks + i / list_tile) * p.query_heads + h;
    for (int t = at[0]; t < at[1]; t++) {
      const int begin = p.tiles.columns[t] * list_tile;
      add_rows<T>(p, head, q, max(lo, begin), min(hi, begin + list_tile), row);
    }
  }

  if (p.lse != nullptr && lane == 0) p.lse[item] = row.sum == 0 ? -INFINITY : row.maximum + logf(row.sum);
  if (p.out == nullptr) return;
  T* out = static_cast<T*>(p.out) + item * p.head_dim;
  const float factor = row.sum == 0 ? 0.0f : 1.0f / row.sum;
#pragma unroll
  for (int c = 0; c < most_channels / 32; c++) {
    if (lane + 32 * c < p.head_dim) out[lane + 32 * c] = from_float<T>(row.out[c] * factor);
  }
}

}  // namespace

int run_attention_reference(const AttentionProblem& problem) {
  const accel_call* call = problem.call;
  if (problem.head_dim > most_channels) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "attention on CUDA takes a head dimension of at most %d, got %d",
                      most_channels, problem.head_dim);
  }
  const int64_t items = problem.queries * problem.query_heads;
  const bool whole_chunks = problem.pages.row_bytes % 16 == 0 && problem.pages.page_bytes % 16 == 0 &&
                            reinterpret_cast<uintptr_t>(problem.kv->base) % 16 == 0;
  const Reference p = {problem.q,      problem.out,         problem.lse,    problem.pages,  problem.tiles,
                       problem.query_begin, problem.ranges, items,          problem.query_heads, problem.group,
                       problem.head_dim, problem.scale,     problem.window, problem.causal, whole_chunks};
  const unsigned blocks = static_cast<unsigned>((items + warps - 1) / warps);
  return with_float(problem.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    attention_reference<T><<<blocks, 32 * warps, 0, stream_of(call)>>>(p);
    call->ran(call, "attention_reference");
    return launched(call);
  });
}

}  // namespace accel::cuda
