// Page pools on the device: a range of addresses for the whole pool, and physical memory behind those chunks of it that
// hold pages. A pool may so promise more than the device has, and give memory back without moving a page.
#ifndef ACCEL_CUDA_RUNTIME_PAGES_H
#define ACCEL_CUDA_RUNTIME_PAGES_H

#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "cuda/runtime/driver.h"
#include "cuda/runtime/memory.h"

namespace accel::cuda {

class Pages {
 public:
  Pages(int device, DeviceMemory& memory) : device_(device), memory_(memory) {}

  static constexpr size_t kChunk = 32 << 20;

  uint8_t* reserve(size_t bytes);
  // Work that was launched before may still use the pages.
  void release(uint8_t* base);
  // Puts memory behind a chunk unless it has some; calls off its discarding.
  void commit(uint8_t* base, size_t chunk);
  // See Backend::mark_discard. `discard` is called once the work before it is done.
  uint64_t mark_discard(uint8_t* base, const std::vector<size_t>& chunks);
  void discard(uint8_t* base, const std::vector<size_t>& chunks, uint64_t number);

  // Takes released reservations apart whose work is done.
  void sweep();
  // Those there are now, to be taken apart by the function returned once the device was waited for.
  std::function<void()> retired();

 private:
  struct Chunk {
    CUmemGenericAllocationHandle memory = 0;
    bool mapped = false;
    uint64_t discard = 0;  // number of the discarding that is to come, or 0
  };
  struct Reservation {
    uint8_t* base;
    size_t bytes;
    std::vector<Chunk> chunks;
    uint64_t released = 0;  // time
  };
  void unmap(Reservation& reservation, size_t chunk);
  void take_apart(Reservation& reservation);
  CUmemAllocationProp properties() const;

  const int device_;
  DeviceMemory& memory_;
  std::mutex mutex_;
  std::unordered_map<uint8_t*, std::unique_ptr<Reservation>> reservations_;
  std::vector<std::unique_ptr<Reservation>> released_;
  uint64_t discards_ = 0;
};

}  // namespace accel::cuda
#endif
