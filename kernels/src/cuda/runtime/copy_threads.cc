#include "cuda/runtime/copy_threads.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>

namespace accel::cuda {
namespace {

constexpr size_t kPiece = 1 << 20;

// Maps the pages of a piece in one go, where the kernel can (Linux 5.14); else each is a fault of its own.
void populate(const uint8_t* from, size_t bytes) {
#if defined(__linux__)
  constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ; older headers do not name it
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  uintptr_t begin = reinterpret_cast<uintptr_t>(from) & ~(page - 1);
  uintptr_t end = (reinterpret_cast<uintptr_t>(from) + bytes + page - 1) & ~(page - 1);
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, kPopulateRead);
#else
  (void)from;
  (void)bytes;
#endif
}

}  // namespace

CopyThreads& CopyThreads::instance() {
  static auto* threads = new CopyThreads;
  return *threads;
}

CopyThreads::CopyThreads() : helpers_(std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, 16) - 1) {
  for (int i = 0; i < helpers_; i++) std::thread([this] { help(); }).detach();
}

void CopyThreads::copy(uint8_t* to, const uint8_t* from, size_t bytes) {
  if (bytes <= kPiece) {
    std::memcpy(to, from, bytes);
    return;
  }
  std::lock_guard one(one_);
  {
    std::lock_guard lock(mutex_);
    to_ = to;
    from_ = from;
    bytes_ = bytes;
    next_.store(0);
    busy_ = helpers_;
    job_++;
  }
  wake_.notify_all();
  work();
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return busy_ == 0; });
}

void CopyThreads::work() {
  for (;;) {
    size_t at = next_.fetch_add(kPiece);
    if (at >= bytes_) return;
    size_t bytes = std::min(kPiece, bytes_ - at);
    populate(from_ + at, bytes);
    std::memcpy(to_ + at, from_ + at, bytes);
  }
}

void CopyThreads::help() {
  uint64_t seen = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return job_ != seen; });
      seen = job_;
    }
    work();
    std::lock_guard lock(mutex_);
    if (--busy_ == 0) done_.notify_one();
  }
}

}  // namespace accel::cuda
