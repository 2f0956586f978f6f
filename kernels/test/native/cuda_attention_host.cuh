// A small CUDA host behind accel_call, and caches made of scattered pages, for attention tests and benches.
//
// What no kernel may read holds NaN: pages in random order with gaps between them, rows past the end, dropped rows,
// scratch memory and outputs. Uploads are remembered by content, so a repeated op launches kernels only.
#ifndef ACCEL_TEST_CUDA_ATTENTION_HOST_CUH
#define ACCEL_TEST_CUDA_ATTENTION_HOST_CUH

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "accel/cuda.cuh"

namespace accel::test {

inline void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  printf("%s: %s\n", what, cudaGetErrorString(error));
  exit(2);
}
#define CUDA(call) ::accel::test::require(call, #call)

// Device memory; starts as NaN bytes.
template <class T = uint8_t>
class Buffer {
 public:
  explicit Buffer(size_t n = 0) : size(n) {
    if (n == 0) return;
    CUDA(cudaMalloc(&data, n * sizeof(T)));
    poison();
  }
  Buffer(const std::vector<T>& from) : Buffer(from.size()) {
    if (size > 0) CUDA(cudaMemcpy(data, from.data(), size * sizeof(T), cudaMemcpyHostToDevice));
    CUDA(cudaDeviceSynchronize());       // other streams do not wait for the default one
  }
  Buffer(Buffer&& other) noexcept : size(other.size), data(other.data) { other.data = nullptr; }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(size, other.size);
    std::swap(data, other.data);
    return *this;
  }
  ~Buffer() { cudaFree(data); }
  void poison() {
    CUDA(cudaMemset(data, 0xff, size * sizeof(T)));
    CUDA(cudaDeviceSynchronize());
  }
  std::vector<T> host() const {
    std::vector<T> to(size);
    if (size > 0) CUDA(cudaMemcpy(to.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost));
    return to;
  }
  size_t size = 0;
  T* data = nullptr;
};

class CudaHost {
 public:
  CudaHost() {
    int device = 0;
    CUDA(cudaGetDevice(&device));
    cudaDeviceProp properties;
    CUDA(cudaGetDeviceProperties(&properties, device));
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA(cudaHostAlloc(&call_.device_error, sizeof(accel_device_error), cudaHostAllocMapped));
    *call_.device_error = {};
    call_.device = {ACCEL_DEVICE_CUDA, device};
    call_.stream = stream;
    call_.host = this;
    call_.scratch = scratch;
    call_.upload = upload;
    call_.ran = ran;
    call_.fail = fail;
    call_.device_check = device_check;
    call_.capability = properties.major * 10 + properties.minor;
    call_.multiprocessors = properties.multiProcessorCount;
    printf("%s, sm_%d, %d multiprocessors\n", properties.name, call_.capability, call_.multiprocessors);
  }
  CudaHost(const CudaHost&) = delete;

  // Enqueues an op (or anything that takes a call); false after a failure, with `error` set.
  template <class Op>
  bool run(const std::vector<accel_arg>& args, Op op) {
    call_.args = args.data();
    call_.nargs = static_cast<int32_t>(args.size());
    error.clear();
    kernels.clear();
    used_ = 0;
    return op(&call_) == ACCEL_OK;
  }
  void synchronize() { CUDA(cudaStreamSynchronize(stream)); }
  const accel_call* call() const { return &call_; }

  std::string error, kernels;
  cudaStream_t stream = nullptr;
  bool poison = true;                    // scratch holds NaN before each use

 private:
  static CudaHost& of(const accel_call* call) { return *static_cast<CudaHost*>(call->host); }
  static void* scratch(const accel_call* call, size_t bytes) {
    CudaHost& host = of(call);
    if (host.used_ == host.blocks_.size()) host.blocks_.emplace_back();
    Buffer<uint8_t>& block = host.blocks_[host.used_++];
    if (block.size < bytes) {
      host.synchronize();
      block = Buffer<uint8_t>(bytes);
    }
    if (host.poison) CUDA(cudaMemsetAsync(block.data, 0xff, block.size, host.stream));
    return block.data;
  }
  static const void* upload(const accel_call* call, const void* from, size_t bytes) {
    CudaHost& host = of(call);
    const std::string key(static_cast<const char*>(from), bytes);
    auto [at, fresh] = host.uploads_.try_emplace(key);
    if (fresh) at->second = Buffer<uint8_t>(std::vector<uint8_t>(key.begin(), key.end()));
    return at->second.data;
  }
  static void ran(const accel_call* call, const char* name) {
    std::string& names = of(call).kernels;
    if (!names.empty()) names += " ";
    names += name;
  }
  static int fail(const accel_call* call, const char* code, const char* format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    of(call).error = std::string(code) + ": " + text;
    return ACCEL_FAILED;
  }
  static int32_t device_check(const accel_call* call, const char*, const char*) { return ++of(call).checks_; }

