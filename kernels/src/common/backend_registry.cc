#include "common/backend_registry.h"

#include <dlfcn.h>

#include <mutex>

#include "common/error.h"

namespace accel {
namespace {

struct Registry {
  std::vector<Backend*> devices;
  std::string missing;  // why there is no accelerator
};

void load_library(Registry& registry, const std::string& path) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    registry.missing = dlerror();
    return;
  }
  auto get = reinterpret_cast<BackendGet>(dlsym(handle, "accel_backend_get"));
  if (!get) {
    registry.missing = path + " is not a backend library (accel_backend_get is missing)";
    return;
  }
  char error[512] = "";
  BackendDevices found = get(ACCEL_BACKEND_ABI, error, sizeof error);
  if (found.abi != ACCEL_BACKEND_ABI) {
    registry.missing = format_text("%s has backend ABI %u, this runtime has %u: rebuild it",
                                   path.c_str(), found.abi, ACCEL_BACKEND_ABI);
    return;
  }
  if (found.count == 0) registry.missing = error;
  for (int i = 0; i < found.count; i++) registry.devices.push_back(found.devices[i]);
}

Registry& registry(const std::string& folder) {
  // Leaked: worker threads may use a device while the process exits.
  static Registry* instance = [&] {
    auto* made = new Registry;
    made->devices.push_back(cpu_backend());
    load_library(*made, folder + "/accel_cuda.so");
    return made;
  }();
  return *instance;
}

}  // namespace

const std::vector<Backend*>& backends(const std::string& folder) { return registry(folder).devices; }

Backend* find_backend(const std::string& id) {
  Registry& known = registry("");
  std::string names;
  for (Backend* backend : known.devices) {
    DeviceInfo info = backend->info();
    if (info.id == id || info.id == id + ":0") return backend;
    names += (names.empty() ? "" : ", ") + info.id;
  }
  fail("ERR_ACCEL_NO_DEVICE", "there is no device \"%s\"; this process has: %s.%s%s", id.c_str(),
       names.c_str(), id.starts_with("cuda") ? " No CUDA device was found: " : "",
       id.starts_with("cuda") ? known.missing.c_str() : "");
}

}  // namespace accel
