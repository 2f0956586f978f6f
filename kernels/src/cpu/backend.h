// The CPU as a device: host memory with a cache of blocks, and streams that compute on the thread pool.
#ifndef ACCEL_CPU_BACKEND_H
#define ACCEL_CPU_BACKEND_H

#include "common/backend.h"

namespace accel::cpu {

class CpuBackend final : public Backend {
 public:
  std::string id() const override { return "cpu"; }
  accel_device device() const override { return {ACCEL_DEVICE_CPU, 0}; }
  DeviceInfo info() const override;
  void check() const override;
  void* allocate(size_t bytes, const char* what, FirstUse use = FirstUse::stream) override;
  void release(void* data, size_t bytes) override;
  void fill(void* device, const void* host, size_t bytes) override;
  uint8_t* reserve_pages(size_t bytes) override;
  void release_pages(uint8_t* base, size_t bytes) override;
  std::unique_ptr<StreamBackend> create_stream() override;
};

}  // namespace accel::cpu
#endif
