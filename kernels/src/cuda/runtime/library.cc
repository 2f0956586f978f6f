// What the runtime asks this library for: the GPUs that can be used and the kernels of the built-in ops.
#include <cstdio>
#include <vector>

#include "common/backend_registry.h"
#include "cuda/runtime/backend.h"
#include "cuda/runtime/check.h"
#include "cuda/runtime/kernels.h"

namespace accel::cuda {
namespace {

constexpr int kLeastCapability = 80;

std::string version_text(int version) { return format_text("%d.%d", version / 1000, version % 1000 / 10); }

std::string why_not(cudaError_t error) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  cudaGetLastError();
  std::string built = version_text(CUDART_VERSION);
  if (driver == 0) {
    return "no NVIDIA driver was found (libcuda.so.1); install one that supports CUDA " + built;
  }
  if (error == cudaErrorInsufficientDriver) {
    return format_text("the NVIDIA driver supports CUDA %s at most and this library needs %s (%s); update the driver",
                       version_text(driver).c_str(), built.c_str(), cudaGetErrorString(error));
  }
  return format_text("%s; look at nvidia-smi and CUDA_VISIBLE_DEVICES (driver for CUDA %s)", cudaGetErrorString(error),
                     version_text(driver).c_str());
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  cudaError_t error = cudaDeviceGetAttribute(&value, which, device);
  check(error, "asking what a device is");
  return value;
}

// Devices live as long as the process: never freed.
std::vector<Backend*>& find_devices(std::string& reason) {
  static auto* devices = new std::vector<Backend*>;
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    reason = why_not(error == cudaSuccess ? cudaErrorNoDevice : error);
    return *devices;
  }
  for (int index = 0; index < count; index++) {
    cudaDeviceProp known;
    check(cudaGetDeviceProperties(&known, index), "asking what a device is");
    int capability = known.major * 10 + known.minor;
    if (capability < kLeastCapability) {
      reason += format_text("%scuda:%d (%s) has compute capability %d.%d; 8.0 or higher is needed",
                            reason.empty() ? "" : "; ", index, known.name, known.major, known.minor);
      continue;
    }
    devices->push_back(new CudaBackend(
        {index, capability, attribute(cudaDevAttrMultiProcessorCount, index), known.totalGlobalMem, known.name}));
  }
  return *devices;
}

}  // namespace
}  // namespace accel::cuda

extern "C" ACCEL_EXPORT accel::BackendDevices accel_backend_get(unsigned host_abi, char* error, size_t error_bytes) {
  using namespace accel;
  BackendDevices result = {ACCEL_BACKEND_ABI, nullptr, 0, nullptr, 0};
  if (host_abi != ACCEL_BACKEND_ABI) return result;
  try {
    static std::string reason;
    static std::vector<Backend*>& devices = cuda::find_devices(reason);
    std::snprintf(error, error_bytes, "%s", reason.c_str());
    const std::vector<BackendKernel>& kernels = cuda::kernels();
    result.devices = devices.data();
    result.count = static_cast<int>(devices.size());
    result.kernels = kernels.data();
    result.kernel_count = static_cast<int>(kernels.size());
  } catch (const Failure& failure) {
    std::snprintf(error, error_bytes, "%s", failure.what());
  }
  return result;
}
