#include <dlfcn.h>
#include <stdlib.h>

#include <string>
#include <vector>

#include "cuda/gemm/lt_api.h"

namespace accel::cuda::lt {
namespace {

std::vector<std::string> candidates() {
  if (const char* path = getenv("ACCEL_CUBLASLT"); path != nullptr && *path != 0) return {path};
  std::vector<std::string> list = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
  std::vector<std::string> folders;
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const char* root = getenv(name); root != nullptr && *root != 0) folders.push_back(std::string(root) + "/lib64");
  }
#if defined(__aarch64__)
  const char* const target = "sbsa-linux";
#else
  const char* const target = "x86_64-linux";
#endif
  for (const char* root : {"/usr/local/cuda", "/usr/local/cuda-13", "/usr/local/cuda-12", "/opt/cuda"}) {
    folders.push_back(std::string(root) + "/lib64");
    folders.push_back(std::string(root) + "/targets/" + target + "/lib");
  }
  for (const std::string& folder : folders) {
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
      list.push_back(folder + "/" + name);
    }
  }
  return list;
}

template <class F>
bool resolve(void* library, const char* name, F* to) {
  *to = reinterpret_cast<F>(dlsym(library, name));
  return *to != nullptr;
}

bool resolve_all(void* library, Api* api) {
  return resolve(library, "cublasLtCreate", &api->create) && resolve(library, "cublasLtGetVersion", &api->version) &&
         resolve(library, "cublasLtMatmulDescCreate", &api->desc_create) &&
         resolve(library, "cublasLtMatmulDescDestroy", &api->desc_destroy) &&
         resolve(library, "cublasLtMatmulDescSetAttribute", &api->desc_set) &&
         resolve(library, "cublasLtMatrixLayoutCreate", &api->layout_create) &&
         resolve(library, "cublasLtMatrixLayoutDestroy", &api->layout_destroy) &&
         resolve(library, "cublasLtMatmulPreferenceCreate", &api->preference_create) &&
         resolve(library, "cublasLtMatmulPreferenceDestroy", &api->preference_destroy) &&
         resolve(library, "cublasLtMatmulPreferenceSetAttribute", &api->preference_set) &&
         resolve(library, "cublasLtMatmulAlgoGetHeuristic", &api->heuristic) &&
         resolve(library, "cublasLtMatmulAlgoCheck", &api->check) && resolve(library, "cublasLtMatmul", &api->matmul);
}

struct Found {
  Api api{};
  bool good = false;
  std::string tried;

  Found() {
    for (const std::string& name : candidates()) {
      void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr) {
        const char* why = dlerror();
        // One line a name; a library that is there but does not load is the interesting case.
        tried += (tried.empty() ? "" : "; ") + (why != nullptr ? std::string(why) : name);
        continue;
      }
      good = resolve_all(library, &api);
      if (good && api.version() >= 120000) return;
      tried += (tried.empty() ? "" : "; ") + name + ": older than CUDA 12 or incomplete";
      good = false;
      dlclose(library);
    }
  }
};

}  // namespace

const Api* load(const char** tried) {
  static const Found found;
  if (tried != nullptr) *tried = found.tried.c_str();
  return found.good ? &found.api : nullptr;
}

}  // namespace accel::cuda::lt
