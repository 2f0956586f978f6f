// Device memory for tensors, in blocks that are kept for the next tensor of about the same size.
//
// A block that was let go may still be in use by work that has been launched. It is given out again
//   to the host (FirstUse::host)     when that work is done; the oldest block first, which is the likeliest;
//   to a stream (FirstUse::stream)   likewise, but at once while the device has one stream, which is the usual case:
//                                    whatever comes next comes after. The newest block first then, so that a loop gets
//                                    the same addresses in every round, and its graphs match.
// Blocks below 1 MB are cut from slabs and have sizes of eight classes per doubling; larger ones are allocations of
// their own in units of 2 MB.
#ifndef ACCEL_CUDA_RUNTIME_MEMORY_H
#define ACCEL_CUDA_RUNTIME_MEMORY_H

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "common/backend.h"
#include "cuda/runtime/progress.h"

namespace accel::cuda {

class DeviceMemory {
 public:
  // `ledger` is for messages.
  DeviceMemory(int device, Ledger& ledger) : device_(device), ledger_(ledger) {}

  // Throws ERR_ACCEL_OUT_OF_MEMORY.
  void* take(size_t bytes, const char* what, FirstUse use);
  void give(void* data, size_t bytes);

  // Memory taken from the device elsewhere (pages): counts, and may be given back when there is too little. `retired`
  // is asked for what can go before the device is waited for; what it returns is called afterwards.
  void add_used(size_t bytes);
  void remove_used(size_t bytes) { used_.fetch_sub(bytes); }
  void on_collect(std::function<std::function<void()>()> retired) { retired_ = std::move(retired); }
  // Waits for the device and returns all idle memory to it. False on a thread that captures a graph: it cannot wait.
  bool collect();
  [[noreturn]] void out_of_memory(size_t bytes, const char* what);

  MemoryInfo info(size_t total);
  void reset_peak() { peak_.store(used_.load()); }
  Clock& clock() { return clock_; }

  // Held while a graph is captured: nobody may wait for the whole device then, nor free memory of it.
  class Capture {
   public:
    explicit Capture(DeviceMemory& memory);
    ~Capture();

   private:
    std::lock_guard<std::mutex> lock_;
  };
  std::mutex& capture_mutex() { return capture_; }

 private:
  struct Idle {
    void* data;
    uint64_t time;  // of letting go
  };
  using IdleList = std::deque<Idle>;
  static constexpr size_t kClasses = 96;

  void* take_idle(IdleList& list, FirstUse use);
  void* take_small(size_t index, size_t bytes, const char* what, FirstUse use);
  void* take_large(size_t bytes, const char* what, FirstUse use);
  void* take_large_idle(size_t bytes, size_t most, FirstUse use);
  void* from_device(size_t bytes, const char* what);

  const int device_;
  Ledger& ledger_;
  Clock clock_;
  std::function<std::function<void()>()> retired_;
  std::mutex capture_;

  std::mutex mutex_;
  IdleList small_[kClasses];
  std::map<size_t, IdleList> large_;
  std::unordered_map<void*, size_t> large_bytes_;
  uint8_t* slab_ = nullptr;
  size_t slab_left_ = 0;

  std::atomic<size_t> used_{0};
  std::atomic<size_t> peak_{0};
  std::atomic<size_t> idle_{0};
};

}  // namespace accel::cuda
#endif
