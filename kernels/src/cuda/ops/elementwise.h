// Ops of the elementwise table that have a file of their own.
#ifndef ACCEL_CUDA_OPS_ELEMENTWISE_H
#define ACCEL_CUDA_OPS_ELEMENTWISE_H

#include "accel/op.h"

namespace accel::cuda {

int rmsnorm(const accel_call* call);          // rmsnorm.cu
int count_nonfinite(const accel_call* call);  // count_nonfinite.cu

}  // namespace accel::cuda
#endif
