// streamingllm_merge on CUDA (definition in streamingllm_merge.cc). A row is the work of a group of lanes of one warp,
// as many as it has packs of 16 bytes (up to 32): all of them read the row's two lse before any writes, so that every
// output may be one of the inputs.
#include <type_traits>

#include "accel/cuda.cuh"
#include "streamingllm_merge.h"

namespace accel_streamingllm {
namespace {

constexpr int kThreads = 256;

template <class T, int N>
struct alignas(N == 1 ? sizeof(T) : 16) Pack {
  T v[N];
};

__device__ float minus_infinity() { return __int_as_float(0xff800000); }

template <class T, int N>
__global__ void __launch_bounds__(kThreads) merge_rows(Merge merge, int lanes) {
  accel::cuda::pdl_release();
  accel::cuda::pdl_wait();
  using P = Pack<T, N>;
  const int lane = threadIdx.x % lanes;
  const int64_t row = (blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x) / lanes;
  const bool there = row < merge.rows;  // no early return: the warp meets below
  const float la = there ? merge.a_lse[row] : 0, lb = there ? merge.b_lse[row] : 0;
  __syncwarp();
  if (!there) return;
  const float most = la > lb || la != la ? la : lb;  // NaN wins: it must not get lost
  const bool nothing = most == minus_infinity();
  float wa = nothing ? 0 : expf(la - most), wb = nothing ? 0 : expf(lb - most);
  const float sum = wa + wb;
  if (merge.lse != nullptr && lane == 0) merge.lse[row] = nothing ? minus_infinity() : most + logf(sum);
  if (!nothing) {
    wa /= sum;
    wb /= sum;
  }
  const int64_t packs = merge.dim / N;
  const P* a = reinterpret_cast<const P*>(merge.a) + row * packs;
  const P* b = reinterpret_cast<const P*>(merge.b) + row * packs;
  P* out = reinterpret_cast<P*>(merge.out) + row * packs;
  for (int64_t i = lane; i < packs; i += lanes) {
    const P x = a[i], y = b[i];
    P z;
#pragma unroll
    for (int k = 0; k < N; k++) {
      z.v[k] = accel::cuda::from_float<T>(wa * accel::cuda::to_float(x.v[k]) + wb * accel::cuda::to_float(y.v[k]));
    }
    out[i] = z;
  }
}

template <class T, int N>
int launch(const accel_call* call, const Merge& merge) {
  int lanes = 1;
  while (lanes < 32 && lanes < merge.dim / N) lanes *= 2;
  const int64_t rows_a_block = kThreads / lanes;
  const int64_t blocks = (merge.rows + rows_a_block - 1) / rows_a_block;
  accel::cuda::launch_pdl(call, merge_rows<T, N>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, merge, lanes);
  return accel::cuda::launched(call);
}

}  // namespace

int streamingllm_merge_cuda(const accel_call* call) {
  const Merge merge = merge_of(call);
  call->ran(call, "streamingllm_merge");
  if (merge.rows == 0) return ACCEL_OK;
  return accel::cuda::with_float(call->args[kOut].tensor->dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    const uintptr_t bits = reinterpret_cast<uintptr_t>(merge.out) | reinterpret_cast<uintptr_t>(merge.a) |
                           reinterpret_cast<uintptr_t>(merge.b) | static_cast<uintptr_t>(merge.dim) * sizeof(T);
    if (bits % 16 == 0) return launch<T, 16 / static_cast<int>(sizeof(T))>(call, merge);
    return launch<T, 1>(call, merge);
  });
}

}  // namespace accel_streamingllm
