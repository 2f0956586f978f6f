// Which GEMM runs for many rows.
#include <stdlib.h>

#include <string_view>

#include "cuda/gemm/cublaslt.h"
#include "cuda/gemm/gemm.h"

namespace accel::cuda {
namespace {

GemmPath forced_gemm_path = GemmPath::automatic;
GemvPath forced_gemv_path = GemvPath::automatic;

// ACCEL_CUDA_GEMM: auto, own or cublaslt.
const char* requested() {
  static const char* const value = [] {
    const char* text = getenv("ACCEL_CUDA_GEMM");
    return text == nullptr || *text == 0 ? "auto" : text;
  }();
  return value;
}

int run_own(const accel_call* call, const LinearProblem& p) {
  return fits_gemm_mma(p) ? run_gemm_mma(call, p) : run_gemm_simt(call, p);
}

}  // namespace

void force_paths(GemmPath gemm, GemvPath gemv) {
  forced_gemm_path = gemm;
  forced_gemv_path = gemv;
}
GemmPath forced_gemm() { return forced_gemm_path; }
GemvPath forced_gemv() { return forced_gemv_path; }

int run_gemm(const accel_call* call, const LinearProblem& p) {
  GemmPath path = forced_gemm();
  if (path == GemmPath::simt) return run_gemm_simt(call, p);
  if (path == GemmPath::automatic) {
    const std::string_view want = requested();
    if (want == "own") path = GemmPath::own;
    else if (want == "cublaslt") path = GemmPath::cublaslt;
    else if (want != "auto")
      return call->fail(call, "ERR_ACCEL_CONFIG", "ACCEL_CUDA_GEMM is \"%s\"; it may be auto, own or cublaslt", requested());
  }
  if (path == GemmPath::own) return run_own(call, p);
  // A library that was asked for, by name or by path, must be there. Without a wish our own GEMM does as well, and
  // receipts say which one ran.
  const char* path_wanted = getenv("ACCEL_CUBLASLT");
  const bool must = path == GemmPath::cublaslt || (path_wanted != nullptr && *path_wanted != 0);
  const char* tried = nullptr;
  if (!has_cublaslt(&tried)) {
    if (!must) return run_own(call, p);
    return call->fail(call, "ERR_ACCEL_CONFIG",
                      "cuBLASLt (CUDA 12 or newer) was asked for but could not be loaded; set ACCEL_CUBLASLT to the file, "
                      "or ACCEL_CUDA_GEMM=own. Tried: %.300s",
                      tried);
  }
  const LtResult result = run_cublaslt(call, p);
  if (result == LtResult::unsupported) return run_own(call, p);
  return result == LtResult::done ? ACCEL_OK : ACCEL_FAILED;
}

}  // namespace accel::cuda
