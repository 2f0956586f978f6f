#include "cuda/runtime/driver.h"

#include <memory>

#include "cuda/runtime/check.h"

namespace accel::cuda {
namespace {

// Virtual memory came with CUDA 10.2; any driver this library runs on has these versions.
constexpr unsigned kVersion = 12000;

template <typename F>
void find(F& function, const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  cudaError_t error = cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &result);
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess || !found) {
    cudaGetLastError();
    fail("ERR_ACCEL_INTERNAL", "the CUDA driver has no %s; update the driver", name);
  }
  function = reinterpret_cast<F>(found);
}

}  // namespace

const Driver& driver() {
  static const Driver* functions = [] {
    auto found = std::make_unique<Driver>();
    find(found->error_string, "cuGetErrorString");
    find(found->granularity, "cuMemGetAllocationGranularity");
    find(found->reserve, "cuMemAddressReserve");
    find(found->free_reserved, "cuMemAddressFree");
    find(found->create, "cuMemCreate");
    find(found->release, "cuMemRelease");
    find(found->map, "cuMemMap");
    find(found->unmap, "cuMemUnmap");
    find(found->set_access, "cuMemSetAccess");
    return found.release();
  }();
  return *functions;
}

void check(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  const char* text = nullptr;
  driver().error_string(result, &text);
  fail("ERR_ACCEL_INTERNAL", "CUDA: %s failed: %s", what, text ? text : "unknown error");
}

}  // namespace accel::cuda
