// A small host for ops in native tests and benchmarks: threads, scratch and error reports behind accel_call.
// The runtime proper is src/common; this one has no streams and no Node.
#ifndef ACCEL_TEST_HOST_H
#define ACCEL_TEST_HOST_H

#include <immintrin.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "accel/op.h"

namespace accel::test {

class Host {
 public:
  explicit Host(int threads) : threads_(threads) {
    call_.threads = threads;
    call_.device = {ACCEL_DEVICE_CPU, 0};
    call_.host = this;
    call_.parallel = parallel;
    call_.scratch = scratch;
    call_.ran = ran;
    call_.fail = fail;
    for (int id = 1; id < threads; ++id) pool_.emplace_back([this, id] { work(id); });
  }
  Host(const Host&) = delete;
  ~Host() {
    stop_ = true;
    generation_.fetch_add(1);
    generation_.notify_all();
    for (std::thread& t : pool_) t.join();
    for (void* p : blocks_) free(p);
  }

  // Runs check and kernel; returns false after a failure, with `error` set.
  template <class Check, class Run>
  bool run(const accel_arg* args, int count, Check check, Run op) {
    call_.args = args;
    call_.nargs = count;
    error.clear();
    kernel.clear();
    used_ = 0;
    return check(&call_) == ACCEL_OK && op(&call_) == ACCEL_OK;
  }

  std::string error, kernel;

 private:
  static Host& of(const accel_call* call) { return *static_cast<Host*>(call->host); }

  static void parallel(const accel_call* call, int64_t n, int64_t grain, accel_range_fn fn, void* user) {
    Host& host = of(call);
    if (n <= 0) return;
    const int64_t ranges = (n + grain - 1) / grain;
    if (host.threads_ == 1 || ranges == 1) return fn(user, 0, n, 0);
    host.fn_ = fn;
    host.user_ = user;
    host.n_ = n;
    // Guided: several ranges a thread, so that a delayed thread does not hold up the rest.
    const int64_t most = host.threads_ * 4;
    host.step_ = ranges <= most ? grain : (n + most - 1) / most;
    host.next_ = 0;
    host.busy_ = host.threads_ - 1;
    host.generation_.fetch_add(1);
    host.generation_.notify_all();
    host.take(0);
    while (host.busy_.load() != 0) _mm_pause();
  }
  void take(int worker) {
    for (;;) {
      const int64_t begin = next_.fetch_add(step_);
      if (begin >= n_) return;
      fn_(user_, begin, begin + step_ < n_ ? begin + step_ : n_, worker);
    }
  }
  void work(int id) {
    uint64_t seen = 0;
    for (;;) {
      for (int spins = 0; generation_.load() == seen; ++spins) {
        if (spins < 2000) _mm_pause();
        else generation_.wait(seen);  // leaves the core to whatever runs between our calls
      }
      ++seen;
      if (stop_) return;
      take(id);
      busy_.fetch_sub(1);
    }
  }
  static void* scratch(const accel_call* call, size_t bytes) {
    Host& host = of(call);
    const size_t index = host.used_++;
    if (index == host.blocks_.size()) {
      host.blocks_.push_back(nullptr);
      host.sizes_.push_back(0);
    }
    if (host.sizes_[index] < bytes) {
      free(host.blocks_[index]);
      host.sizes_[index] = (bytes + 4095) / 4096 * 4096;
      host.blocks_[index] = aligned_alloc(4096, host.sizes_[index]);
    }
    return host.blocks_[index];
  }
  static void ran(const accel_call* call, const char* name) { of(call).kernel = name; }
  static int fail(const accel_call* call, const char* code, const char* format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    of(call).error = std::string(code) + ": " + text;
    return ACCEL_FAILED;
  }

  int threads_;
  accel_call call_{};
  std::vector<std::thread> pool_;
  std::vector<void*> blocks_;
  std::vector<size_t> sizes_;
  size_t used_ = 0;
  accel_range_fn fn_ = nullptr;
  void* user_ = nullptr;
  int64_t n_ = 0, step_ = 1;
  std::atomic<int64_t> next_{0};
  std::atomic<int> busy_{0};
  std::atomic<uint64_t> generation_{0};
  std::atomic<bool> stop_{false};
};

// A dense tensor over memory owned elsewhere.
struct View {
  int64_t shape[3];
  accel_tensor tensor;
  View(void* data, accel_dtype dtype, int64_t a, int64_t b = -1) : shape{a, b, -1} {
    tensor = {data, {ACCEL_DEVICE_CPU, 0}, b < 0 ? 1 : 2, dtype, shape, nullptr, 0};
  }
  View(const View&) = delete;
};

inline accel_arg arg(const accel_tensor* t) {
  accel_arg a{};
  a.kind = ACCEL_ARG_TENSOR;
  a.tensor = t;
  return a;
}
inline accel_arg arg(int64_t i) {
  accel_arg a{};
  a.kind = ACCEL_ARG_INT;
  a.i = i;
  return a;
}

}  // namespace accel::test
#endif
