// Threads that copy out of a memory map. One thread gets about 2 GB/s there, because it spends its time on page faults;
// several get what the memory gives.
#ifndef ACCEL_CUDA_RUNTIME_COPY_THREADS_H
#define ACCEL_CUDA_RUNTIME_COPY_THREADS_H

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace accel::cuda {

class CopyThreads {
 public:
  // Started on first use, never joined. The calling thread is one of them.
  static CopyThreads& instance();
  // One copy at a time; others wait.
  void copy(uint8_t* to, const uint8_t* from, size_t bytes);

 private:
  CopyThreads();
  void help();
  void work();

  const int helpers_;
  std::mutex one_;  // copy at a time
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  uint64_t job_ = 0;
  int busy_ = 0;
  uint8_t* to_ = nullptr;
  const uint8_t* from_ = nullptr;
  size_t bytes_ = 0;
  std::atomic<size_t> next_{0};
};

}  // namespace accel::cuda
#endif
