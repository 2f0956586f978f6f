// One GPU as a device of the runtime. Its context is made when it is opened, not when devices are listed.
#ifndef ACCEL_CUDA_RUNTIME_BACKEND_H
#define ACCEL_CUDA_RUNTIME_BACKEND_H

#include <atomic>
#include <string>

#include "common/backend.h"
#include "cuda/runtime/memory.h"
#include "cuda/runtime/pages.h"
#include "cuda/runtime/staging.h"

namespace accel::cuda {

struct Properties {
  int index;
  int capability;  // 90 for 9.0
  int multiprocessors;
  size_t memory;
  std::string name;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(Properties properties);

  std::string id() const override { return "cuda:" + std::to_string(properties_.index); }
  accel_device device() const override { return {ACCEL_DEVICE_CUDA, properties_.index}; }
  DeviceInfo info() const override;
  void check() const override;
  void* allocate(size_t bytes, const char* what, FirstUse use) override { return memory_.take(bytes, what, use); }
  void release(void* data, size_t bytes) override { memory_.give(data, bytes); }
  void fill(void* device, const void* host, size_t bytes) override { staging_.fill(device, host, bytes); }
  void reset_peak() override { memory_.reset_peak(); }
  uint8_t* reserve_pages(size_t bytes) override { return pages_.reserve(bytes); }
  void release_pages(uint8_t* base, size_t) override { pages_.release(base); }
  size_t page_chunk() const override { return Pages::kChunk; }
  void commit_pages(uint8_t* base, size_t offset, size_t) override { pages_.commit(base, offset / Pages::kChunk); }
  uint64_t mark_discard(uint8_t* base, const std::vector<size_t>& chunks) override {
    return pages_.mark_discard(base, chunks);
  }
  std::unique_ptr<StreamBackend> create_stream() override;

  const Properties& properties() const { return properties_; }
  DeviceMemory& memory() { return memory_; }
  Pages& pages() { return pages_; }
  Staging& staging() { return staging_; }
  // Makes the device the calling thread's.
  void use() const;

 private:
  Properties properties_;
  mutable DeviceMemory memory_;
  Pages pages_;
  Staging staging_;
  mutable std::atomic<bool> opened_{false};
};

}  // namespace accel::cuda
#endif
