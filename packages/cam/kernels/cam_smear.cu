// cam_smear on CUDA (definition in cam_smear.cc), two kernels.
//
// Gates: a thread a row, which reads the scores of its window from the cache; the largest score before `start` is found
// by every block for itself. Values: the recurrence runs along the rows, so a thread carries one channel of one head
// through all of them, 32 threads a block so that many multiprocessors take part. It keeps the last w terms in shared
// memory and loads a few rows ahead.
#include <type_traits>

#include "accel/cuda.cuh"
#include "cam_args.h"
#include "cam_smear.h"

namespace accel_cam {
namespace {

using namespace smear;

constexpr int kThreads = 256;
constexpr int kChannels = 32;
constexpr int kAhead = 8;

struct Smear {
  accel::cuda::KvPages kv;
  Span span;
  Gate gate;
  bool fixed;
  int dim;
  const float* scores;
  const float* uniforms;
  float* p;
  int32_t* merged;
  uint8_t* open;
};

__global__ void __launch_bounds__(kThreads) draw_gates(Smear args) {
  __shared__ float of_warp[kThreads / 32];
  const Span span = args.span;
  const int h = blockIdx.y, lane = threadIdx.x % 32;
  const float* scores = args.scores + h * span.n;
  float before = __int_as_float(0xff800000);
  for (int64_t i = threadIdx.x; i < span.start; i += kThreads) before = scores[i] > before ? scores[i] : before;
  for (int step = 16; step > 0; step /= 2) before = fmaxf(before, __shfl_xor_sync(~0u, before, step));
  if (lane == 0) of_warp[threadIdx.x / 32] = before;
  __syncthreads();
  before = of_warp[lane % (kThreads / 32)];
  for (int step = 16; step > 0; step /= 2) before = fmaxf(before, __shfl_xor_sync(~0u, before, step));

  const int64_t j = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (j >= span.n) return;
  float p = -1;
  bool open = false;
  if (j >= span.start && j < span.sources) {
    p = probability(__fdiv_rn(scores[j], rivals(span, j, args.fixed, before, [&](int64_t i) { return scores[i]; })));
    const int32_t position = *args.kv.record(args.kv.at(0, h), static_cast<int>(j));
    const float u = args.uniforms != nullptr ? args.uniforms[h * span.n + j] : uniform(args.gate, h, position);
    open = opens(args.gate, u, p);
  }
  args.open[h * span.n + j] = open ? 1 : 0;
  if (args.p != nullptr) args.p[h * span.n + j] = p;
  if (args.merged != nullptr) args.merged[h * span.n + j] = open ? 1 : 0;
}

template <class T>
__global__ void __launch_bounds__(kChannels) smear_values(Smear args) {
  extern __shared__ float ring[];
  const Span span = args.span;
  const int h = blockIdx.y, channel = blockIdx.x * kChannels + threadIdx.x;
  if (channel >= args.dim) return;
  const accel_kv_head& head = args.kv.at(0, h);
  const uint8_t* open = args.open + h * span.n;
  for (int i = 0; i < span.window; i++) ring[i * kChannels + threadIdx.x] = 0;
  Carry carry(span, ring + threadIdx.x, kChannels);
  const auto at = [&](int64_t row) {
    return reinterpret_cast<T*>(args.kv.value(head, static_cast<int>(row))) + channel;
  };
  // Rows that come next: where they are, what they hold, and whether they and the rows a window before are folded.
  T* places[kAhead];
  T values[kAhead];
  uint8_t opens_now[kAhead], opened[kAhead];
  const auto load = [&](int64_t first) {
#pragma unroll
    for (int i = 0; i < kAhead; i++) {
      const int64_t row = first + i, past = row - span.window;
      if (row >= span.n) continue;
      places[i] = at(row);
      values[i] = *places[i];
      opens_now[i] = open[row];
      opened[i] = past >= span.start ? open[past] : 0;
    }
  };
  load(span.start);
  for (int64_t first = span.start; first < span.n; first += kAhead) {
    T* now_at[kAhead];
    T now[kAhead];
    uint8_t now_open[kAhead], now_opened[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; i++) {
      now_at[i] = places[i];
      now[i] = values[i];
      now_open[i] = opens_now[i];
      now_opened[i] = opened[i];
    }
    load(first + kAhead);
#pragma unroll
    for (int i = 0; i < kAhead; i++) {
      if (first + i >= span.n) break;
      const float v = carry.value(accel::cuda::to_float(now[i]));
      if (carry.reached()) *now_at[i] = accel::cuda::from_float<T>(v);
      carry.step(v, now_open[i] != 0, now_opened[i] != 0);
    }
  }
}

}  // namespace

int smear_cuda(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t n = kv.head[0].rows, window = call->args[kWindow].i;
  const Smear args = {accel::cuda::kv_pages(kv),
                      {n, call->args[kStart].i, n - window, window},
                      gate_of(call, kGate, kSeed, kLayer),
                      call->args[kDenominator].i == kFixed,
                      kv.head_dim,
                      accel::cuda::data<float>(call->args[kScores].tensor),
                      accel::cuda::data<float>(call->args[kUniforms].tensor),
                      accel::cuda::data<float>(call->args[kP].tensor),
                      accel::cuda::data<int32_t>(call->args[kMerged].tensor),
                      static_cast<uint8_t*>(call->scratch(call, static_cast<size_t>(kv.heads * n)))};
  call->ran(call, "cam_smear");
  const cudaStream_t stream = accel::cuda::stream_of(call);
  const dim3 rows(static_cast<unsigned>((n + kThreads - 1) / kThreads), static_cast<unsigned>(kv.heads));
  draw_gates<<<rows, kThreads, 0, stream>>>(args);
  if (accel::cuda::launched(call) != ACCEL_OK) return ACCEL_FAILED;
  const size_t ring = static_cast<size_t>(window) * kChannels * sizeof(float);
  return accel::cuda::with_float(kv.dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    if (ring > 48 * 1024) {
      cudaFuncSetAttribute(smear_values<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(ring));
    }
    const dim3 channels(static_cast<unsigned>((kv.head_dim + kChannels - 1) / kChannels),
                        static_cast<unsigned>(kv.heads));
    smear_values<T><<<channels, kChannels, ring, stream>>>(args);
    return accel::cuda::launched(call);
  });
}

}  // namespace accel_cam
