// What the CPU and the CUDA version of streamingllm_merge share: the arguments.
#ifndef ACCEL_STREAMINGLLM_MERGE_H
#define ACCEL_STREAMINGLLM_MERGE_H

#include "accel/op.h"

namespace accel_streamingllm {

enum { kOut, kLse, kA, kALse, kB, kBLse };

struct Merge {
  void* out;
  float* lse;  // or null
  const void* a;
  const float* a_lse;
  const void* b;
  const float* b_lse;
  int64_t rows, dim;
};

template <class T>
T* data(const accel_tensor* t) {
  return reinterpret_cast<T*>(static_cast<uint8_t*>(t->data) + t->byte_offset);
}

inline Merge merge_of(const accel_call* call) {
  const accel_tensor* out = call->args[kOut].tensor;
  const accel_tensor* lse = call->args[kLse].tensor;
  return {data<uint8_t>(out),
          lse == nullptr ? nullptr : data<float>(lse),
          data<uint8_t>(call->args[kA].tensor),
          data<float>(call->args[kALse].tensor),
          data<uint8_t>(call->args[kB].tensor),
          data<float>(call->args[kBLse].tensor),
          out->shape[0] * out->shape[1],
          out->shape[2]};
}

#if ACCEL_WITH_CUDA
int streamingllm_merge_cuda(const accel_call* call);  // streamingllm_merge.cu
#else
constexpr accel_op_fn streamingllm_merge_cuda = nullptr;
#endif

}  // namespace accel_streamingllm
#endif
