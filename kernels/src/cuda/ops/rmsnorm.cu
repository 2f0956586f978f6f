// rmsnorm  out:tensor[T,H], x:tensor[T,H], weight:tensor[H], eps:float
//
//   y = round(x / sqrt(mean(x^2) + eps)) * w, rounded again: the two roundings of Hugging Face's Llama
//   (Zhang & Sennrich 2019, arXiv:1910.07467).
//
// One block a row, every load 16 bytes; the row stays in registers between the sum and the scaling, and the weight is
// loaded while the predecessor still runs. Rows of at most 32 loads, heads by themselves (Qwen3), are a few lanes' work:
// several rows a warp. The order of the sum depends on the width alone, so a row's bits do not depend on which batch it
// is in.
#include "cuda/ops/elementwise.h"
#include "cuda/ops/vectors.cuh"

namespace accel::cuda {
namespace {

// The sum of `value` over the block, in every thread. At most 32 warps.
__device__ float block_sum(float value) {
  __shared__ float parts[32];
#pragma unroll
  for (int o = 16; o > 0; o /= 2) value += __shfl_xor_sync(~0u, value, o);
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  if (lane == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  value = lane < warps ? parts[lane] : 0.f;
#pragma unroll
  for (int o = 16; o > 0; o /= 2) value += __shfl_xor_sync(~0u, value, o);
  return value;
}

// kHeld packs of the row and of the weight stay in each thread's registers; 0: the row is read twice.
template <class T, int N, int kHeld>
__global__ void __launch_bounds__(512) rmsnorm_row(T* out, const T* x, const T* weight, int width, float eps) {
  const int packs = width / N, step = blockDim.x;  // N divides width
  Pack<T, N> held[kHeld > 0 ? kHeld : 1], w[kHeld > 0 ? kHeld : 1];
#pragma unroll
  for (int k = 0; k < kHeld; k++) {
    const int i = threadIdx.x + k * step;
    if (i < packs) w[k] = load_pack<N>(weight + static_cast<int64_t>(i) * N);
  }
  pdl_release();
  pdl_wait();
  x += static_cast<int64_t>(blockIdx.x) * width;
  out += static_cast<int64_t>(blockIdx.x) * width;
  float sum = 0;
  const auto square = [&](const Pack<T, N>& p) {
#pragma unroll
    for (int j = 0; j < N; j++) sum += to_float(p.v[j]) * to_float(p.v[j]);
  };
#pragma unroll
  for (int k = 0; k < kHeld; k++) {
    const int i = threadIdx.x + k * step;
    if (i < packs) held[k] = load_pack<N>(x + static_cast<int64_t>(i) * N);
  }
#pragma unroll
  for (int k = 0; k < kHeld; k++) {
    if (static_cast<int>(threadIdx.x) + k * step < packs) square(held[k]);
  }
  if constexpr (kHeld == 0) {
    for (int i = threadIdx.x; i < packs; i += step) square(load_pack<N>(x + static_cast<int64_t>(i) * N));
  }
  const float scale = __frsqrt_rn(block_sum(sum) / static_cast<float>(width) + eps);
  const auto write = [&](int i, const Pack<T, N>& p, const Pack<T, N>& q) {
    Pack<T, N> y;
#pragma unroll
    for (int j = 0; j < N; j++) {
      y.v[j] = from_float<T>(to_float(from_float<T>(to_float(p.v[j]) * scale)) * to_float(q.v[j]));
    }
    store_pack<N>(out + static_cast<int64_t>(i) * N, y);
  };
#pragma unroll
  for (int k = 0; k < kHeld; k++) {
    const int i = threadIdx.x + k * step;
    if (i < packs) write(i, held[k], w[k]);
  }
  if constexpr (kHeld == 0) {
    for (int i = threadIdx.x; i < packs; i += step) {
      write(i, load_pack<N>(x + static_cast<int64_t>(i) * N), load_pack<N>(weight + static_cast<int64_t>(i) * N));
    }
  }
}

// Rows of at most G packs, G lanes each.
template <class T, int N, int G>
__global__ void __launch_bounds__(256) rmsnorm_narrow(T* out, const T* x, const T* weight, int64_t rows, int width,
                                                      float eps) {
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / G;
  const int first = static_cast<int>(threadIdx.x) % G * N;
  Pack<T, N> p, w;
  if (first < width) w = load_pack<N>(weight + first);
  pdl_release();
  pdl_wait();
  const bool live = first < width && row < rows;  // all lanes take part in the sum
  float sum = 0;
  if (live) {
    p = load_pack<N>(x + row * width + first);
#pragma unroll
    for (int j = 0; j < N; j++) sum += to_float(p.v[j]) * to_float(p.v[j]);
  }
#pragma unroll
  for (int o = G / 2; o > 0; o /= 2) sum += __shfl_xor_sync(~0u, sum, o);
  const float scale = __frsqrt_rn(sum / static_cast<float>(width) + eps);
  if (!live) return;
#pragma unroll
  for (int j = 0; j < N; j++) {
    p.v[j] = from_float<T>(to_float(from_float<T>(to_float(p.v[j]) * scale)) * to_float(w.v[j]));
  }
  store_pack<N>(out + row * width + first, p);
}

}  // namespace

int rmsnorm(const accel_call* call) {
  const int64_t rows = dim(call, 1, 0), width = dim(call, 1, 1);
  const float eps = static_cast<float>(call->args[3].f);
  call->ran(call, "rmsnorm");
  if (rows == 0 || width == 0) return ACCEL_OK;
  return with_float(tensor(call, 1)->dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    T *out = data<T>(tensor(call, 0)), *x = data<T>(tensor(call, 1)), *weight = data<T>(tensor(call, 2));
    const bool wide = aligned({out, x, weight}, {width * static_cast<int64_t>(sizeof(T))}, 16);
    return with_pack<T>(wide, [&](auto count) {
      constexpr int N = count;
      if (width / N <= 32) {
        const int lanes = width / N <= 8 ? 8 : width / N <= 16 ? 16 : 32;
        const auto narrow = lanes == 8    ? rmsnorm_narrow<T, N, 8>
                            : lanes == 16 ? rmsnorm_narrow<T, N, 16>
                                          : rmsnorm_narrow<T, N, 32>;
        launch_pdl(call, narrow, dim3(static_cast<unsigned>(divide_up(rows * lanes, 256))), dim3(256), 0, out, x, weight,
                   rows, static_cast<int>(width), eps);
        return launched(call);
      }
      const int block = block_for(width / N, 512);
      const int64_t passes = divide_up(width / N, block);
      const auto kernel = passes <= 1   ? rmsnorm_row<T, N, 1>
                          : passes <= 4 ? rmsnorm_row<T, N, 4>
                                        : rmsnorm_row<T, N, 0>;
      launch_pdl(call, kernel, dim3(static_cast<unsigned>(rows)), dim3(block), 0, out, x, weight,
                 static_cast<int>(width), eps);
      return launched(call);
    });
  });
}

}  // namespace accel::cuda
