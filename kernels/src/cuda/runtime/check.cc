#include "cuda/runtime/check.h"

#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <mutex>

namespace accel::cuda {
namespace {

std::atomic<bool> ending{false};
std::atomic<int> inside{0};

void end() {
  ending.store(true, std::memory_order_seq_cst);
  while (inside.load(std::memory_order_seq_cst) > 0) sched_yield();
}

}  // namespace

bool exiting() { return ending.load(std::memory_order_relaxed); }

void watch_exit() {
  static std::once_flag once;
  std::call_once(once, [] { std::atexit(end); });
}

InsideCuda::InsideCuda() {
  inside.fetch_add(1, std::memory_order_seq_cst);
  allowed_ = !ending.load(std::memory_order_seq_cst);
}

InsideCuda::~InsideCuda() { inside.fetch_sub(1, std::memory_order_seq_cst); }

}  // namespace accel::cuda
