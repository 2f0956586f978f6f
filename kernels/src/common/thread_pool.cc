#include "common/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "common/error.h"
#include "common/spin.h"

namespace accel {
namespace {

constexpr uint64_t kOpen = 1ull << 31;
constexpr uint64_t kInside = kOpen - 1;
constexpr int kMaxThreads = 512;
// Ranges a thread gets on average: enough to even out a slow core, few enough to cost nothing.
constexpr int64_t kRangesPerThread = 8;
constexpr std::chrono::microseconds kHelperSpin{50};

thread_local bool inside_pool = false;

uint64_t job_of(uint64_t gate) { return gate >> 32; }

int read_topology(int cpu, const char* what) {
  std::string path =
      "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/" + what;
  FILE* file = std::fopen(path.c_str(), "re");
  if (!file) return -1;
  int value = -1;
  if (std::fscanf(file, "%d", &value) != 1) value = -1;
  std::fclose(file);
  return value;
}

// Processor time the control group allows, in whole threads; a large number when unlimited.
int quota_threads() {
  FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "re");
  if (!file) return kMaxThreads;
  long long quota = 0;
  long long period = 0;
  int found = std::fscanf(file, "%lld %lld", &quota, &period);
  std::fclose(file);
  if (found != 2 || quota <= 0 || period <= 0) return kMaxThreads;
  return static_cast<int>(std::max<long long>(1, (quota + period - 1) / period));
}

int physical_cores() {
#if defined(__linux__)
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    std::set<std::pair<int, int>> cores;
    int logical = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      logical++;
      int core = read_topology(cpu, "core_id");
      if (core >= 0) cores.emplace(read_topology(cpu, "physical_package_id"), core);
    }
    int count = cores.empty() ? logical : static_cast<int>(cores.size());
    return std::clamp(std::min(count, quota_threads()), 1, kMaxThreads);
  }
#endif
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
}

}  // namespace

int ThreadPool::configured_threads() {
  const char* text = std::getenv("ACCEL_THREADS");
  if (!text || !*text) return physical_cores();
  char* end = nullptr;
  long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 1 || value > kMaxThreads) {
    fail("ERR_ACCEL_ARGUMENT",
         "ACCEL_THREADS is \"%s\"; set it to a number of threads from 1 to %d, or unset it", text,
         kMaxThreads);
  }
  return static_cast<int>(value);
}

ThreadPool& ThreadPool::instance() {
  static ThreadPool* pool = new ThreadPool(configured_threads());
  return *pool;
}

ThreadPool::ThreadPool(int threads) : threads_(threads) {
  for (int worker = 1; worker < threads; worker++) {
    std::thread([this, worker] { help(worker); }).detach();
  }
}

void ThreadPool::run(int64_t n, int64_t grain, accel_range_fn fn, void* user) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  int64_t chunk = std::max(grain, (n + threads_ * kRangesPerThread - 1) / (threads_ * kRangesPerThread));
  bool alone = chunk >= n || threads_ == 1 || inside_pool || !busy_.try_lock();
  if (alone) {
    // The same ranges as with helpers, so that results do not depend on who else is computing.
    for (int64_t begin = 0; begin < n; begin += chunk) fn(user, begin, std::min(n, begin + chunk), 0);
    return;
  }
  std::lock_guard lock(busy_, std::adopt_lock);
  fn_ = fn;
  user_ = user;
  n_ = n;
  chunk_ = chunk;
  next_.store(0, std::memory_order_relaxed);
  uint64_t job = job_of(gate_.load(std::memory_order_relaxed)) + 1;
  gate_.store(job << 32 | kOpen, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    bell_.fetch_add(1, std::memory_order_seq_cst);
    bell_.notify_all();
  }
  work(0);
  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  auto all_out = [this] { return (gate_.load(std::memory_order_acquire) & kInside) == 0; };
  // A helper inside is in its last range; it may have lost its core, then yielding gives it ours.
  while (!spin_until(all_out, std::chrono::microseconds(1000))) {
  }
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::work(int worker) {
  inside_pool = true;
  try {
    for (;;) {
      int64_t begin = next_.fetch_add(chunk_, std::memory_order_relaxed);
      if (begin >= n_) break;
      fn_(user_, begin, std::min(n_, begin + chunk_), worker);
    }
  } catch (...) {
    next_.store(n_, std::memory_order_relaxed);
    record(std::current_exception());
  }
  inside_pool = false;
}

void ThreadPool::record(std::exception_ptr error) {
  std::lock_guard lock(error_mutex_);
  if (!error_) error_ = std::move(error);
}

void ThreadPool::help(int worker) {
  uint64_t done = 0;
  for (;;) {
    auto has_job = [&] {
      uint64_t gate = gate_.load(std::memory_order_seq_cst);
      return (gate & kOpen) != 0 && job_of(gate) != done;
    };
    if (!spin_until(has_job, kHelperSpin)) {
      uint32_t rung = bell_.load(std::memory_order_seq_cst);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      if (!has_job()) bell_.wait(rung, std::memory_order_seq_cst);
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
      continue;
    }
    uint64_t gate = gate_.load(std::memory_order_relaxed);
    while ((gate & kOpen) != 0 && job_of(gate) != done) {
      if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) continue;
      work(worker);
      gate_.fetch_sub(1, std::memory_order_acq_rel);
      done = job_of(gate);
      break;
    }
  }
}

}  // namespace accel
