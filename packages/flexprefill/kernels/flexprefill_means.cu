// Means over blocks: of keys, [kv heads][columns][dim], and of the queries of query-aware heads, [heads][row blocks][dim].
// A block of threads makes one mean, a thread a channel of it; rows are added in ascending order, in fp32.
#include <type_traits>

#include "flexprefill_work.cuh"

namespace accel_flexprefill {
namespace {

using accel::cuda::to_float;

constexpr int kThreads = 128;

template <class T>
__global__ void __launch_bounds__(kThreads) means_of_keys(const Work w) {
  __shared__ const T* rows[kTile];
  const Problem& p = w.p;
  const int column = blockIdx.x, kv_head = blockIdx.y, first = column * p.block, count = min(p.block, p.n - first);
  const accel_kv_head& head = w.pages.at(0, kv_head);
  for (int i = threadIdx.x; i < count; i += kThreads) rows[i] = reinterpret_cast<const T*>(w.pages.key(head, first + i));
  __syncthreads();
  float* out = w.key_means + (static_cast<int64_t>(kv_head) * p.columns + column) * p.dim;
  for (int d = threadIdx.x; d < p.dim; d += kThreads) {
    float sum = 0.0f;
#pragma unroll 8
    for (int i = 0; i < count; i++) sum += to_float(rows[i][d]);
    out[d] = sum / static_cast<float>(count);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) means_of_queries(const Work w) {
  const Problem& p = w.p;
  const int block = blockIdx.x, h = blockIdx.y;
  if (!w.choices[h].aware) return;
  const int first = block * p.block, count = min(p.block, p.m - first);
  const int64_t stride = static_cast<int64_t>(p.heads) * p.dim;
  const T* q = static_cast<const T*>(p.q) + first * stride + static_cast<int64_t>(h) * p.dim;
  float* out = w.query_means + (static_cast<int64_t>(h) * p.row_blocks + block) * p.dim;
  for (int d = threadIdx.x; d < p.dim; d += kThreads) {
    float sum = 0.0f;
#pragma unroll 8
    for (int i = 0; i < count; i++) sum += to_float(q[i * stride + d]);
    out[d] = sum / static_cast<float>(count);
  }
}

}  // namespace

int launch_means_of_keys(const accel_call* call, const Work& w) {
  return accel::cuda::with_float(call->args[kKv].kv->dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    const dim3 grid(w.p.columns, w.p.kv_heads);
    means_of_keys<T><<<grid, kThreads, 0, accel::cuda::stream_of(call)>>>(w);
    return accel::cuda::launched(call);
  });
}

int launch_means_of_queries(const accel_call* call, const Work& w) {
  return accel::cuda::with_float(call->args[kKv].kv->dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    const dim3 grid(w.p.row_blocks, w.p.heads);
    means_of_queries<T><<<grid, kThreads, 0, accel::cuda::stream_of(call)>>>(w);
    return accel::cuda::launched(call);
  });
}

}  // namespace accel_flexprefill
