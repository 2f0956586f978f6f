#include "cuda/runtime/progress.h"

#include <algorithm>

#include "common/error.h"

namespace accel::cuda {
namespace {

constexpr size_t kMarks = 64;  // more say nothing that matters

}  // namespace

void Progress::mark(cudaStream_t stream, uint64_t now) {
  std::lock_guard lock(mutex_);
  Event event;
  if (!spare_.empty()) {
    event = std::move(spare_.back());
    spare_.pop_back();
  } else if (marks_.size() >= kMarks) {
    event = std::move(marks_.back().second);  // the next mark stands for this one too
    marks_.pop_back();
  }
  event.record(stream);
  marks_.emplace_back(now, std::move(event));
}

void Progress::reached(uint64_t time) {
  uint64_t before = done_.load(std::memory_order_seq_cst);
  while (before < time && !done_.compare_exchange_weak(before, time)) {
  }
}

void Progress::look() {
  std::lock_guard lock(mutex_);
  try {
    while (!marks_.empty() && marks_.front().second.done()) {
      reached(marks_.front().first);
      spare_.push_back(std::move(marks_.front().second));
      marks_.pop_front();
    }
  } catch (const Failure&) {
    // The work that failed tells its stream; here it only means that nothing is known.
  }
}

bool Progress::past(uint64_t time) {
  auto enough = [&] { return done_.load(std::memory_order_seq_cst) >= std::min(time, launched_.load(std::memory_order_seq_cst)); };
  if (enough()) return true;
  look();
  return enough();
}

void Clock::add(std::shared_ptr<Progress> stream) {
  std::lock_guard lock(mutex_);
  streams_.push_back(std::move(stream));
}

void Clock::remove(const std::shared_ptr<Progress>& stream) {
  std::lock_guard lock(mutex_);
  std::erase(streams_, stream);
}

bool Clock::one_stream() {
  std::lock_guard lock(mutex_);
  return streams_.size() == 1;
}

bool Clock::past(uint64_t time) {
  std::lock_guard lock(mutex_);
  return std::all_of(streams_.begin(), streams_.end(), [&](auto& stream) { return stream->past(time); });
}

}  // namespace accel::cuda
