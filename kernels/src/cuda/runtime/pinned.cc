#include "cuda/runtime/pinned.h"

#include <algorithm>
#include <bit>

#include "cuda/runtime/check.h"

namespace accel::cuda {
namespace {

constexpr size_t kIdleBytes = 256 << 20;

size_t rounded(size_t bytes) { return std::bit_ceil(std::max<size_t>(bytes, 4096)); }

uint8_t* pin(size_t bytes) {
  void* block = nullptr;
  cudaError_t error = cudaHostAlloc(&block, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    fail("ERR_ACCEL_OUT_OF_MEMORY", "no host memory for %s that the device can copy from and to",
         format_bytes(static_cast<double>(bytes)).c_str());
  }
  check(error, "allocating pinned host memory");
  return static_cast<uint8_t*>(block);
}

}  // namespace

PinnedBlocks& PinnedBlocks::instance() {
  static auto* blocks = new PinnedBlocks;  // leaked: workers may use it while the process exits
  return *blocks;
}

uint8_t* PinnedBlocks::take(size_t bytes) {
  bytes = rounded(bytes);
  {
    std::lock_guard lock(mutex_);
    std::vector<uint8_t*>& idle = idle_[bytes];
    if (!idle.empty()) {
      uint8_t* block = idle.back();
      idle.pop_back();
      idle_bytes_ -= bytes;
      return block;
    }
  }
  return pin(bytes);
}

void PinnedBlocks::give(uint8_t* block, size_t bytes) {
  bytes = rounded(bytes);
  {
    std::lock_guard lock(mutex_);
    if (idle_bytes_ + bytes <= kIdleBytes) {
      idle_[bytes].push_back(block);
      idle_bytes_ += bytes;
      return;
    }
  }
  if (!exiting()) cudaFreeHost(block);
}

UploadRing::~UploadRing() {
  if (base_ && !exiting()) PinnedBlocks::instance().give(base_, kParts * kMost);
}

uint8_t* UploadRing::take(size_t bytes) {
  if (bytes > kMost) fail("ERR_ACCEL_INTERNAL", "%zu bytes at once are too many for the upload ring", bytes);
  if (!base_) base_ = PinnedBlocks::instance().take(kParts * kMost);
  bytes = (bytes + 63) & ~static_cast<size_t>(63);
  if (used_ + bytes > kMost) {
    left_[part_].record(stream_);
    part_ = (part_ + 1) % kParts;
    left_[part_].wait();
    used_ = 0;
  }
  uint8_t* at = base_ + part_ * kMost + used_;
  used_ += bytes;
  return at;
}

}  // namespace accel::cuda
