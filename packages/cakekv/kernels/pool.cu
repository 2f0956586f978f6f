// cake_pool on CUDA (definition in pool.cc). One thread a column; its neighbours come from the cache. The sum runs in
// column order with IEEE division, so the result has the bits of the CPU's and ties fall alike.
#include "accel/cuda.cuh"
#include "cakekv.h"

namespace accel_cakekv {
namespace {

constexpr int kThreads = 256;

// Grid: (columns, heads).
__global__ void __launch_bounds__(kThreads)
    pool_columns(const float* scores, float* out, int64_t heads, int64_t n, int64_t prefix, int64_t size, float rest) {
  accel::cuda::pdl_wait();
  accel::cuda::pdl_release();
  const int64_t column = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (column >= n) return;
  const int64_t from = column > size / 2 ? column - size / 2 : 0;
  const int64_t to = column + size / 2 + 1 < prefix ? column + size / 2 + 1 : prefix;
  for (int64_t head = blockIdx.y; head < heads; head += gridDim.y) {
    const float* row = scores + head * n;
    float sum = 0;
    for (int64_t j = from; j < to; j++) sum += row[j];
    out[head * n + column] = column < prefix ? __fdiv_rn(sum, static_cast<float>(size)) : rest;
  }
}

}  // namespace

int pool_cuda(const accel_call* call) {
  const accel_tensor* scores = call->args[kScores].tensor;
  const int64_t heads = scores->shape[0], n = scores->shape[1];
  call->ran(call, "cake_pool");
  if (heads == 0 || n == 0) return ACCEL_OK;
  const dim3 grid(static_cast<unsigned>((n + kThreads - 1) / kThreads),
                  static_cast<unsigned>(heads < 65535 ? heads : 65535));
  accel::cuda::launch_pdl(call, pool_columns, grid, dim3(kThreads), 0, tensor_data<const float>(call->args[kScores]),
                          tensor_data<float>(call->args[kPooled]), heads, n, call->args[kPrefix].i, call->args[kSize].i,
                          static_cast<float>(call->args[kRest].f));
  return accel::cuda::launched(call);
}

}  // namespace accel_cakekv
