// The compute threads of this process: one pool for all streams, so that the machine is never oversubscribed.
//
// A pool of n threads has n - 1 helpers; the stream worker that calls `run` is the n-th. When two streams want the
// pool at the same time, the second one computes on its own thread instead of waiting.
#ifndef ACCEL_COMMON_THREAD_POOL_H
#define ACCEL_COMMON_THREAD_POOL_H

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

#include "accel/op.h"

namespace accel {

class ThreadPool {
 public:
  // The pool; started on first use, never joined: helpers may be running while the process exits.
  static ThreadPool& instance();

  // Threads a pool has: ACCEL_THREADS, or the physical cores this process may use. Throws on a bad ACCEL_THREADS.
  static int configured_threads();

  int threads() const { return threads_; }

  // Splits [0, n) into ranges of at least `grain` and runs fn on all threads; a thread may get several ranges.
  // Rethrows the first exception of fn when all threads are done.
  void run(int64_t n, int64_t grain, accel_range_fn fn, void* user);

 private:
  explicit ThreadPool(int threads);
  void help(int worker);
  void work(int worker);
  void record(std::exception_ptr error);

  const int threads_;
  std::mutex busy_;

  // The job. Written while no helper is inside, read by helpers that entered through `gate_`.
  accel_range_fn fn_ = nullptr;
  void* user_ = nullptr;
  int64_t n_ = 0;
  int64_t chunk_ = 1;
  alignas(64) std::atomic<int64_t> next_{0};
  // job number << 32 | open << 31 | helpers inside. A helper enters only while the job is open, so a helper that wakes
  // late finds the gate shut and never touches the next job's fields.
  alignas(64) std::atomic<uint64_t> gate_{0};
  alignas(64) std::atomic<uint32_t> bell_{0};
  std::atomic<int> sleepers_{0};
  std::mutex error_mutex_;
  std::exception_ptr error_;
};

}  // namespace accel
#endif
