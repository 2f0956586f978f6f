#include "cuda/gemm/cublaslt.h"

#include <stdlib.h>

#include <map>
#include <memory>
#include <mutex>
#include <string_view>

#include "cuda/gemm/lt_plan.h"

namespace accel::cuda {
namespace {

constexpr int64_t kTuneRows = 256;
constexpr size_t kMaxPlans = 1024;   // prompts come in many lengths

bool tuning() {
  static const bool on = [] {
    const char* value = getenv("ACCEL_CUDA_TUNE");
    return value == nullptr || std::string_view(value) != "0";
  }();
  return on;
}

// Shapes that share the outcome of a timing: M by its power of two.
lt::Key shape_class(lt::Key key) {
  int64_t power = 1;
  while (power * 2 <= key.m) power *= 2;
  key.m = power;
  return key;
}

// One device's share of the library. `mutex` covers all of it: a descriptor holds the bias of the call being made.
struct Device {
  std::mutex mutex;
  lt::Handle handle = nullptr;
  std::map<lt::Key, std::unique_ptr<lt::Plan>> plans;
  std::map<lt::Key, lt::Algorithm> timed;
};

// Lives until the process ends: the library has its own threads and exit handlers.
Device& device_of(int index) {
  static std::mutex mutex;
  static auto* const devices = new std::map<int, std::unique_ptr<Device>>;
  std::lock_guard lock(mutex);
  std::unique_ptr<Device>& device = (*devices)[index];
  if (!device) device = std::make_unique<Device>();
  return *device;
}

bool capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(stream, &status) != cudaSuccess || status != cudaStreamCaptureStatusNone;
}

// Times every candidate and returns the index of the best. Waits for the device; see cublaslt.h. `out` is written.
size_t fastest(const lt::Plan& plan, const LinearProblem& p, void* out, void* workspace, cudaStream_t stream) {
  constexpr int kRounds = 2, kRuns = 2;
  size_t best = 0;
  float best_time = 0;
  cudaEvent_t begin = nullptr, end = nullptr;
  if (cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess) {
    for (size_t i = 0; i < plan.candidates().size(); ++i) {
      const lt::HeuristicResult& how = plan.candidates()[i];
      float least = 0;
      // The first run loads the kernel.
      bool good = plan.run(p, how, false, out, workspace, stream) == 0;
      for (int round = 0; round < kRounds && good; ++round) {
        good = cudaEventRecord(begin, stream) == cudaSuccess;
        for (int run = 0; run < kRuns && good; ++run) good = plan.run(p, how, false, out, workspace, stream) == 0;
        float time = 0;
        good = good && cudaEventRecord(end, stream) == cudaSuccess && cudaEventSynchronize(end) == cudaSuccess &&
               cudaEventElapsedTime(&time, begin, end) == cudaSuccess;
        if (good && (round == 0 || time < least)) least = time;
      }
      if (good && (best_time == 0 || least < best_time)) {
        best = i;
        best_time = least;
      }
    }
  }
  if (begin != nullptr) cudaEventDestroy(begin);
  if (end != nullptr) cudaEventDestroy(end);
  cudaGetLastError();  // a candidate that could not be launched is no error of the op's
  return best;
}

// The plan for p, with its algorithm chosen. Under the device's lock.
lt::Plan& plan_for(const accel_call* call, const lt::Api& api, Device& device, const LinearProblem& p) {
  const lt::Key key = lt::key_of(p), shape = shape_class(key);
  if (device.plans.size() >= kMaxPlans && !device.plans.contains(key)) device.plans.clear();
  std::unique_ptr<lt::Plan>& plan = device.plans[key];
  const bool is_new = plan == nullptr;
  if (is_new) plan = std::make_unique<lt::Plan>(api, device.handle, key);
  if (!plan->usable() || p.m < kTuneRows || !tuning()) return *plan;
  if (const auto timed = device.timed.find(shape); timed != device.timed.end()) {
    if (is_new) plan->choose(timed->second);  // else the best guess for this very shape stays
    return *plan;
  }
  const auto stream = static_cast<cudaStream_t>(call->stream);
  if (capturing(stream)) return *plan;
  void* out = p.out;  // overwritten by the product itself later, unless that adds to it
  if (p.accumulate) {
    out = call->scratch(call, static_cast<size_t>(p.m) * static_cast<size_t>(p.n) * (p.result.bits / 8));
  }
  const size_t best = fastest(*plan, p, out, call->scratch(call, lt::kWorkspaceBytes), stream);
  const lt::Algorithm algorithm = plan->candidates()[best].algorithm;
  device.timed.emplace(shape, algorithm);
  plan->choose(algorithm);
  return *plan;
}

bool takes(const LinearProblem& p) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(p.x) | reinterpret_cast<uintptr_t>(p.w) |
                         reinterpret_cast<uintptr_t>(p.out) | reinterpret_cast<uintptr_t>(p.bias);
  // Where rows are not multiples of 16 bytes the library adds a bias in a step of its own, to rounded products; ours
  // rounds once. It reads a bias in the dtype of out only.
  const bool rows = p.k * p.in.bits % 128 == 0 && p.n * p.result.bits % 128 == 0;
  const bool bias = p.bias == nullptr || is_float(p.in) == is_float(p.result);
  return bits % 16 == 0 && rows && bias && p.m <= INT32_MAX && p.n <= INT32_MAX && p.k <= INT32_MAX;
}

}  // namespace

bool has_cublaslt(const char** tried) { return lt::load(tried) != nullptr; }

LtResult run_cublaslt(const accel_call* call, const LinearProblem& p) {
  const lt::Api* api = lt::load(nullptr);
  if (api == nullptr || !takes(p)) return LtResult::unsupported;
  Device& device = device_of(call->device.index);
  std::lock_guard lock(device.mutex);
  if (device.handle == nullptr) {
    if (const lt::Status status = api->create(&device.handle); status != 0) {
      device.handle = nullptr;
      call->fail(call, "ERR_ACCEL_INTERNAL", "cublasLtCreate failed with status %d; ACCEL_CUDA_GEMM=own does without", status);
      return LtResult::failed;
    }
  }
  lt::Plan& plan = plan_for(call, *api, device, p);
  if (!plan.usable()) return LtResult::unsupported;
  void* workspace = plan.chosen().workspace > 0 ? call->scratch(call, plan.chosen().workspace) : nullptr;
  const lt::Status status =
      plan.run(p, plan.chosen(), p.accumulate, p.out, workspace, static_cast<cudaStream_t>(call->stream));
  if (status != 0) {
    call->fail(call, "ERR_ACCEL_INTERNAL",
               "cublasLtMatmul failed with status %d for M=%lld N=%lld K=%lld; ACCEL_CUDA_GEMM=own does without the library",
               status, static_cast<long long>(p.m), static_cast<long long>(p.n), static_cast<long long>(p.k));
    return LtResult::failed;
  }
  call->ran(call, "gemm_cublaslt");
  return LtResult::done;
}

}  // namespace accel::cuda
