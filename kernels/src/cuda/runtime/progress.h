// How far the streams of a device are: what decides when memory that was let go may be used again.
//
// There is one clock, which every launch moves on. Memory is stamped with the time at which it was let go; by then
// everything that uses it has been launched. It is idle when each stream has either done all it was given, or has done
// everything it was given before that time.
#ifndef ACCEL_CUDA_RUNTIME_PROGRESS_H
#define ACCEL_CUDA_RUNTIME_PROGRESS_H

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/runtime/event.h"

namespace accel::cuda {

// Of one stream.
class Progress {
 public:
  // By the stream's worker, before it launches something.
  void launch(uint64_t now) { launched_.store(now, std::memory_order_seq_cst); }
  // By the worker: from this point of the stream on, everything launched up to `now` is done. Not while capturing.
  void mark(cudaStream_t stream, uint64_t now);
  // By anyone who knows that what was launched up to `time` is done.
  void reached(uint64_t time);
  // Everything launched up to `time` is done, as far as can be seen.
  bool past(uint64_t time);

 private:
  void look();

  std::atomic<uint64_t> launched_{0};
  std::atomic<uint64_t> done_{0};
  std::mutex mutex_;
  std::deque<std::pair<uint64_t, Event>> marks_;
  std::vector<Event> spare_;
};

class Clock {
 public:
  uint64_t now() const { return time_.load(std::memory_order_seq_cst); }
  uint64_t tick() { return time_.fetch_add(1, std::memory_order_seq_cst) + 1; }

  void add(std::shared_ptr<Progress> stream);
  void remove(const std::shared_ptr<Progress>& stream);
  // With one stream, memory it will use next need not be idle: its work is in order.
  bool one_stream();
  bool past(uint64_t time);

 private:
  std::atomic<uint64_t> time_{1};
  std::mutex mutex_;
  std::vector<std::shared_ptr<Progress>> streams_;
};

}  // namespace accel::cuda
#endif
