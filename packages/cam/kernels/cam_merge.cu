// cam_merge on CUDA (definition in cam_merge.cc). One block a head.
//
// What a step waits for is a chain of dependent loads: row count, victim, page, value. So each thread begins with the
// loads of the first piece of value it will change, 16 bytes where addresses allow, and only then the block decides: the
// scores of the targets go to shared memory and every thread adds them up in row order, as the CPU does. Row counts come
// from the device's table, so the launch can be replayed while the cache is full.
#include <type_traits>

#include "accel/cuda.cuh"
#include "cam_args.h"

namespace accel_cam {
namespace {

using namespace merge;

constexpr int kThreads = 256;
// Scores that lie in shared memory at a time.
constexpr int kTile = 256;

struct Merge {
  accel::cuda::KvPages kv;
  Gate gate;
  int tally, row;
  int64_t targets, recent, divisor;
  int dim;
  const int32_t* rows;
  const float* uniforms;
  float* p;
  int32_t* merged;
  accel_device_error* error;
  int32_t check;
};

template <class T, int N>
struct alignas(N == 1 ? sizeof(T) : 16) Pack {
  T v[N];
};

template <class T, int N>
__device__ Pack<T, N> folded(const Pack<T, N>& target, const Pack<T, N>& value, float divisor) {
  Pack<T, N> out;
#pragma unroll
  for (int k = 0; k < N; k++) {
    const float share = __fdiv_rn(accel::cuda::to_float(value.v[k]), divisor);
    out.v[k] = accel::cuda::from_float<T>(accel::cuda::to_float(target.v[k]) + share);
  }
  return out;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) merge_values(Merge args) {
  using P = Pack<T, N>;
  __shared__ float scores[kTile];
  accel::cuda::pdl_release();
  accel::cuda::pdl_wait();
  const int h = blockIdx.x;
  const accel_kv_head& head = args.kv.at(0, h);
  const int64_t n = head.rows;
  const int from = args.rows != nullptr ? args.rows[h] : args.row;
  if (from < 0 || from >= n) {
    if (threadIdx.x == 0) accel::cuda::accel_report(args.error, args.check, h, from);
    return;
  }
  const int first = static_cast<int>(max(static_cast<int64_t>(from) + 1, n - args.recent));
  const int end = static_cast<int>(min(from + 1 + args.targets, n));
  const int count = max(0, end - first);

  const P* value = reinterpret_cast<const P*>(args.kv.value(head, from));
  const auto target = [&](int i, int packs) {
    return reinterpret_cast<P*>(args.kv.value(head, first + i / packs)) + i % packs;
  };
  const int packs = args.dim / N, items = count * packs;
  P x = {}, y = {};
  P* at = nullptr;
  if (static_cast<int>(threadIdx.x) < items) {
    at = target(threadIdx.x, packs);
    x = value[threadIdx.x % packs];
    y = *at;
  }
  const float own = *args.kv.tally(head, from, args.tally);
  const float u = args.uniforms != nullptr ? args.uniforms[h] : uniform(args.gate, h, *args.kv.record(head, from));

  float sum = 0;
  for (int base = 0; base < count; base += kTile) {
    const int tile = min(kTile, count - base);
    __syncthreads();
    for (int i = threadIdx.x; i < tile; i += kThreads) scores[i] = *args.kv.tally(head, first + base + i, args.tally);
    __syncthreads();
    for (int i = 0; i < tile; i++) sum += scores[i];
  }
  const float mean = __fdiv_rn(sum, static_cast<float>(count));
  const float p = count == 0 ? 0.f : probability(__fdiv_rn(own, mean));
  const bool open = count > 0 && opens(args.gate, u, p);
  if (threadIdx.x == 0) {
    if (args.p != nullptr) args.p[h] = p;
    if (args.merged != nullptr) args.merged[h] = open ? 1 : 0;
  }
  if (!open) return;
  const float divisor = static_cast<float>(args.divisor > 0 ? args.divisor : count);
  if (at != nullptr) *at = folded(y, x, divisor);
  for (int i = threadIdx.x + kThreads; i < items; i += kThreads) {
    P* next = target(i, packs);
    *next = folded(*next, value[i % packs], divisor);
  }
}

}  // namespace

int merge_cuda(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int32_t check = call->device_check(call, "ERR_ACCEL_ARGUMENT",
                                           "cam_merge: rows[%lld] is %lld, which is not a row of that head");
  const Merge args = {accel::cuda::kv_pages(kv),
                      gate_of(call, kGate, kSeed, kLayer),
                      static_cast<int>(call->args[kTally].i),
                      static_cast<int>(call->args[kRow].i),
                      call->args[kTargets].i,
                      call->args[kRecent].i,
                      call->args[kDivisor].i,
                      kv.head_dim,
                      accel::cuda::data<int32_t>(call->args[kRows].tensor),
                      accel::cuda::data<float>(call->args[kUniforms].tensor),
                      accel::cuda::data<float>(call->args[kP].tensor),
                      accel::cuda::data<int32_t>(call->args[kMerged].tensor),
                      call->device_error,
                      check};
  call->ran(call, "cam_merge");
  return accel::cuda::with_float(kv.dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    const uintptr_t bits = reinterpret_cast<uintptr_t>(kv.base) | static_cast<uintptr_t>(kv.page_bytes) |
                           static_cast<uintptr_t>(kv.head_dim) * sizeof(T);
    const dim3 grid(static_cast<unsigned>(kv.heads)), block(kThreads);
    if (bits % 16 == 0) {
      accel::cuda::launch_pdl(call, merge_values<T, 16 / static_cast<int>(sizeof(T))>, grid, block, 0, args);
    } else {
      accel::cuda::launch_pdl(call, merge_values<T, 1>, grid, block, 0, args);
    }
    return accel::cuda::launched(call);
  });
}

}  // namespace accel_cam
