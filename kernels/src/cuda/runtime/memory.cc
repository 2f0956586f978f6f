#include "cuda/runtime/memory.h"

#include <algorithm>
#include <bit>

#include "cuda/runtime/check.h"

namespace accel::cuda {
namespace {

constexpr size_t kSmallBytes = 1 << 20;
constexpr size_t kSlabBytes = 8 << 20;
constexpr size_t kUnit = 2 << 20;  // of what the device hands out

thread_local bool capturing = false;

struct SizeClass {
  size_t index;
  size_t bytes;
};

// Multiples of 256 up to 2048, then eight per doubling.
SizeClass size_class(size_t bytes) {
  bytes = std::max<size_t>(bytes, 1);
  if (bytes <= 2048) {
    size_t index = (bytes - 1) / 256;
    return {index, (index + 1) * 256};
  }
  int top = std::bit_width(bytes - 1) - 1;  // 2^top <= bytes - 1
  size_t step = static_cast<size_t>(1) << (top - 3);
  size_t eighths = (bytes - 1) / step;  // 8..15
  return {8 + static_cast<size_t>(top - 11) * 8 + (eighths - 8), (eighths + 1) * step};
}

size_t whole_units(size_t bytes) { return (bytes + kUnit - 1) / kUnit * kUnit; }

}  // namespace

DeviceMemory::Capture::Capture(DeviceMemory& memory) : lock_(memory.capture_) { capturing = true; }
DeviceMemory::Capture::~Capture() { capturing = false; }

void* DeviceMemory::take(size_t bytes, const char* what, FirstUse use) {
  if (bytes > static_cast<size_t>(1) << 46) out_of_memory(bytes, what);
  if (bytes < kSmallBytes) {
    SizeClass size = size_class(bytes);
    return take_small(size.index, size.bytes, what, use);
  }
  return take_large(whole_units(bytes), what, use);
}

void* DeviceMemory::take_idle(IdleList& list, FirstUse use) {
  if (list.empty()) return nullptr;
  void* data;
  if (use == FirstUse::stream && clock_.one_stream()) {
    data = list.back().data;
    list.pop_back();
  } else {
    if (!clock_.past(list.front().time)) return nullptr;
    data = list.front().data;
    list.pop_front();
  }
  return data;
}

void* DeviceMemory::take_small(size_t index, size_t bytes, const char* what, FirstUse use) {
  std::unique_lock lock(mutex_);
  if (void* data = take_idle(small_[index], use)) {
    idle_.fetch_sub(bytes);
    return data;
  }
  while (slab_left_ < bytes) {
    lock.unlock();
    auto* slab = static_cast<uint8_t*>(from_device(kSlabBytes, what));
    lock.lock();
    slab_ = slab;  // what was left of the last one is lost: less than this block
    slab_left_ = kSlabBytes;
  }
  uint8_t* data = slab_;
  slab_ += bytes;
  slab_left_ -= bytes;
  return data;
}

void* DeviceMemory::take_large_idle(size_t bytes, size_t most, FirstUse use) {
  for (auto at = large_.lower_bound(bytes); at != large_.end() && at->first <= most; ++at) {
    if (void* data = take_idle(at->second, use)) {
      idle_.fetch_sub(at->first);
      if (at->second.empty()) large_.erase(at);
      return data;
    }
  }
  return nullptr;
}

void* DeviceMemory::take_large(size_t bytes, const char* what, FirstUse use) {
  {
    std::lock_guard lock(mutex_);
    if (void* data = take_large_idle(bytes, bytes + bytes / 8, use)) return data;
    // Batches of many sizes would otherwise leave blocks of as many sizes behind.
    if (void* data = take_large_idle(bytes, 2 * bytes, use)) return data;
  }
  void* data = from_device(bytes, what);
  std::lock_guard lock(mutex_);
  large_bytes_[data] = bytes;
  return data;
}

void DeviceMemory::give(void* data, size_t bytes) {
  if (!data || exiting()) return;
  uint64_t now = clock_.now();
  std::lock_guard lock(mutex_);
  if (bytes < kSmallBytes) {
    SizeClass size = size_class(bytes);
    small_[size.index].push_back({data, now});
    idle_.fetch_add(size.bytes);
  } else {
    size_t whole = large_bytes_[data];
    large_[whole].push_back({data, now});
    idle_.fetch_add(whole);
  }
}

void* DeviceMemory::from_device(size_t bytes, const char* what) {
  check(cudaSetDevice(device_), "choosing the device");
  void* data = nullptr;
  cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    if (collect()) error = cudaMalloc(&data, bytes);
  }
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    out_of_memory(bytes, what);
  }
  check(error, "allocating memory");
  add_used(bytes);
  return data;
}

void DeviceMemory::add_used(size_t bytes) {
  size_t used = used_.fetch_add(bytes) + bytes;
  size_t peak = peak_.load();
  while (peak < used && !peak_.compare_exchange_weak(peak, used)) {
  }
}

bool DeviceMemory::collect() {
  if (capturing) return false;
  check(cudaSetDevice(device_), "choosing the device");
  std::lock_guard one(capture_);
  std::map<size_t, IdleList> idle;
  {
    std::lock_guard lock(mutex_);
    idle.swap(large_);
    for (auto& [size, list] : idle) {
      for (Idle& block : list) {
        large_bytes_.erase(block.data);
        idle_.fetch_sub(size);
      }
    }
  }
  std::function<void()> give_back = retired_ ? retired_() : nullptr;
  // All of this was let go before, so the work that uses it is on the device by now.
  check(cudaDeviceSynchronize(), "waiting for the device");
  for (auto& [size, list] : idle) {
    for (Idle& block : list) {
      cudaFree(block.data);
      used_.fetch_sub(size);
    }
  }
  if (give_back) give_back();
  return true;
}

void DeviceMemory::out_of_memory(size_t bytes, const char* what) {
  size_t free = 0, total = 0;
  cudaSetDevice(device_);
  cudaMemGetInfo(&free, &total);
  auto text = [](size_t count) { return format_bytes(static_cast<double>(count)); };
  fail("ERR_ACCEL_OUT_OF_MEMORY",
       "out of memory on cuda:%d: %s needs %s, %s of %s are free, and this process holds %s. Largest consumers: %s. "
       "Dispose of tensors, sequences or models you no longer use, or use a smaller context, batch or dtype",
       device_, what, text(bytes).c_str(), text(free).c_str(), text(total).c_str(), text(used_.load()).c_str(),
       ledger_.largest(5).c_str());
}

MemoryInfo DeviceMemory::info(size_t total) {
  MemoryInfo info{total, total, true, used_.load(), peak_.load(), idle_.load()};
  size_t free = 0;
  cudaSetDevice(device_);
  if (cudaMemGetInfo(&free, &total) == cudaSuccess) {
    info.total = total;
    info.free = free + info.idle;
  }
  return info;
}

}  // namespace accel::cuda
