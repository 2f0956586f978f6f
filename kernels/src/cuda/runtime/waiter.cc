#include "cuda/runtime/waiter.h"

#include <cstring>

#include "cuda/runtime/check.h"
#include "cuda/runtime/pinned.h"

namespace accel::cuda {

Waiter::~Waiter() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Waiter::add(Arrival arrival) {
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(arrival));
  }
  wake_.notify_one();
}

void Waiter::work() {
  if (!exiting()) cudaSetDevice(device_);
  for (;;) {
    Arrival next;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return ended_ || !queue_.empty(); });
      if (queue_.empty()) return;
      next = std::move(queue_.front());
      queue_.pop_front();
    }
    arrive(next);
  }
}

void Waiter::arrive(Arrival& arrival) {
  if (!arrival.failure) {
    try {
      arrival.event.wait();
      progress_.reached(arrival.time);
      for (Download& download : arrival.downloads) std::memcpy(download.host, download.pinned, download.bytes);
      if (arrival.error) arrival.failure = checks_.found(*arrival.error);
    } catch (const Failure& failure) {
      arrival.failure = failure;
    }
  }
  for (Download& download : arrival.downloads) PinnedBlocks::instance().give(download.pinned, download.bytes);
  if (arrival.error) {
    PinnedBlocks::instance().give(reinterpret_cast<uint8_t*>(arrival.error), sizeof(accel_device_error));
  }
  arrival.done(arrival.failure ? &*arrival.failure : nullptr);
}

}  // namespace accel::cuda