  accel_call call_{};
  std::vector<Buffer<uint8_t>> blocks_;
  size_t used_ = 0;
  std::map<std::string, Buffer<uint8_t>> uploads_;
  int32_t checks_ = 0;
};

// ---- random numbers, the same on every run

__device__ inline float random_normal(uint64_t seed, uint64_t index) {
  uint64_t x = seed * 0x9e3779b97f4a7c15ull + index * 0xbf58476d1ce4e5b9ull + 1;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  x ^= x >> 31;
  const float u = ((x >> 40) + 0.5f) * 0x1p-24f, v = (x & 0xffffff) * 0x1p-24f;
  return sqrtf(-2 * logf(u)) * cospif(2 * v);
}

// to[i] normal, rounded to T; copy[i] the rounded value in fp32, if given.
template <class T>
__global__ void fill_normal(T* to, float* copy, int64_t n, float deviation, uint64_t seed) {
  for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll) {
    const T x = cuda::from_float<T>(random_normal(seed, i) * deviation);
    to[i] = x;
    if (copy != nullptr) copy[i] = cuda::to_float(x);
  }
}

// Fills the rows of one head, by the rule in accel/op.h, and copies them to dense[row][channel] if given.
template <class T>
__global__ void fill_rows(uint8_t* base, int64_t page_bytes, const int32_t* pages, int rows_per_page, int head_dim,
                          int rows, int gap_at, int gap, float* dense, uint64_t seed) {
  const int64_t n = static_cast<int64_t>(rows) * head_dim;
  for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll) {
    const int r = static_cast<int>(i / head_dim), c = static_cast<int>(i % head_dim), s = r < gap_at ? r : r + gap;
    const T x = cuda::from_float<T>(random_normal(seed, i));
    reinterpret_cast<T*>(base + pages[s / rows_per_page] * page_bytes)[s % rows_per_page * head_dim + c] = x;
    if (dense != nullptr) dense[i] = cuda::to_float(x);
  }
}

// ---- a cache

struct CacheShape {
  accel_dtype dtype;
  int head_dim;
  int kv_heads;
  int rows_per_page;
  std::vector<int> rows;                 // [sequences * kv_heads]
  bool gaps = false;                     // every other head has dropped rows behind its first ones
  bool dense = true;                     // keep fp32 copies for the naive kernels
  int stale = 0;                         // how many rows fewer the host's view has
  int tallies = 0;
};

