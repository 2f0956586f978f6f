// Finds the backends of this process: the CPU always, others from shared libraries beside the addon.
#ifndef ACCEL_COMMON_BACKEND_REGISTRY_H
#define ACCEL_COMMON_BACKEND_REGISTRY_H

#include <string>
#include <vector>

#include "common/backend.h"

namespace accel {

#define ACCEL_BACKEND_ABI 2u

// A function of a built-in op for the library's devices.
struct BackendKernel {
  const char* op;
  accel_op_fn run;
};

// What a backend library exports as `accel_backend_get`. It returns its devices and kernels, which live as long as the
// process; or no devices, with the reason in `error` (no driver, no device, another ABI).
struct BackendDevices {
  unsigned abi;
  Backend* const* devices;
  int count;
  const BackendKernel* kernels;
  int kernel_count;
};
using BackendGet = BackendDevices (*)(unsigned host_abi, char* error, size_t error_bytes);

// Where to look for libraries; the first folder named stays.
void set_backend_folder(const std::string& folder);

// All devices, CPU first. The first call loads the libraries; the list never changes.
const std::vector<Backend*>& backends();
// One of them by its place in the list. The CPU is there without any library being loaded.
Backend& backend_at(size_t index);

// The place of "cpu", "cuda", "cuda:1". Throws ERR_ACCEL_DEVICE_UNAVAILABLE with the reason when a GPU was asked for
// and none can be used, ERR_ACCEL_NO_DEVICE with the devices there are for any other name.
size_t find_backend(const std::string& id);

Backend* cpu_backend();

}  // namespace accel
#endif
