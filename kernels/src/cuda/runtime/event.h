// CUDA events: marks in a stream that tell when everything before them is done.
#ifndef ACCEL_CUDA_RUNTIME_EVENT_H
#define ACCEL_CUDA_RUNTIME_EVENT_H

#include <cuda_runtime_api.h>

#include <utility>

namespace accel::cuda {

// Owns one event, made when it is first recorded.
class Event {
 public:
  Event() = default;
  Event(Event&& other) noexcept
      : event_(std::exchange(other.event_, nullptr)), recorded_(std::exchange(other.recorded_, false)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    std::swap(recorded_, other.recorded_);
    return *this;
  }
  ~Event();

  void record(cudaStream_t stream);
  // True when there is nothing to wait for. Throws what went wrong in the work before it.
  bool done();
  // Returns when it is done; the thread sleeps if that takes long. Throws when the process ends meanwhile.
  void wait();

 private:
  cudaEvent_t event_ = nullptr;
  bool recorded_ = false;
};

// Looks again and again, less and less often: a step of decoding ends within microseconds of being noticed, a long
// prefill costs no core.
class Patience {
 public:
  void wait();

 private:
  int looks_ = 0;
};

}  // namespace accel::cuda
#endif
