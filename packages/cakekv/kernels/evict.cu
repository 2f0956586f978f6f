// cake_victim, cake_order on CUDA (definitions in evict.cc). Counts of rows come from the device's tables, because a decode
// step is captured into a graph and replayed with other rows. Sums run in the order of the CPU's, so ties fall alike.
//
// cake_victim  one block a head. 1024 rows at a time are brought to shared memory with their neighbours; a thread keeps the
//              least (pooled value, row from the end) it met as one 64-bit number, and the block's least is the victim.
// cake_order   a row's place in a list is the number of rows that come before it: quadratic, but without a limit on the
//              length, and nothing has to be moved. First the places of the stored order, by the tally; then the pooled
//              values in that order, and the places by them. For the original's order only, which is there to compare.
#include "accel/cuda.cuh"
#include "cakekv.h"

namespace accel_cakekv {
namespace {

using accel::cuda::KvPages;

constexpr int kVictimThreads = 1024, kOrderThreads = 256;

// Larger floats have larger keys; negative zero counts as zero.
__device__ uint32_t key_of(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

struct VictimArguments {
  KvPages pages;
  int32_t* victims;
  int attention, window, size;
  accel_device_error* error;
  int32_t nan_check;
};

__device__ uint64_t warp_least(uint64_t x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const uint64_t other = __shfl_xor_sync(~0u, x, step);
    if (other < x) x = other;
  }
  return x;
}

__global__ void __launch_bounds__(kVictimThreads) victim_of_head(const VictimArguments a) {
  __shared__ float near[kVictimThreads + kMaxPool];
  __shared__ uint64_t leasts[kVictimThreads / 32];
  accel::cuda::pdl_wait();
  accel::cuda::pdl_release();
  const accel_kv_head& head = a.pages.at(0, blockIdx.x);
  const int m = head.rows - a.window, reach = a.size / 2;
  uint64_t least = ~0ull;
  for (int begin = 0; begin < m; begin += kVictimThreads) {
    for (int i = threadIdx.x; i < kVictimThreads + 2 * reach; i += kVictimThreads) {
      const int row = begin + i - reach;
      const float x = row >= 0 && row < m ? *a.pages.tally(head, row, a.attention) : 0.0f;
      if (x != x) accel::cuda::accel_report(a.error, a.nan_check, blockIdx.x, row);
      near[i] = x;
    }
    __syncthreads();
    const int row = begin + threadIdx.x;
    if (row < m) {
      float sum = 0;
      for (int i = 0; i < a.size; i++) sum += near[threadIdx.x + i];
      const float pooled = __fdiv_rn(sum, static_cast<float>(a.size));
      const uint64_t mine = static_cast<uint64_t>(key_of(pooled)) << 32 | ~static_cast<uint32_t>(row);
      if (mine < least) least = mine;
    }
    __syncthreads();
  }
  least = warp_least(least);
  if (threadIdx.x % 32 == 0) leasts[threadIdx.x / 32] = least;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  least = warp_least(leasts[threadIdx.x]);
  if (threadIdx.x == 0) a.victims[blockIdx.x] = m > 0 ? static_cast<int32_t>(~static_cast<uint32_t>(least)) : 0;
}

struct OrderArguments {
  KvPages pages;
  int32_t* victims;
  float* scores;
  float* stored;      // [Hk, limit]: attention in the stored order
  int32_t* place_of;  // [Hk, limit]: of each row, in the stored order
  int limit, attention, order, window, size;
  int n;  // columns of scores
  accel_device_error* error;
  int32_t nan_check;
};

// Grid of both: (row_limit / kOrderThreads, heads).
__global__ void __launch_bounds__(kOrderThreads) stored_order(const OrderArguments a) {
  __shared__ float keys[kOrderThreads];
  accel::cuda::pdl_wait();
  accel::cuda::pdl_release();
  const int h = blockIdx.y;
  const accel_kv_head& head = a.pages.at(0, h);
  const int m = head.rows - a.window, row = blockIdx.x * kOrderThreads + threadIdx.x;
  if (static_cast<int>(blockIdx.x) * kOrderThreads >= m) return;
  const float key = row < m ? *a.pages.tally(head, row, a.order) : 0.0f;
  int place = 0;
  for (int begin = 0; begin < m; begin += kOrderThreads) {
    const int other = begin + static_cast<int>(threadIdx.x);
    __syncthreads();
    keys[threadIdx.x] = other < m ? *a.pages.tally(head, other, a.order) : -INFINITY;
    __syncthreads();
    const int count = min(kOrderThreads, m - begin);
    for (int i = 0; i < count; i++) place += keys[i] > key || (keys[i] == key && begin + i < row);
  }
  if (row >= m) return;
  const float x = *a.pages.tally(head, row, a.attention);
  if (x != x) accel::cuda::accel_report(a.error, a.nan_check, h, row);
  a.place_of[h * a.limit + row] = place;
  a.stored[h * a.limit + place] = x;
}

__device__ float pooled_at(const float* stored, int m, int size, int at) {
  const int from = max(at - size / 2, 0), to = min(at + size / 2 + 1, m);
  float sum = 0;
  for (int i = from; i < to; i++) sum += stored[i];
  return __fdiv_rn(sum, static_cast<float>(size));
}

__global__ void __launch_bounds__(kOrderThreads) pooled_order(const OrderArguments a) {
  __shared__ float values[kOrderThreads];
  accel::cuda::pdl_wait();
  accel::cuda::pdl_release();
  const int h = blockIdx.y;
  const accel_kv_head& head = a.pages.at(0, h);
  const int m = head.rows - a.window, row = blockIdx.x * kOrderThreads + threadIdx.x;
  if (a.scores != nullptr && row >= m && row < a.n) a.scores[static_cast<int64_t>(h) * a.n + row] = INFINITY;
  if (static_cast<int>(blockIdx.x) * kOrderThreads >= m) return;
  const float* stored = a.stored + h * a.limit;
  const int at = row < m ? a.place_of[h * a.limit + row] : 0;
  const float value = pooled_at(stored, m, a.size, at);
  int place = 0;
  for (int begin = 0; begin < m; begin += kOrderThreads) {
    const int other = begin + static_cast<int>(threadIdx.x);
    __syncthreads();
    values[threadIdx.x] = other < m ? pooled_at(stored, m, a.size, other) : -INFINITY;
    __syncthreads();
    const int count = min(kOrderThreads, m - begin);
    for (int i = 0; i < count; i++) place += values[i] > value || (values[i] == value && begin + i < at);
  }
  if (row >= m) return;
  const float key = static_cast<float>(m - place);
  *a.pages.tally(head, row, a.order) = key;
  if (a.scores != nullptr) a.scores[static_cast<int64_t>(h) * a.n + row] = key;
  if (a.victims != nullptr && place == m - 1) a.victims[h] = row;
}

}  // namespace

int victim_cuda(const accel_call* call) {
  const accel_kv& kv = *call->args[kVictimKv].kv;
  VictimArguments a = {};
  a.pages = accel::cuda::kv_pages(kv);
  a.victims = tensor_data<int32_t>(call->args[kVictims]);
  a.attention = static_cast<int>(call->args[kVictimAttention].i);
  a.window = static_cast<int>(call->args[kVictimWindow].i);
  a.size = static_cast<int>(call->args[kVictimSize].i);
  a.nan_check = call->device_check(call, "ERR_ACCEL_NAN",
                                   "cake_victim: the attention that rows received contains NaN (head %lld, row %lld)");
  a.error = call->device_error;
  accel::cuda::launch_pdl(call, victim_of_head, dim3(kv.heads), dim3(kVictimThreads), 0, a);
  call->ran(call, "cake_victim");
  return accel::cuda::launched(call);
}

int order_cuda(const accel_call* call) {
  const accel_kv& kv = *call->args[kOrderKv].kv;
  OrderArguments a = {};
  a.pages = accel::cuda::kv_pages(kv);
  a.victims = tensor_data<int32_t>(call->args[kOrderVictims]);
  a.scores = tensor_data<float>(call->args[kOrderScores]);
  a.limit = kv.row_limit;
  a.stored = static_cast<float*>(call->scratch(call, sizeof(float) * kv.heads * static_cast<size_t>(a.limit)));
  a.place_of = static_cast<int32_t*>(call->scratch(call, sizeof(int32_t) * kv.heads * static_cast<size_t>(a.limit)));
  a.attention = static_cast<int>(call->args[kOrderAttention].i);
  a.order = static_cast<int>(call->args[kOrderKey].i);
  a.window = static_cast<int>(call->args[kOrderWindow].i);
  a.size = static_cast<int>(call->args[kOrderSize].i);
  a.n = a.scores == nullptr ? 0 : static_cast<int>(call->args[kOrderScores].tensor->shape[1]);
  a.nan_check = call->device_check(call, "ERR_ACCEL_NAN",
                                   "cake_order: the attention that rows received contains NaN (head %lld, row %lld)");
  a.error = call->device_error;
  const dim3 grid((a.limit + kOrderThreads - 1) / kOrderThreads, kv.heads);
  accel::cuda::launch_pdl(call, stored_order, grid, dim3(kOrderThreads), 0, a);
  if (const int status = accel::cuda::launched(call)) return status;
  accel::cuda::launch_pdl(call, pooled_order, grid, dim3(kOrderThreads), 0, a);
  call->ran(call, "cake_order");
  return accel::cuda::launched(call);
}

}  // namespace accel_cakekv
