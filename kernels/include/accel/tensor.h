// Tensor descriptors that cross the op ABI.
//
// The structures have the memory layout of DLPack's DLTensor (https://dmlc.github.io/dlpack), so any DLPack
// producer or consumer can be connected without copying. Only what the ABI uses is declared here.
// Strides are always null: tensors that reach an op are dense and row major.
#ifndef ACCEL_TENSOR_H
#define ACCEL_TENSOR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ACCEL_DEVICE_CPU = 1, ACCEL_DEVICE_CUDA = 2 };                                  // DLDeviceType
enum { ACCEL_INT = 0, ACCEL_UINT = 1, ACCEL_FLOAT = 2, ACCEL_BFLOAT = 4 };             // DLDataTypeCode

typedef struct accel_device {
  int32_t type;
  int32_t index;
} accel_device;

typedef struct accel_dtype {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;  // always 1
} accel_dtype;

typedef struct accel_tensor {
  void* data;
  accel_device device;
  int32_t ndim;
  accel_dtype dtype;
  int64_t* shape;
  int64_t* strides;  // always NULL: dense, row major
  uint64_t byte_offset;
} accel_tensor;

#ifdef __cplusplus
}
#endif
#endif
