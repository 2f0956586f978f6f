#include "common/backend_registry.h"

#include <dlfcn.h>
#include <unistd.h>

#include <mutex>

#include "common/error.h"
#include "cpu/builtin.h"

namespace accel {
namespace {

struct Registry {
  std::vector<Backend*> devices;
  std::string missing;  // why there is no accelerator
};

std::mutex folder_mutex;

std::string& folder() {
  static auto* name = new std::string;
  return *name;
}

void load_library(Registry& registry, const std::string& path) {
  if (access(path.c_str(), F_OK) != 0) {
    registry.missing = path +
                       " does not exist. Build it with \"pnpm build:native\" on a machine with the CUDA toolkit (nvcc "
                       "12.8 or newer), or install a platform package that has it";
    return;
  }
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    registry.missing = std::string(dlerror()) + ". Build it again on this machine (pnpm build:native)";
    return;
  }
  auto get = reinterpret_cast<BackendGet>(dlsym(handle, "accel_backend_get"));
  if (!get) {
    registry.missing = path + " is not a backend library (accel_backend_get is missing)";
    return;
  }
  char error[1024] = "";
  BackendDevices found = get(ACCEL_BACKEND_ABI, error, sizeof error);
  if (found.abi != ACCEL_BACKEND_ABI) {
    registry.missing = format_text("%s has backend ABI %u, this runtime has %u: rebuild it",
                                   path.c_str(), found.abi, ACCEL_BACKEND_ABI);
    return;
  }
  for (int i = 0; i < found.kernel_count; i++) {
    const BackendKernel& kernel = found.kernels[i];
    if (!cpu::set_cuda_kernel(kernel.op, kernel.run)) {
      fail("ERR_ACCEL_INTERNAL", "%s has a kernel for \"%s\", which is no built-in op: rebuild it", path.c_str(),
           kernel.op);
    }
  }
  registry.missing = error;
  for (int i = 0; i < found.count; i++) registry.devices.push_back(found.devices[i]);
}

const Registry& registry() {
  // Leaked: worker threads may use a device while the process exits.
  static const Registry* instance = [] {
    auto made = std::make_unique<Registry>();
    made->devices.push_back(cpu_backend());
    std::string from;
    {
      std::lock_guard lock(folder_mutex);
      from = folder();
    }
    load_library(*made, from + "/accel_cuda.so");
    return made.release();
  }();
  return *instance;
}

bool names(const std::string& id, const Backend& backend) {
  std::string own = backend.id();
  return own == id || own == id + ":0";
}

}  // namespace

void set_backend_folder(const std::string& name) {
  std::lock_guard lock(folder_mutex);
  if (folder().empty()) folder() = name;
}

const std::vector<Backend*>& backends() { return registry().devices; }

Backend& backend_at(size_t index) { return index == 0 ? *cpu_backend() : *backends().at(index); }

size_t find_backend(const std::string& id) {
  if (names(id, *cpu_backend())) return 0;
  const Registry& known = registry();
  std::string list;
  for (size_t i = 0; i < known.devices.size(); i++) {
    if (names(id, *known.devices[i])) return i;
    list += (list.empty() ? "" : ", ") + known.devices[i]->id();
  }
  bool cuda = id == "cuda" || id.starts_with("cuda:");
  if (cuda && !known.missing.empty()) {
    fail("ERR_ACCEL_DEVICE_UNAVAILABLE", "the device \"%s\" cannot be used here: %s. This process has: %s", id.c_str(),
         known.missing.c_str(), list.c_str());
  }
  fail("ERR_ACCEL_NO_DEVICE", "there is no device \"%s\"; this process has: %s", id.c_str(), list.c_str());
}

}  // namespace accel
