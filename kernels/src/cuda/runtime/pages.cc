#include "cuda/runtime/pages.h"

#include "cuda/runtime/check.h"

namespace accel::cuda {
namespace {

CUdeviceptr address(uint8_t* base, size_t chunk) {
  return reinterpret_cast<CUdeviceptr>(base) + chunk * Pages::kChunk;
}

}  // namespace

CUmemAllocationProp Pages::properties() const {
  CUmemAllocationProp properties = {};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device_;
  return properties;
}

uint8_t* Pages::reserve(size_t bytes) {
  check(cudaSetDevice(device_), "choosing the device");
  sweep();
  size_t chunks = (bytes + kChunk - 1) / kChunk;
  CUmemAllocationProp wanted = properties();
  size_t granularity = 0;
  check(driver().granularity(&granularity, &wanted, CU_MEM_ALLOC_GRANULARITY_MINIMUM), "asking for page sizes");
  if (granularity == 0 || kChunk % granularity != 0) {
    fail("ERR_ACCEL_INTERNAL", "cuda:%d maps memory in units of %zu bytes; chunks have %zu", device_, granularity,
         kChunk);
  }
  CUdeviceptr base = 0;
  CUresult result = driver().reserve(&base, chunks * kChunk, kChunk, 0, 0);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    fail("ERR_ACCEL_OUT_OF_MEMORY",
         "out of memory on cuda:%d: no address space for a page pool of %s; make its capacity smaller", device_,
         format_bytes(static_cast<double>(bytes)).c_str());
  }
  check(result, "reserving addresses for a page pool");
  auto made = std::make_unique<Reservation>();
  made->base = reinterpret_cast<uint8_t*>(base);
  made->bytes = chunks * kChunk;
  made->chunks.resize(chunks);
  std::lock_guard lock(mutex_);
  uint8_t* at = made->base;
  reservations_[at] = std::move(made);
  return at;
}

void Pages::commit(uint8_t* base, size_t chunk) {
  {
    std::lock_guard lock(mutex_);
    Chunk& here = reservations_.at(base)->chunks.at(chunk);
    here.discard = 0;
    if (here.mapped) return;
  }
  // Only the pool's own thread commits, so nobody maps this chunk meanwhile.
  check(cudaSetDevice(device_), "choosing the device");
  CUmemAllocationProp wanted = properties();
  CUmemGenericAllocationHandle memory = 0;
  CUresult result = driver().create(&memory, kChunk, &wanted, 0);
  if (result == CUDA_ERROR_OUT_OF_MEMORY && memory_.collect()) result = driver().create(&memory, kChunk, &wanted, 0);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) memory_.out_of_memory(kChunk, "the next part of a KV page pool");
  check(result, "allocating pages");
  CUmemAccessDesc access = {};
  access.location = wanted.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  result = driver().map(address(base, chunk), kChunk, 0, memory, 0);
  if (result == CUDA_SUCCESS) {
    result = driver().set_access(address(base, chunk), kChunk, &access, 1);
    if (result != CUDA_SUCCESS) driver().unmap(address(base, chunk), kChunk);
  }
  if (result != CUDA_SUCCESS) driver().release(memory);
  check(result, "mapping pages");
  memory_.add_used(kChunk);
  std::lock_guard lock(mutex_);
  Chunk& here = reservations_.at(base)->chunks[chunk];
  here.memory = memory;
  here.mapped = true;
}

void Pages::unmap(Reservation& reservation, size_t chunk) {
  Chunk& here = reservation.chunks[chunk];
  if (!here.mapped) return;
  driver().unmap(address(reservation.base, chunk), kChunk);
  driver().release(here.memory);
  here = {};
  memory_.remove_used(kChunk);
}

uint64_t Pages::mark_discard(uint8_t* base, const std::vector<size_t>& chunks) {
  std::lock_guard lock(mutex_);
  discards_++;
  Reservation& reservation = *reservations_.at(base);
  for (size_t chunk : chunks) reservation.chunks.at(chunk).discard = discards_;
  return discards_;
}

void Pages::discard(uint8_t* base, const std::vector<size_t>& chunks, uint64_t number) {
  if (exiting()) return;
  cudaSetDevice(device_);
  std::lock_guard lock(mutex_);
  auto found = reservations_.find(base);
  if (found == reservations_.end()) return;
  for (size_t chunk : chunks) {
    if (found->second->chunks[chunk].discard == number) unmap(*found->second, chunk);
  }
}

void Pages::release(uint8_t* base) {
  if (exiting()) return;
  {
    std::lock_guard lock(mutex_);
    auto found = reservations_.find(base);
    if (found == reservations_.end()) return;
    found->second->released = memory_.clock().now();
    released_.push_back(std::move(found->second));
    reservations_.erase(found);
  }
  cudaSetDevice(device_);
  sweep();
}

void Pages::take_apart(Reservation& reservation) {
  for (size_t chunk = 0; chunk < reservation.chunks.size(); chunk++) unmap(reservation, chunk);
  driver().free_reserved(reinterpret_cast<CUdeviceptr>(reservation.base), reservation.bytes);
}

void Pages::sweep() {
  std::lock_guard lock(mutex_);
  std::erase_if(released_, [&](auto& reservation) {
    if (!memory_.clock().past(reservation->released)) return false;
    take_apart(*reservation);
    return true;
  });
}

std::function<void()> Pages::retired() {
  std::lock_guard lock(mutex_);
  if (released_.empty()) return nullptr;
  auto all = std::make_shared<std::vector<std::unique_ptr<Reservation>>>(std::move(released_));
  released_.clear();
  return [this, all] {
    std::lock_guard lock(mutex_);
    for (auto& reservation : *all) take_apart(*reservation);
  };
}

}  // namespace accel::cuda
