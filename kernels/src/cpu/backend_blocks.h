// Host memory in blocks of fixed sizes. Freed blocks are kept for the next tensor of about the same size: a forward
// pass frees and takes the same activations again and again, and fresh pages from the system would be faulted in and
// zeroed every time.
#ifndef ACCEL_CPU_BACKEND_BLOCKS_H
#define ACCEL_CPU_BACKEND_BLOCKS_H

#include <atomic>
#include <cstddef>
#include <mutex>
#include <vector>

namespace accel::cpu {

class BlockCache {
 public:
  // 64-byte aligned, uninitialised. NULL when the system gives no more, or has visibly too little left.
  void* take(size_t bytes);
  void give(void* block, size_t bytes);
  // Returns all idle blocks to the system.
  void flush();
  size_t idle_bytes() const { return idle_bytes_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kClasses = 400;
  void* from_system(size_t bytes);

  std::mutex mutex_;
  std::vector<void*> idle_[kClasses];
  std::atomic<size_t> idle_bytes_{0};
  size_t idle_limit_ = 0;
};

}  // namespace accel::cpu
#endif
