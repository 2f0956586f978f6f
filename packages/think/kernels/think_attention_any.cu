// think_attention on CUDA for every dtype and head dimension; the slow twin.
//
// One warp computes one query of one head, 32 keys at a time: each lane forms the logit of one key, then the lanes share
// out the channels and add up the rows' values. Online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867), in fp32.
#include <type_traits>

#include "accel/cuda.cuh"
#include "think.h"
#include "think_attention.h"

namespace accel_think {
namespace {

using namespace accel::cuda;

constexpr int kWarps = 4;

struct Arguments {
  KvPages pages;
  const void* q;
  void* out;
  float* lse;
  const int32_t* query_begin;
  int64_t items;  // queries * heads
  int query_heads, group, dim, channels, window;
  float scale;
};

__device__ inline float warp_max(float x) {
  for (int i = 16; i > 0; i /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, i));
  return x;
}
__device__ inline float warp_sum(float x) {
  for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
  return x;
}

// The query at the kept channels with the key in an item.
template <class T>
__device__ float pruned_dot(const Arguments& a, const accel_kv_head& head, const float* q, int row) {
  const int64_t item = header_bytes(a.channels) + row / kItemRows * item_bytes(a.channels, sizeof(T));
  float sum = 0;
#pragma unroll 4
  for (int c = 0; c < a.channels; c++) {
    const int64_t at = item + (c * kItemRows + row % kItemRows) * static_cast<int64_t>(sizeof(T));
    sum = fmaf(q[c], to_float(*reinterpret_cast<const T*>(a.pages.stream(head.encoded_key_pages, at))), sum);
  }
  return sum;
}

template <class T>
__global__ void __launch_bounds__(32 * kWarps) attention_any(const __grid_constant__ Arguments a) {
  __shared__ float queries[kWarps][2][kMostChannels];
  pdl_release();
  pdl_wait();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (item >= a.items) return;
  const int token = static_cast<int>(item / a.query_heads), h = static_cast<int>(item % a.query_heads);
  int sequence = 0;
  while (token >= a.query_begin[sequence + 1]) sequence++;
  const accel_kv_head& head = a.pages.at(sequence, h / a.group);
  const int encoded = head.encoded_keys, end = head.rows - (a.query_begin[sequence + 1] - token) + 1;
  const int begin = a.pages.window_begin(head, end - 1, a.window);

  float* whole = queries[warp][0];
  float* pruned = queries[warp][1];
  const T* q = static_cast<const T*>(a.q) + item * a.dim;
  for (int c = lane; c < a.dim; c += 32) whole[c] = to_float(q[c]);
  __syncwarp();
  for (int c = lane; encoded > 0 && c < a.channels; c += 32) {
    pruned[c] = whole[*reinterpret_cast<const uint16_t*>(a.pages.stream(head.encoded_key_pages, 2 * c))];
  }
  __syncwarp();

  float maximum = -INFINITY, sum = 0, out[kMostChannels / 32] = {};
  for (int first = begin; first < end; first += 32) {
    const int row = first + lane;
    float logit = -INFINITY;
    const T* value = nullptr;
    if (row < end) {
      if (row < encoded) {
        logit = pruned_dot<T>(a, head, pruned, row);
      } else {
        const T* key = reinterpret_cast<const T*>(a.pages.key(head, row));
        logit = 0;
#pragma unroll 4
        for (int c = 0; c < a.dim; c++) logit = fmaf(whole[c], to_float(key[c]), logit);
      }
      logit *= a.scale;
      value = reinterpret_cast<const T*>(a.pages.value(head, row));
    }
    const float top = fmaxf(maximum, warp_max(logit)), origin = top == -INFINITY ? 0.f : top;
    const float factor = expf(maximum - origin), weight = row < end ? expf(logit - origin) : 0.f;
    maximum = top;
    sum = sum * factor + warp_sum(weight);
#pragma unroll
    for (int c = 0; c < kMostChannels / 32; c++) out[c] *= factor;
    for (int j = 0; j < min(32, end - first); j++) {
      const float w = __shfl_sync(~0u, weight, j);
      const T* v = reinterpret_cast<const T*>(__shfl_sync(~0u, reinterpret_cast<unsigned long long>(value), j));
#pragma unroll
      for (int c = 0; c < kMostChannels / 32; c++) {
        if (lane + 32 * c < a.dim) out[c] = fmaf(w, to_float(v[lane + 32 * c]), out[c]);
      }
    }
  }
  if (a.lse != nullptr && lane == 0) a.lse[item] = sum == 0 ? -INFINITY : maximum + logf(sum);
  const float factor = sum == 0 ? 0.f : 1.f / sum;
  T* to = static_cast<T*>(a.out) + item * a.dim;
#pragma unroll
  for (int c = 0; c < kMostChannels / 32; c++) {
    if (lane + 32 * c < a.dim) to[lane + 32 * c] = from_float<T>(out[c] * factor);
  }
}

}  // namespace

int run_attention_any(const AttentionProblem& p) {
  const Arguments a = {kv_pages(*p.kv), p.q,     p.out,           p.lse,      p.query_begin, p.queries * p.query_heads,
                       p.query_heads,   p.group, p.kv->head_dim, p.channels, p.window,
                       p.scale};
  p.call->ran(p.call, "think_attention_any");
  return with_float(p.kv->dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    const auto blocks = static_cast<unsigned>((a.items + kWarps - 1) / kWarps);
    launch_pdl(p.call, attention_any<T>, dim3(blocks), dim3(32 * kWarps), 0, a);
    return launched(p.call);
  });
}

}  // namespace accel_think
