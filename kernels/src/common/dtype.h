// The dtypes of tensors. The numbers are the order of DTYPES in kernels/ts/dtype.ts.
#ifndef ACCEL_COMMON_DTYPE_H
#define ACCEL_COMMON_DTYPE_H

#include <cstddef>
#include <cstdint>

#include "accel/tensor.h"

namespace accel {

enum class DType : int32_t { float32, bfloat16, float16, float64, int32, uint8 };
inline constexpr int kDTypes = 6;

inline accel_dtype dtype_code(DType dtype) {
  static constexpr accel_dtype codes[kDTypes] = {
      {ACCEL_FLOAT, 32, 1}, {ACCEL_BFLOAT, 16, 1}, {ACCEL_FLOAT, 16, 1},
      {ACCEL_FLOAT, 64, 1}, {ACCEL_INT, 32, 1},    {ACCEL_UINT, 8, 1},
  };
  return codes[static_cast<int>(dtype)];
}

inline const char* dtype_name(DType dtype) {
  static constexpr const char* names[kDTypes] = {"float32", "bfloat16", "float16",
                                                 "float64", "int32",    "uint8"};
  return names[static_cast<int>(dtype)];
}

inline size_t dtype_bytes(DType dtype) { return dtype_code(dtype).bits / 8; }

// Widens `count` bfloat16 or float16 values to float32, exactly.
void widen(DType dtype, const uint16_t* from, float* to, size_t count);

}  // namespace accel
#endif
