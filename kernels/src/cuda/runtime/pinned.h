// Host memory that the device copies from and to without the driver in between.
#ifndef ACCEL_CUDA_RUNTIME_PINNED_H
#define ACCEL_CUDA_RUNTIME_PINNED_H

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include "cuda/runtime/event.h"

namespace accel::cuda {

// Blocks of any size, kept for the next one; the process's, for all devices.
class PinnedBlocks {
 public:
  static PinnedBlocks& instance();
  // Throws ERR_ACCEL_OUT_OF_MEMORY.
  uint8_t* take(size_t bytes);
  void give(uint8_t* block, size_t bytes);

 private:
  std::mutex mutex_;
  std::map<size_t, std::vector<uint8_t*>> idle_;  // by size, a power of two
  size_t idle_bytes_ = 0;
};

// A stream's memory for what goes to the device with every step: lengths, page lists, tokens. It is used round and
// round; a part is used again when the work that was launched before it was left is done.
class UploadRing {
 public:
  explicit UploadRing(cudaStream_t stream) : stream_(stream) {}
  ~UploadRing();

  static constexpr size_t kMost = 1 << 20;
  // At most kMost bytes, 64-byte aligned, for one launch or copy that comes before the next `take`.
  uint8_t* take(size_t bytes);

 private:
  static constexpr int kParts = 4;
  cudaStream_t stream_;
  uint8_t* base_ = nullptr;
  int part_ = 0;
  size_t used_ = 0;
  Event left_[kParts];
};

}  // namespace accel::cuda
#endif
