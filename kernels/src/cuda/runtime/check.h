// CUDA's error codes as failures of the runtime.
#ifndef ACCEL_CUDA_RUNTIME_CHECK_H
#define ACCEL_CUDA_RUNTIME_CHECK_H

#include <cuda_runtime_api.h>

#include "common/error.h"

namespace accel::cuda {

// Throws ERR_ACCEL_INTERNAL with CUDA's text. Errors of kernels show up here too, at whatever call comes next.
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  fail("ERR_ACCEL_INTERNAL", "CUDA: %s failed: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

// The process is ending: CUDA takes itself apart, so threads that are still there leave it alone.
bool exiting();
// Registered after CUDA's own exit handlers, to run before them. From here on `exiting` is true at the end.
void watch_exit();

// While one of these exists, the end of the process waits. For threads that ask CUDA again and again.
class InsideCuda {
 public:
  InsideCuda();
  ~InsideCuda();
  InsideCuda(const InsideCuda&) = delete;
  // False when the process is ending: no call may be made.
  explicit operator bool() const { return allowed_; }

 private:
  bool allowed_;
};

}  // namespace accel::cuda
#endif
