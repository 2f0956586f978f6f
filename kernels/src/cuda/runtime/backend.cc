#include "cuda/runtime/backend.h"

#include "cuda/runtime/check.h"
#include "cuda/runtime/stream.h"

namespace accel::cuda {

CudaBackend::CudaBackend(Properties properties)
    : properties_(std::move(properties)),
      memory_(properties_.index, ledger()),
      pages_(properties_.index, memory_),
      staging_(properties_.index) {
  memory_.on_collect([this] { return pages_.retired(); });
}

DeviceInfo CudaBackend::info() const {
  MemoryInfo memory{properties_.memory, properties_.memory, true, 0, 0};
  if (opened_.load()) memory = memory_.info(properties_.memory);
  return {id(), "cuda", properties_.name, "sm_" + std::to_string(properties_.capability), properties_.multiprocessors,
          memory};
}

void CudaBackend::check() const {
  cudaError_t error = cudaSetDevice(properties_.index);
  if (error == cudaSuccess) error = cudaFree(nullptr);  // makes the context
  if (error != cudaSuccess) {
    cudaGetLastError();
    fail("ERR_ACCEL_DEVICE_UNAVAILABLE",
         "%s (%s) cannot be used: %s. See what nvidia-smi says: another process may hold it, or its memory",
         id().c_str(), properties_.name.c_str(), cudaGetErrorString(error));
  }
  watch_exit();
  opened_.store(true);
}

void CudaBackend::use() const { cuda::check(cudaSetDevice(properties_.index), "choosing the device"); }

std::unique_ptr<StreamBackend> CudaBackend::create_stream() {
  if (!opened_.load()) check();
  use();
  return std::make_unique<CudaStream>(*this);
}

}  // namespace accel::cuda
