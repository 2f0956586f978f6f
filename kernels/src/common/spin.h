// Short waiting without a system call. Waiting for a few microseconds is cheaper than sleeping, but only a little of
// it: with as many busy threads as cores, a spinning thread takes time from one that has work.
#ifndef ACCEL_COMMON_SPIN_H
#define ACCEL_COMMON_SPIN_H

#include <sched.h>

#include <chrono>

namespace accel {

inline void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Calls `ready` until it is true or `limit` is over; returns its last answer. After the first microseconds the thread
// offers its core to others between looks.
template <typename Ready>
bool spin_until(Ready ready, std::chrono::microseconds limit) {
  for (int i = 0; i < 200; i++) {
    if (ready()) return true;
    cpu_relax();
  }
  auto end = std::chrono::steady_clock::now() + limit;
  do {
    for (int i = 0; i < 8; i++) {
      if (ready()) return true;
      cpu_relax();
    }
    sched_yield();
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

}  // namespace accel
#endif
