// KV arguments as kernels on a device see them.
#ifndef ACCEL_CUDA_RUNTIME_KV_H
#define ACCEL_CUDA_RUNTIME_KV_H

#include <algorithm>
#include <bit>
#include <cstdint>

#include "accel/op.h"

namespace accel::cuda {

// What grids are chosen by: rows of the longest head, rounded up to a power of two, so that a graph serves many steps.
inline int32_t row_limit(const accel_kv& kv) {
  int32_t most = 1024;
  for (int32_t i = 0; i < kv.sequences * kv.heads; i++) most = std::max(most, kv.head[i].rows);
  return static_cast<int32_t>(std::min<uint32_t>(std::bit_ceil(static_cast<uint32_t>(most)), INT32_MAX));
}

inline size_t heads_bytes(const accel_kv& kv) {
  return static_cast<size_t>(kv.sequences) * kv.heads * sizeof(accel_kv_head);
}

}  // namespace accel::cuda
#endif
