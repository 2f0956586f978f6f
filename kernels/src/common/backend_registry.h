// Finds the backends of this process: the CPU always, others from shared libraries beside the addon.
#ifndef ACCEL_COMMON_BACKEND_REGISTRY_H
#define ACCEL_COMMON_BACKEND_REGISTRY_H

#include <string>
#include <vector>

#include "common/backend.h"

namespace accel {

#define ACCEL_BACKEND_ABI 1u

// What a backend library exports as `accel_backend_get`. It returns its devices, which live as long as the process;
// or none, with the reason in `error` (no driver, no device, another ABI).
struct BackendDevices {
  unsigned abi;
  Backend* const* devices;
  int count;
};
using BackendGet = BackendDevices (*)(unsigned host_abi, char* error, size_t error_bytes);

// The devices, CPU first. The first call looks for libraries in `folder`; later calls return the same list.
const std::vector<Backend*>& backends(const std::string& folder = "");

// "cpu", "cuda", "cuda:1"; throws ERR_ACCEL_NO_DEVICE with the reason and the devices there are.
Backend* find_backend(const std::string& id);

Backend* cpu_backend();

}  // namespace accel
#endif
