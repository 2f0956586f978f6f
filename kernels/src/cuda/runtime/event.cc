#include "cuda/runtime/event.h"

#include <unistd.h>

#include <algorithm>

#include "common/spin.h"
#include "cuda/runtime/check.h"

namespace accel::cuda {

Event::~Event() {
  if (event_ && !exiting()) cudaEventDestroy(event_);
}

void Event::record(cudaStream_t stream) {
  if (!event_) check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event");
  check(cudaEventRecord(event_, stream), "recording an event");
  recorded_ = true;
}

bool Event::done() {
  if (!recorded_) return true;
  InsideCuda inside;
  if (!inside) fail("ERR_ACCEL_ABORTED", "the process is ending");
  cudaError_t state = cudaEventQuery(event_);
  if (state == cudaErrorNotReady) {
    cudaGetLastError();  // this is no error, and must not be taken for one of a launch
    return false;
  }
  recorded_ = false;
  check(state, "work on the device");
  return true;
}

void Event::wait() {
  for (Patience patience; !done();) patience.wait();
}

void Patience::wait() {
  // About 5 µs a look for the first 20 ms, then sleeps of 50 µs to 1 ms.
  if (looks_++ < 4000) {
    for (int i = 0; i < 60; i++) cpu_relax();
    if (looks_ % 8 == 0) sched_yield();
  } else {
    usleep(static_cast<useconds_t>(std::min(1000, 50 + (looks_ - 4000) / 4)));
  }
}

}  // namespace accel::cuda
