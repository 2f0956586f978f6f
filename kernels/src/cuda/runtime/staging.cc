#include "cuda/runtime/staging.h"

#include <algorithm>
#include <cstring>

#include "cuda/runtime/check.h"
#include "cuda/runtime/copy_threads.h"
#include "cuda/runtime/pinned.h"

namespace accel::cuda {

cudaStream_t Staging::own_stream() {
  std::lock_guard lock(stream_mutex_);
  if (!stream_) check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream for copies");
  return stream_;
}

void Staging::copy(void* device, const void* host, size_t bytes, cudaStream_t stream) {
  auto* to = static_cast<uint8_t*>(device);
  auto* from = static_cast<const uint8_t*>(host);
  while (bytes > 0) {
    size_t part = std::min(bytes, kHalf);
    std::lock_guard lock(mutex_);  // for a part only, so that copies of several threads share the buffers
    if (!halves_) halves_ = PinnedBlocks::instance().take(2 * kHalf);
    int half = next_;
    next_ ^= 1;
    sent_[half].wait();
    uint8_t* buffer = halves_ + half * kHalf;
    CopyThreads::instance().copy(buffer, from, part);
    check(cudaMemcpyAsync(to, buffer, part, cudaMemcpyHostToDevice, stream), "copying to the device");
    sent_[half].record(stream);
    to += part;
    from += part;
    bytes -= part;
  }
}

void Staging::fill(void* device, const void* host, size_t bytes) {
  check(cudaSetDevice(device_), "choosing the device");
  cudaStream_t stream = own_stream();
  Event done;
  if (bytes > kSmall) {
    copy(device, host, bytes, stream);
    done.record(stream);
    done.wait();
    return;
  }
  std::lock_guard lock(small_mutex_);
  if (!small_) small_ = PinnedBlocks::instance().take(kSmall);
  std::memcpy(small_, host, bytes);
  check(cudaMemcpyAsync(device, small_, bytes, cudaMemcpyHostToDevice, stream), "copying to the device");
  done.record(stream);
  done.wait();
}

}  // namespace accel::cuda
