// From an fp32 sum to an element of out. The same roundings as on the CPU (cpu/gemm/finish.inc.h).
#ifndef ACCEL_CUDA_GEMM_EPILOGUE_CUH
#define ACCEL_CUDA_GEMM_EPILOGUE_CUH

#include "accel/cuda.cuh"

namespace accel::cuda {

// out[at] = round(sum + bias[column]), and with `accumulate` the old value added to that and rounded again.
template <class Out, class In>
__device__ inline void finish(Out* out, int64_t at, float sum, const In* bias, int64_t column, bool accumulate) {
  if (bias != nullptr) sum += to_float(bias[column]);
  Out value = from_float<Out>(sum);
  if (accumulate) value = from_float<Out>(to_float(value) + to_float(out[at]));
  out[at] = value;
}

// silu(gate) * up of values that were rounded to T before. The formula of the op swiglu (ops/elementwise.cu): the two
// agree bit by bit.
template <class T>
__device__ inline T silu_product(T gate, T up) {
  const float g = to_float(gate), u = to_float(up);
  if constexpr (sizeof(T) == 2) return from_float<T>(__fdividef(g, 1.f + __expf(-g)) * u);
  return from_float<T>(g / (1.f + expf(-g)) * u);
}

}  // namespace accel::cuda
#endif
