// The runtime's own kernels. All are small: what counts is that one launch does everything a step needs, and that
// nothing waits for the host. Their inputs lie in pinned host memory that the device reads directly, which for a few
// kilobytes takes less time than a copy of its own would.
#include "cuda/runtime/device_code.h"

namespace accel::cuda {
namespace {

constexpr int kThreads = 128;

// One block a run: the runs of a decode step are the heads of a layer (some hundred words) and single page numbers.
__global__ void __launch_bounds__(kThreads) scatter(const ScatterRun* runs, int count, const uint32_t* words) {
  for (int r = blockIdx.x; r < count; r += gridDim.x) {
    const ScatterRun run = runs[r];
    for (uint32_t i = threadIdx.x; i < run.count; i += kThreads) run.to[i] = words[run.from + i];
  }
}

__global__ void __launch_bounds__(kThreads) copy_pages(uint8_t* base, size_t page_bytes, const int32_t* pairs,
                                                       int count) {
  const size_t vectors = page_bytes / sizeof(uint4);
  for (int p = blockIdx.x; p < count; p += gridDim.x) {
    const auto* from = reinterpret_cast<const uint4*>(base + pairs[2 * p] * page_bytes);
    auto* to = reinterpret_cast<uint4*>(base + pairs[2 * p + 1] * page_bytes);
    for (size_t i = threadIdx.x; i < vectors; i += kThreads) to[i] = from[i];
  }
}

__global__ void take_error(accel_device_error* error, accel_device_error* out) {
  *out = *error;
  error->check = 0;
}

}  // namespace

cudaError_t launch_scatter(const ScatterRun* runs, int count, const uint32_t* words, cudaStream_t stream) {
  scatter<<<count < 2048 ? count : 2048, kThreads, 0, stream>>>(runs, count, words);
  return cudaGetLastError();
}

cudaError_t launch_copy_pages(uint8_t* base, size_t page_bytes, const int32_t* pairs, int count, cudaStream_t stream) {
  copy_pages<<<count < 4096 ? count : 4096, kThreads, 0, stream>>>(base, page_bytes, pairs, count);
  return cudaGetLastError();
}

cudaError_t launch_take_error(accel_device_error* error, accel_device_error* out, cudaStream_t stream) {
  take_error<<<1, 1, 0, stream>>>(error, out);
  return cudaGetLastError();
}

}  // namespace accel::cuda
