#ifndef ACCEL_CUDA_RUNTIME_KERNELS_H
#define ACCEL_CUDA_RUNTIME_KERNELS_H

#include <vector>

#include "common/backend_registry.h"

namespace accel::cuda {

// The functions of all built-in ops.
const std::vector<BackendKernel>& kernels();

}  // namespace accel::cuda
#endif
