// snapkv_pool on CUDA (definition in snapkv_pool.cc). One thread a column; its neighbours' votes come from the cache.
// The sum runs in column order with IEEE division, so the result has the bits of the CPU's and ties fall alike.
#include "accel/cuda.cuh"
#include "snapkv_pool.h"

namespace accel_snapkv {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) pool_columns(Pool pool, int64_t heads) {
  const int64_t reach = pool.kernel / 2;
  for (int64_t head = blockIdx.y; head < heads; head += gridDim.y) {
    const float* row = pool.scores + head * pool.columns;
    float* out = pool.out + head * pool.columns;
    for (int64_t column = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x; column < pool.columns;
         column += static_cast<int64_t>(gridDim.x) * kThreads) {
      if (column >= pool.prefix) {
        out[column] = __int_as_float(0x7f800000);
        continue;
      }
      const int64_t begin = column > reach ? column - reach : 0;
      const int64_t end = column + reach + 1 < pool.prefix ? column + reach + 1 : pool.prefix;
      if (pool.kind == kMaximum) {
        float most = __int_as_float(0xff800000);
        for (int64_t j = begin; j < end; j++) {
          // NaN wins and stays, as it does in the average: the top-k after us reports it.
          if (row[j] > most || row[j] != row[j]) most = row[j];
        }
        out[column] = most;
      } else {
        float sum = 0;
        for (int64_t j = begin; j < end; j++) sum += row[j];
        out[column] = __fdiv_rn(sum, static_cast<float>(pool.kernel));
      }
    }
  }
}

}  // namespace

int snapkv_pool_cuda(const accel_call* call) {
  const int64_t heads = call->args[kScores].tensor->shape[0];
  const Pool pool = pool_of(call);
  call->ran(call, "snapkv_pool");
  if (heads == 0 || pool.columns == 0) return ACCEL_OK;
  const int64_t blocks = (pool.columns + kThreads - 1) / kThreads;
  const dim3 grid(static_cast<unsigned>(blocks < 65535 ? blocks : 65535),
                  static_cast<unsigned>(heads < 65535 ? heads : 65535));
  pool_columns<<<grid, kThreads, 0, accel::cuda::stream_of(call)>>>(pool, heads);
  return accel::cuda::launched(call);
}

}  // namespace accel_snapkv
