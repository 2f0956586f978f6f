// What the ops of this library share: arguments, and the functions of each device.
#ifndef ACCEL_L2COMPRESS_H
#define ACCEL_L2COMPRESS_H

#include "accel/op.h"

namespace accel_l2compress {

// l2compress_scores  out:tensor f32[Hk,n], kv:kv, sink:int, recent:int
// l2compress_victim  out:tensor i32[Hk], kv:kv, sink:int, recent:int
enum { kOut, kKv, kSink, kRecent };

template <class T>
inline T* data(const accel_arg& arg) {
  return reinterpret_cast<T*>(static_cast<uint8_t*>(arg.tensor->data) + arg.tensor->byte_offset);
}

// What both ops ask of kv, sink and recent.
int check_kv(const accel_call* call, const char* op);
// Scores of every head, `stride` apart.
void score_on_cpu(const accel_call* call, float* out, int64_t stride);

int l2compress_scores_check(const accel_call* call);
int l2compress_scores_cpu(const accel_call* call);
int l2compress_victim_check(const accel_call* call);
int l2compress_victim_cpu(const accel_call* call);

#if ACCEL_WITH_CUDA
// The same on the device. `most` is what no head has more rows of.
int score_on_cuda(const accel_call* call, float* out, int64_t stride, int64_t most);
int l2compress_scores_cuda(const accel_call* call);
int l2compress_victim_cuda(const accel_call* call);
#else
constexpr accel_op_fn l2compress_scores_cuda = nullptr;
constexpr accel_op_fn l2compress_victim_cuda = nullptr;
#endif

}  // namespace accel_l2compress
#endif
