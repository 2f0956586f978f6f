// The runtime's own kernels: they bring page lists up to date, copy pages, and hand over data errors.
#ifndef ACCEL_CUDA_RUNTIME_DEVICE_CODE_H
#define ACCEL_CUDA_RUNTIME_DEVICE_CODE_H

#include <cuda_runtime_api.h>

#include <cstdint>

#include "accel/op.h"

namespace accel::cuda {

// `count` 32-bit words from words + from go to `to`.
struct ScatterRun {
  uint32_t* to;
  uint32_t from;
  uint32_t count;
};

// `runs` and `words` are pinned host memory; the kernel reads them over the bus once.
cudaError_t launch_scatter(const ScatterRun* runs, int count, const uint32_t* words, cudaStream_t stream);

// Page pairs[2i] to page pairs[2i + 1]; page_bytes is a multiple of 16. `pairs` is pinned host memory.
cudaError_t launch_copy_pages(uint8_t* base, size_t page_bytes, const int32_t* pairs, int count, cudaStream_t stream);

// Moves what kernels reported to `out` (pinned host memory) and clears it.
cudaError_t launch_take_error(accel_device_error* error, accel_device_error* out, cudaStream_t stream);

}  // namespace accel::cuda
#endif
