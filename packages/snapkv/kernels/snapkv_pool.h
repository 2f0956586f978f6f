// What the CPU and the CUDA version of snapkv_pool share: the arguments.
#ifndef ACCEL_SNAPKV_POOL_H
#define ACCEL_SNAPKV_POOL_H

#include "accel/op.h"

namespace accel_snapkv {

enum { kOut, kScores, kPrefix, kKernel, kKind };
enum { kAverage = 0, kMaximum = 1 };

struct Pool {
  float* out;
  const float* scores;
  int64_t columns, prefix, kernel, kind;
};

inline float* data(const accel_arg& arg) {
  return reinterpret_cast<float*>(static_cast<uint8_t*>(arg.tensor->data) + arg.tensor->byte_offset);
}

inline Pool pool_of(const accel_call* call) {
  return {data(call->args[kOut]),  data(call->args[kScores]), call->args[kScores].tensor->shape[1],
          call->args[kPrefix].i, call->args[kKernel].i,     call->args[kKind].i};
}

#if ACCEL_WITH_CUDA
int snapkv_pool_cuda(const accel_call* call);  // snapkv_pool.cu
#else
constexpr accel_op_fn snapkv_pool_cuda = nullptr;
#endif

}  // namespace accel_snapkv
#endif
