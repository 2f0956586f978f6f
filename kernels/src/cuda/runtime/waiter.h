// A thread that waits for the device, so that a stream's worker never has to: it tells whoever asked that work is done.
#ifndef ACCEL_CUDA_RUNTIME_WAITER_H
#define ACCEL_CUDA_RUNTIME_WAITER_H

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "cuda/runtime/checks.h"
#include "cuda/runtime/progress.h"

namespace accel::cuda {

// Something the device copies to pinned memory, and where it has to go from there.
struct Download {
  uint8_t* pinned;
  void* host;
  size_t bytes;
};

// A point of a stream, and what happens when the device has come to it.
struct Arrival {
  Event event;
  uint64_t time = 0;  // what was launched up to then is before the point
  std::vector<Download> downloads;
  accel_device_error* error = nullptr;  // pinned; what kernels before the point reported
  std::optional<Failure> failure;       // it is already known that the point is never reached
  std::function<void(const Failure*)> done;
};

class Waiter {
 public:
  Waiter(int device, Progress& progress, Checks& checks)
      : device_(device), progress_(progress), checks_(checks), thread_([this] { work(); }) {}
  // When everything that was added has arrived.
  ~Waiter();

  void add(Arrival arrival);

 private:
  void work();
  void arrive(Arrival& arrival);

  const int device_;
  Progress& progress_;
  Checks& checks_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Arrival> queue_;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace accel::cuda
#endif
