// count_nonfinite  out:tensor i32[1], x:tensor: values whose exponent bits are all set; saturates at INT32_MAX.
//
// Reads weights once, right after they were loaded: streaming 16-byte loads, four in flight a thread. Counts of blocks,
// then their sum; no atomics.
#include "cuda/ops/elementwise.h"
#include "cuda/ops/vectors.cuh"

namespace accel::cuda {
namespace {

template <class U>
__device__ int nonfinite(U bits, U mask) { return (bits & mask) == mask; }

template <class U>
__device__ int nonfinite(uint4 q, U mask) {
  const uint32_t words[] = {q.x, q.y, q.z, q.w};
  int count = 0;
#pragma unroll
  for (const uint32_t w : words) {
    if constexpr (sizeof(U) == 4) {
      count += (w & mask) == mask;
    } else {
      const uint32_t high = static_cast<uint32_t>(mask) << 16;
      count += (w & mask) == mask;
      count += (w & high) == high;
    }
  }
  return count;
}

// `head` elements precede the first 16-byte boundary.
template <class U>
__global__ void __launch_bounds__(512)
    count_blocks(unsigned long long* counts, const U* x, int64_t n, int head, U mask) {
  constexpr int N = 16 / static_cast<int>(sizeof(U));
  const uint4* body = reinterpret_cast<const uint4*>(x + head);
  const int64_t packs = (n - head) / N, tail = head + packs * N;
  const int64_t first = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  unsigned long long count = 0;
  int64_t i = first;
  for (; i + 3 * step < packs; i += 4 * step) {
    const uint4 a = __ldcs(body + i), b = __ldcs(body + i + step), c = __ldcs(body + i + 2 * step),
                d = __ldcs(body + i + 3 * step);
    count += nonfinite(a, mask) + nonfinite(b, mask) + nonfinite(c, mask) + nonfinite(d, mask);
  }
  for (; i < packs; i += step) count += nonfinite(__ldcs(body + i), mask);
  if (first < head) count += nonfinite(x[first], mask);
  if (tail + first < n) count += nonfinite(x[tail + first], mask);
#pragma unroll
  for (int o = 16; o > 0; o /= 2) count += __shfl_xor_sync(~0u, count, o);
  __shared__ unsigned long long parts[16];
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = count;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < static_cast<int>(blockDim.x / 32); w++) count += parts[w];
    counts[blockIdx.x] = count;
  }
}

__global__ void sum_counts(int32_t* out, const unsigned long long* counts, int blocks) {
  unsigned long long total = 0;
  for (int i = threadIdx.x; i < blocks; i += 32) total += counts[i];
#pragma unroll
  for (int o = 16; o > 0; o /= 2) total += __shfl_xor_sync(~0u, total, o);
  if (threadIdx.x == 0) *out = total > INT32_MAX ? INT32_MAX : static_cast<int32_t>(total);
}

template <class U>
int run_count(const accel_call* call, U mask) {
  const accel_tensor* t = tensor(call, 1);
  const U* x = data<U>(t);
  const int64_t n = elements(t);
  const int64_t before = (16 - reinterpret_cast<uintptr_t>(x) % 16) % 16 / sizeof(U);
  const int head = static_cast<int>(before < n ? before : n);
  const int64_t wanted = divide_up(divide_up(n * static_cast<int64_t>(sizeof(U)), 16), 512 * 4);
  const int64_t most = call->multiprocessors * 4;
  const int blocks = static_cast<int>(wanted < 1 ? 1 : wanted < most ? wanted : most);
  auto* counts =
      static_cast<unsigned long long*>(call->scratch(call, static_cast<size_t>(blocks) * sizeof(unsigned long long)));
  count_blocks<U><<<blocks, 512, 0, stream_of(call)>>>(counts, x, n, head, mask);
  if (launched(call) != ACCEL_OK) return ACCEL_FAILED;
  sum_counts<<<1, 32, 0, stream_of(call)>>>(data<int32_t>(tensor(call, 0)), counts, blocks);
  call->ran(call, "count_nonfinite");
  return launched(call);
}

}  // namespace

int count_nonfinite(const accel_call* call) {
  const accel_dtype dtype = tensor(call, 1)->dtype;
  if (dtype.bits == 32) return run_count<uint32_t>(call, 0x7f800000u);
  return run_count<uint16_t>(call, dtype.code == ACCEL_BFLOAT ? 0x7f80 : 0x7c00);
}

}  // namespace accel::cuda
