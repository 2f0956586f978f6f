// What the CPU and the CUDA versions of CakeKV's ops share: arguments and names.
#ifndef ACCEL_CAKEKV_H
#define ACCEL_CAKEKV_H

#include "accel/op.h"

namespace accel_cakekv {

// cake_statistics  indicator:tensor?, sums:tensor?, q:tensor, kv:kv, scale:float, gamma:float, window:int, sliding:int
enum Statistics { kIndicator, kSums, kQueries, kStatisticsKv, kScale, kGamma, kStatisticsWindow, kSliding };
// cake_pool        out:tensor, scores:tensor, prefix:int, size:int, rest:float
enum Pooling { kPooled, kScores, kPrefix, kSize, kRest };
// cake_victim      victims:tensor, kv:kv, attention:int, window:int, size:int
enum Victim { kVictims, kVictimKv, kVictimAttention, kVictimWindow, kVictimSize };
// cake_order       victims:tensor?, scores:tensor?, kv:kv, attention:int, order:int, window:int, size:int
enum Order { kOrderVictims, kOrderScores, kOrderKv, kOrderAttention, kOrderKey, kOrderWindow, kOrderSize };

constexpr int64_t kMaxPool = 127;

template <class T>
inline T* tensor_data(const accel_arg& arg) {
  return arg.tensor == nullptr
             ? nullptr
             : reinterpret_cast<T*>(static_cast<uint8_t*>(arg.tensor->data) + arg.tensor->byte_offset);
}

// Added to a probability inside the logarithm of the dispersion, as the original does.
constexpr float kLogFloor = 1e-10f;

int statistics_cpu(const accel_call* call);
int pool_cpu(const accel_call* call);
int victim_cpu(const accel_call* call);
int order_cpu(const accel_call* call);

#if ACCEL_WITH_CUDA
int statistics_cuda(const accel_call* call);
int pool_cuda(const accel_call* call);
int victim_cuda(const accel_call* call);
int order_cuda(const accel_call* call);
#else
constexpr accel_op_fn statistics_cuda = nullptr, pool_cuda = nullptr, victim_cuda = nullptr, order_cuda = nullptr;
#endif

}  // namespace accel_cakekv
#endif
