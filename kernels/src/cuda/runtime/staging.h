// Large copies to the device: host memory → one of two pinned buffers (several threads) → device. While one buffer is
// on its way to the device, the other is filled.
#ifndef ACCEL_CUDA_RUNTIME_STAGING_H
#define ACCEL_CUDA_RUNTIME_STAGING_H

#include <mutex>

#include "cuda/runtime/event.h"

namespace accel::cuda {

class Staging {
 public:
  explicit Staging(int device) : device_(device) {}

  // In the order of `stream`. The host memory may be reused when it returns.
  void copy(void* device, const void* host, size_t bytes, cudaStream_t stream);
  // Returns when the device has it. Waits for no stream: small ones take microseconds.
  void fill(void* device, const void* host, size_t bytes);

 private:
  static constexpr size_t kHalf = 16 << 20;
  static constexpr size_t kSmall = 64 << 10;
  cudaStream_t own_stream();

  const int device_;
  std::mutex stream_mutex_;
  cudaStream_t stream_ = nullptr;

  std::mutex small_mutex_;
  unsigned char* small_ = nullptr;

  std::mutex mutex_;
  unsigned char* halves_ = nullptr;
  int next_ = 0;
  Event sent_[2];
};

}  // namespace accel::cuda
#endif
