// l2compress_victim on CUDA (definition in l2compress_victim.cc): the scores go to scratch memory, and then a block a head
// looks for the smallest. Each thread keeps the smallest of its rows, the later one when equal; warps and then the block
// reduce under the same order, which is total, so the result does not depend on who compares with whom. Row numbers come
// from the device and the grid from the row limit: the launches hold for every replay of a decode step.
#include "accel/cuda.cuh"
#include "l2compress.h"

namespace accel_l2compress {
namespace {

constexpr int kThreads = 512;
constexpr unsigned kAll = 0xffffffffu;

struct Least {
  float score;
  int column;  // a row; -1: none yet
};

__device__ inline Least lesser(Least a, Least b) {
  if (a.column < 0) return b;
  if (b.column < 0) return a;
  if (a.score != b.score) return a.score < b.score ? a : b;
  return a.column > b.column ? a : b;
}

__device__ inline Least least_of_warp(Least x) {
  for (int step = 16; step > 0; step /= 2) {
    x = lesser(x, {__shfl_xor_sync(kAll, x.score, step), __shfl_xor_sync(kAll, x.column, step)});
  }
  return x;
}

__global__ void __launch_bounds__(kThreads) find_victim(int32_t* out, const float* scores, int64_t stride,
                                                        accel::cuda::KvPages kv, accel_device_error* error,
                                                        int32_t nan_check) {
  __shared__ Least found[kThreads / 32];
  const int h = blockIdx.x, rows = kv.at(0, h).rows;
  const float* row = scores + h * stride;
  Least mine = {0, -1};
  for (int j = threadIdx.x; j < rows; j += kThreads) {
    const float score = row[j];
    if (score != score) accel::cuda::accel_report(error, nan_check, h, 0);
    mine = lesser(mine, {score, j});
  }
  mine = least_of_warp(mine);
  if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  mine = threadIdx.x < kThreads / 32 ? found[threadIdx.x] : Least{0, -1};
  mine = least_of_warp(mine);
  if (threadIdx.x == 0) out[h] = mine.column;
}

}  // namespace

int l2compress_victim_cuda(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t stride = kv.row_limit;
  float* scores = static_cast<float*>(call->scratch(call, static_cast<size_t>(kv.heads * stride) * sizeof(float)));
  const int32_t nan_check = call->device_check(call, "ERR_ACCEL_NAN", "l2compress_victim: a key of head %lld has a NaN");
  call->ran(call, "l2compress_victim");
  if (score_on_cuda(call, scores, stride, stride) != ACCEL_OK) return ACCEL_FAILED;
  find_victim<<<static_cast<unsigned>(kv.heads), kThreads, 0, accel::cuda::stream_of(call)>>>(
      data<int32_t>(call->args[kOut]), scores, stride, accel::cuda::kv_pages(kv), call->device_error, nan_check);
  return accel::cuda::launched(call);
}

}  // namespace accel_l2compress
