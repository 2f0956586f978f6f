#include "cpu/backend_blocks.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>

#include "common/memory.h"

namespace accel::cpu {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kHugePage = 2 << 20;
constexpr size_t kMappedBytes = 4 << 20;   // from here on blocks are mappings of their own
constexpr size_t kCheckedBytes = 32 << 20; // from here on the free memory of the machine is looked at first
// Left for everything else in the process and on the machine.
constexpr size_t kReserveBytes = 64 << 20;

// Size classes: multiples of 64 up to 512, then eight per doubling, so a block is at most 1/8 too large.
struct SizeClass {
  size_t index;
  size_t bytes;
};

SizeClass size_class(size_t bytes) {
  bytes = std::max<size_t>(bytes, 1);
  if (bytes <= 512) {
    size_t index = (bytes - 1) / 64;
    return {index, (index + 1) * 64};
  }
  int top = std::bit_width(bytes - 1) - 1;  // 2^top <= bytes - 1
  size_t step = static_cast<size_t>(1) << (top - 3);
  size_t eighths = (bytes - 1) / step;  // 8..15
  return {static_cast<size_t>(top - 9) * 8 + (eighths - 8) + 8, (eighths + 1) * step};
}

void return_to_system(void* block, size_t bytes) {
  if (bytes >= kMappedBytes) {
    munmap(block, bytes);
  } else {
    std::free(block);
  }
}

}  // namespace

void* BlockCache::from_system(size_t bytes) {
  if (bytes < kMappedBytes) return std::aligned_alloc(kAlign, bytes);
  if (bytes >= kCheckedBytes) {
    // The system would promise memory it does not have and kill the process when it is used.
    size_t free = host_memory().free;
    if (free < bytes + kReserveBytes) return nullptr;
  }
  size_t mapped = bytes + kHugePage;
  if (mapped < bytes) return nullptr;
  void* map = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  auto start = reinterpret_cast<uintptr_t>(map);
  uintptr_t aligned = (start + kHugePage - 1) & ~(kHugePage - 1);
  if (aligned > start) munmap(map, aligned - start);
  uintptr_t end = aligned + bytes;
  if (start + mapped > end) munmap(reinterpret_cast<void*>(end), start + mapped - end);
#if defined(MADV_HUGEPAGE)
  madvise(reinterpret_cast<void*>(aligned), bytes, MADV_HUGEPAGE);
#endif
  return reinterpret_cast<void*>(aligned);
}

void* BlockCache::take(size_t bytes) {
  if (bytes > static_cast<size_t>(1) << 47) return nullptr;
  SizeClass size = size_class(bytes);
  {
    std::lock_guard lock(mutex_);
    std::vector<void*>& idle = idle_[size.index];
    if (!idle.empty()) {
      void* block = idle.back();
      idle.pop_back();
      idle_bytes_.fetch_sub(size.bytes, std::memory_order_relaxed);
      return block;
    }
  }
  if (void* block = from_system(size.bytes)) return block;
  flush();
  return from_system(size.bytes);
}

void BlockCache::give(void* block, size_t bytes) {
  SizeClass size = size_class(bytes);
  {
    std::lock_guard lock(mutex_);
    if (idle_limit_ == 0) {
      idle_limit_ = std::max<size_t>(host_memory().total / 8, 256 << 20);
    }
    if (idle_bytes_.load(std::memory_order_relaxed) + size.bytes <= idle_limit_) {
      idle_[size.index].push_back(block);
      idle_bytes_.fetch_add(size.bytes, std::memory_order_relaxed);
      return;
    }
  }
  return_to_system(block, size.bytes);
}

void BlockCache::flush() {
  std::lock_guard lock(mutex_);
  size_t index = 0;
  for (std::vector<void*>& idle : idle_) {
    size_t bytes = index < 8 ? (index + 1) * 64
                             : (8 + (index - 8) % 8 + 1) << ((index - 8) / 8 + 9 - 3);
    for (void* block : idle) return_to_system(block, bytes);
    idle.clear();
    index++;
  }
  idle_bytes_.store(0, std::memory_order_relaxed);
}

}  // namespace accel::cpu
