// A small CUDA host behind accel_call for tests and benches of linear ops: device tensors between guard bytes, scratch,
// the names of the kernels that ran.
#ifndef ACCEL_TEST_CUDA_GEMM_HOST_CUH
#define ACCEL_TEST_CUDA_GEMM_HOST_CUH

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

#include "accel/cuda.cuh"
#include "cuda/kernels.h"

namespace accel::test {

inline void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  printf("%s: %s\n", what, cudaGetErrorString(error));
  exit(2);
}
#define CUDA(call) ::accel::test::require(call, #call)

inline constexpr accel_dtype kF32{ACCEL_FLOAT, 32, 1}, kF16{ACCEL_FLOAT, 16, 1}, kBF16{ACCEL_BFLOAT, 16, 1};
inline const char* name_of(accel_dtype t) { return t.bits == 32 ? "fp32" : t.code == ACCEL_BFLOAT ? "bf16" : "fp16"; }

// Normal numbers from a counter: the same seed gives the same data.
template <class T>
__global__ void fill_normal(T* out, int64_t n, uint64_t seed, float scale) {
  for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
    uint64_t z = seed * 0x9E3779B97F4A7C15ull + (uint64_t)i * 0xD1B54A32D192ED03ull + 1;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    const float u = ((uint32_t)(z >> 32) + 0.5f) * 0x1p-32f, v = (uint32_t)z * 0x1p-32f;
    out[i] = accel::cuda::from_float<T>(sqrtf(-2.f * logf(u)) * cospif(2.f * v) * scale);
  }
}

// Device memory with guards of 0xff bytes (NaN in every dtype) on both sides.
class Tensor {
 public:
  static constexpr size_t kGuard = 4096;
  // `shift` elements away from the aligned start.
  Tensor(accel_dtype type, std::vector<int64_t> dims, int64_t shift = 0) : shape(std::move(dims)) {
    count = 1;
    for (const int64_t d : shape) count *= d;
    bytes = (size_t)count * type.bits / 8;
    const size_t offset = (size_t)shift * type.bits / 8;
    total_ = 2 * kGuard + bytes + offset;
    CUDA(cudaMalloc(&block_, total_));
    CUDA(cudaMemset(block_, 0xff, total_));
    start_ = kGuard + offset;
    tensor = {block_, {ACCEL_DEVICE_CUDA, 0}, (int32_t)shape.size(), type, shape.data(), nullptr, start_};
  }
  Tensor(const Tensor&) = delete;
  ~Tensor() { cudaFree(block_); }
  Tensor& normal(uint64_t seed, float scale = 1.f) {
    accel::cuda::with_float(tensor.dtype, [&](auto* e) {
      using T = std::remove_pointer_t<decltype(e)>;
      if (count > 0) fill_normal<T><<<1024, 256>>>(static_cast<T*>(data()), count, seed, scale);
      return 0;
    });
    CUDA(cudaDeviceSynchronize());
    return *this;
  }
  void poison() {
    CUDA(cudaMemset(block_, 0xff, total_));
    CUDA(cudaDeviceSynchronize());
  }
  void* data() { return block_ + start_; }
  std::vector<uint8_t> host() {
    std::vector<uint8_t> to(bytes);
    if (bytes > 0) CUDA(cudaMemcpy(to.data(), data(), bytes, cudaMemcpyDeviceToHost));
    return to;
  }
  bool guards_intact() {
    const auto untouched = [&](size_t from, size_t to) {
      std::vector<uint8_t> guard(to - from);
      CUDA(cudaMemcpy(guard.data(), block_ + from, guard.size(), cudaMemcpyDeviceToHost));
      for (const uint8_t byte : guard) {
        if (byte != 0xff) return false;
      }
      return true;
    };
    return untouched(0, start_) && untouched(start_ + bytes, total_);
  }

  std::vector<int64_t> shape;
  int64_t count;
  size_t bytes;
  accel_tensor tensor;

 private:
  uint8_t* block_ = nullptr;
  size_t total_, start_;
};

class Host {
 public:
  Host() {
    int devices = 0;
    if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0) {
      printf("skipped: %s\n", error != cudaSuccess ? cudaGetErrorString(error) : "there is no GPU");
      exit(77);
    }
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    cudaDeviceProp device;
    CUDA(cudaGetDeviceProperties(&device, 0));
    printf("device: %s, %d multiprocessors\n", device.name, device.multiProcessorCount);
    call_.device = {ACCEL_DEVICE_CUDA, 0};
    call_.stream = stream;
    call_.host = this;
    call_.capability = device.major * 10 + device.minor;
    call_.multiprocessors = device.multiProcessorCount;
    call_.scratch = [](const accel_call* call, size_t bytes) { return of(call).scratch(bytes); };
    call_.ran = [](const accel_call* call, const char* name) {
      std::string& names = of(call).kernels;
      if (!names.empty()) names += '+';
      names += name;
    };
    call_.fail = fail;
  }

  // Only launches; `kernels` then names what ran.
  bool run(const char* op, std::initializer_list<Tensor*> tensors, int flag = -1) {
    accel_arg args[12] = {};
    int count = 0;
    for (Tensor* t : tensors) {
      args[count].kind = ACCEL_ARG_TENSOR;
      args[count++].tensor = t == nullptr ? nullptr : &t->tensor;
    }
    if (flag >= 0) {
      args[count].kind = ACCEL_ARG_INT;
      args[count++].i = flag;
    }
    call_.args = args;
    call_.nargs = count;
    error.clear();
    kernels.clear();
    used_ = 0;
    const accel::cuda::OpKernels table = accel::cuda::linear_kernels();
    for (int i = 0; i < table.count; ++i) {
      if (strcmp(table.kernels[i].name, op) == 0) return table.kernels[i].run(&call_) == ACCEL_OK;
    }
    error = std::string("no op ") + op;
    return false;
  }
  void wait() { CUDA(cudaStreamSynchronize(stream)); }

  cudaStream_t stream;
  std::string error, kernels;

 private:
  static Host& of(const accel_call* call) { return *static_cast<Host*>(call->host); }
  static int fail(const accel_call* call, const char* code, const char* format, ...) {
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    of(call).error = std::string(code) + ": " + text;
    return ACCEL_FAILED;
  }
  // Blocks are kept by their number within an op, and grow; poisoned when new.
  void* scratch(size_t bytes) {
    if (used_ == blocks_.size()) blocks_.push_back({nullptr, 0});
    Block& block = blocks_[used_++];
    if (block.bytes < bytes) {
      wait();
      CUDA(cudaFree(block.data));
      CUDA(cudaMalloc(&block.data, bytes));
      CUDA(cudaMemset(block.data, 0xff, bytes));
      CUDA(cudaDeviceSynchronize());
      block.bytes = bytes;
    }
    return block.data;
  }

  struct Block {
    void* data;
    size_t bytes;
  };
  accel_call call_{};
  std::vector<Block> blocks_;
  size_t used_ = 0;
};

}  // namespace accel::test
#endif
