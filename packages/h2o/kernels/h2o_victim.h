// What the CPU and the CUDA version of h2o_victim share: the arguments.
#ifndef ACCEL_H2O_VICTIM_H
#define ACCEL_H2O_VICTIM_H

#include "accel/op.h"

namespace accel_h2o {

enum { kOut, kKv, kTally, kKeep };

// The order in which rows leave, as one number: the row with the smallest leaves. First the bits of the score, arranged
// so that unsigned order is the order of scores (-0 counts as +0), then the row, latest first.
constexpr uint64_t kNobody = ~0ull;
#ifdef __CUDACC__
__host__ __device__
#endif
inline uint64_t departure(uint32_t score_bits, int32_t row) {
  const uint32_t bits = score_bits == 0x80000000u ? 0 : score_bits;
  const uint32_t key = bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
  return static_cast<uint64_t>(key) << 32 | (0xffffffffu - static_cast<uint32_t>(row));
}
#ifdef __CUDACC__
__host__ __device__
#endif
inline int32_t row_of(uint64_t departure) {
  return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(departure));
}

#if ACCEL_WITH_CUDA
int h2o_victim_cuda(const accel_call* call);  // h2o_victim.cu
#else
constexpr accel_op_fn h2o_victim_cuda = nullptr;
#endif

}  // namespace accel_h2o
#endif