class Cache {
 public:
  Cache(const CacheShape& shape, uint64_t seed) {
    const int heads = static_cast<int>(shape.rows.size()), per_page = shape.rows_per_page;
    const int64_t row_bytes = shape.head_dim * (shape.dtype.bits / 8);
    kv.page_bytes = per_page * row_bytes;
    kv.dtype = shape.dtype;
    kv.head_dim = shape.head_dim;
    kv.sequences = heads / shape.kv_heads;
    kv.heads = shape.kv_heads;
    kv.rows_per_page = per_page;
    kv.tallies = shape.tallies;
    kv.record_bytes = shape.tallies == 0 ? 0 : 4 * (1 + shape.tallies);  // none: row r has position r
    kv.records_per_page = static_cast<int32_t>(kv.page_bytes / (4 * (1 + shape.tallies)));

    std::vector<int> pages(heads);       // per list: keys, values, records
    int64_t total = 0;
    heads_.resize(heads);
    for (int h = 0; h < heads; h++) {
      accel_kv_head& head = heads_[h];
      head.rows = shape.rows[h];
      head.gap_at = shape.gaps && h % 2 == 0 ? std::min(head.rows, 5) : head.rows;
      head.gap = shape.gaps && h % 2 == 0 ? 3 * per_page / 2 + 1 : 0;
      const int least = std::min(per_page, kv.records_per_page);
      pages[h] = (head.rows + head.gap + least - 1) / least;
      total += 3 * pages[h];
      kv.row_limit = std::max(kv.row_limit, head.rows);
    }
    // A quarter more pages than needed, in random order: neighbours in a list are not neighbours in memory.
    std::vector<int32_t> order(total + total / 4 + 1);
    for (size_t i = 0; i < order.size(); i++) order[i] = static_cast<int32_t>(i);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
    pool_ = Buffer<uint8_t>(order.size() * kv.page_bytes);
    kv.base = pool_.data;
    lists_host_ = order;
    lists_ = Buffer<int32_t>(order);

    std::vector<accel_kv_head> on_device(heads_);
    int64_t at = 0;
    for (int h = 0; h < heads; h++) {
      const auto place = [&](const accel_kv_head& like, const int32_t* lists) {
        accel_kv_head head = like;
        head.key_pages = lists + at;
        head.value_pages = lists + at + pages[h];
        head.record_pages = lists + at + 2 * pages[h];
        return head;
      };
      on_device[h] = place(heads_[h], lists_.data);
      heads_[h] = place(heads_[h], lists_host_.data());
      const int64_t floats = static_cast<int64_t>(heads_[h].rows) * kv.head_dim;
      keys.emplace_back(shape.dense ? floats : 0);
      values.emplace_back(shape.dense ? floats : 0);
      for (int side = 0; side < 2 && floats > 0; side++) {
        cuda::with_float(shape.dtype, [&](auto* element) {
          using T = std::remove_pointer_t<decltype(element)>;
          fill_rows<T><<<512, 256>>>(kv.base, kv.page_bytes, side == 0 ? on_device[h].key_pages : on_device[h].value_pages,
                                     per_page, kv.head_dim, heads_[h].rows, heads_[h].gap_at, heads_[h].gap,
                                     side == 0 ? keys[h].data : values[h].data, seed * 1000 + 2 * h + side);
          return 0;
        });
      }
      at += 3 * pages[h];
      heads_[h].rows = std::max(0, heads_[h].rows - shape.stale);
    }
    device_heads_ = Buffer<accel_kv_head>(on_device);
    kv.head = heads_.data();
    kv.device_head = device_heads_.data;
    std::vector<const float*> k, v;
    for (int h = 0; h < heads; h++) {
      k.push_back(keys[h].data);
      v.push_back(values[h].data);
    }
    key_table = Buffer<const float*>(k);
    value_table = Buffer<const float*>(v);
    CUDA(cudaDeviceSynchronize());
  }

  accel_kv kv{};
  std::vector<Buffer<float>> keys, values;           // [sequence * heads]: [rows, head_dim]
  Buffer<const float*> key_table, value_table;

 private:
  std::vector<accel_kv_head> heads_;
  std::vector<int32_t> lists_host_;
  Buffer<uint8_t> pool_;
  Buffer<int32_t> lists_;
  Buffer<accel_kv_head> device_heads_;
};

// ---- arguments

struct TensorView {
  int64_t shape[3] = {};
  accel_tensor tensor{};
  TensorView(void* data, accel_dtype dtype, std::vector<int64_t> dims) {
    std::copy(dims.begin(), dims.end(), shape);
    tensor = {data, {ACCEL_DEVICE_CUDA, 0}, static_cast<int32_t>(dims.size()), dtype, shape, nullptr, 0};
  }
  TensorView(const TensorView&) = delete;
};

inline accel_arg arg(const accel_tensor* t) {
  accel_arg a{};
  a.kind = ACCEL_ARG_TENSOR;
  a.tensor = t;
  return a;
}
inline accel_arg arg(int64_t i) {
  accel_arg a{};
  a.kind = ACCEL_ARG_INT;
  a.i = i;
  return a;
}
inline accel_arg arg(double f) {
  accel_arg a{};
  a.kind = ACCEL_ARG_FLOAT;
  a.f = f;
  return a;
}
inline accel_arg arg(const std::vector<int32_t>& list) {
  accel_arg a{};
  a.kind = ACCEL_ARG_INTS;
  a.ints = {list.data(), static_cast<int64_t>(list.size())};
  return a;
}
inline accel_arg arg(const accel_kv* kv) {
  accel_arg a{};
  a.kind = ACCEL_ARG_KV;
  a.kv = kv;
  return a;
}

constexpr accel_dtype bf16 = {ACCEL_BFLOAT, 16, 1}, fp16 = {ACCEL_FLOAT, 16, 1}, fp32 = {ACCEL_FLOAT, 32, 1};
inline const char* name_of(accel_dtype d) { return d.code == ACCEL_BFLOAT ? "bf16" : d.bits == 16 ? "fp16" : "fp32"; }

}  // namespace accel::test
#endif
