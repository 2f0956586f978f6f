// linear, linear_group and gated_linear on CUDA: every path against fp64 sums, by name; guards; bits that must be equal.
//
//   cuda_gemm_test [--bench]     ACCEL_CUBLASLT=... names the library
//
// Bounds. Pre-rounding sums: |error| <= 2^-24 (2 + sqrt(K)) sum|x w| (random signs; the sums of tensor cores truncate).
// Each rounding to the output dtype adds u |value|, u = 2^-8 (bf16), 2^-11 (fp16), 2^-24 (fp32).
#include <cuda_runtime.h>
#include <math.h>

#include "cuda/gemm/cublaslt.h"
#include "cuda/gemm/gemm.h"
#include "cuda_gemm_bench.cuh"
#include "cuda_gemm_host.cuh"

using namespace accel::test;
using accel::cuda::GemmPath;
using accel::cuda::GemvPath;

namespace {

int failures = 0, checks = 0;
void expect(bool good, const char* format, ...) {
  ++checks;
  if (good) return;
  if (++failures > 40) return;
  va_list list;
  va_start(list, format);
  printf("FAILED: ");
  vprintf(format, list);
  printf("\n");
  va_end(list);
}

// ---- reference: one block an output; value[i] = x . w, size[i] = sum |x w|

template <class T>
__global__ void naive(const T* x, const T* w, int64_t n, int64_t k, double* value, double* size) {
  const T *a = x + blockIdx.x / n * k, *b = w + blockIdx.x % n * k;
  double v = 0, s = 0;
  for (int64_t i = threadIdx.x; i < k; i += blockDim.x) {
    const double term = (double)accel::cuda::to_float(a[i]) * (double)accel::cuda::to_float(b[i]);
    v += term;
    s += fabs(term);
  }
  for (int o = 16; o > 0; o /= 2) {
    v += __shfl_xor_sync(~0u, v, o);
    s += __shfl_xor_sync(~0u, s, o);
  }
  if (threadIdx.x == 0) {
    value[blockIdx.x] = v;
    size[blockIdx.x] = s;
  }
}

struct Reference {
  double *value, *size;
  int64_t n, k;
  Reference(Tensor& x, Tensor& w) : n(w.shape[0]), k(w.shape[1]) {
    const int64_t count = x.shape[0] * n;
    CUDA(cudaMalloc(&value, (size_t)count * 8));
    CUDA(cudaMalloc(&size, (size_t)count * 8));
    accel::cuda::with_float(x.tensor.dtype, [&](auto* e) {
      using T = std::remove_pointer_t<decltype(e)>;
      naive<T><<<(unsigned)count, 32>>>((const T*)x.data(), (const T*)w.data(), n, k, value, size);
      return 0;
    });
    CUDA(cudaDeviceSynchronize());
  }
  Reference(const Reference&) = delete;
  ~Reference() {
    cudaFree(value);
    cudaFree(size);
  }
};

// The largest error in units of its bound; NaN counts as infinite.
__device__ void note(float* worst, double error, double bound) {
  float ratio = (float)(error / bound);
  if (!(ratio <= 1e30f)) ratio = 1e30f;
  atomicMax((int*)worst, __float_as_int(ratio));
}
template <class Out, class T>
__global__ void compare_linear(const Out* got, const double* value, const double* size, const T* bias, const Out* old,
                               int64_t count, int64_t n, double acc, double u, double tiny, float* worst) {
  for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
    const double b = bias ? (double)accel::cuda::to_float(bias[i % n]) : 0;
    const double before = value[i] + b, o = old ? (double)accel::cuda::to_float(old[i]) : 0, want = before + o;
    const double bound = acc * (size[i] + fabs(b) + fabs(o)) + 1.01 * u * (fabs(want) + (old ? fabs(before) : 0)) + tiny;
    note(worst, fabs((double)accel::cuda::to_float(got[i]) - want), bound);
  }
}
template <class T>
__global__ void compare_gated(const T* got, const double* gv, const double* gs, const double* uv, const double* us,
                              int64_t count, double acc, double u, double tiny, float* worst) {
  for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
    const double silu = gv[i] / (1 + exp(-gv[i])), want = silu * uv[i];
    const double dg = acc * gs[i] + 1.01 * u * fabs(gv[i]) + tiny, du = acc * us[i] + 1.01 * u * fabs(uv[i]) + tiny;
    // |silu'| <= 1.1
    const double bound = 1.1 * dg * (fabs(uv[i]) + du) + fabs(silu) * du + (1.01 * u + 0x1p-20) * fabs(want) + tiny;
    note(worst, fabs((double)accel::cuda::to_float(got[i]) - want), bound);
  }
}
double accumulation(int64_t k) { return 0x1p-24 * (2 + sqrt((double)k)); }
double roundoff(accel_dtype t) { return t.bits == 32 ? 0x1p-24 : t.code == ACCEL_BFLOAT ? 0x1p-8 : 0x1p-11; }
double tiny_of(accel_dtype t) { return t.bits == 32 ? 1e-37 : t.code == ACCEL_BFLOAT ? 1e-37 : 0x1p-24; }

float* worst_cell() {
  static float* cell = [] {
    float* p;
    CUDA(cudaMalloc(&p, 4));
    return p;
  }();
  CUDA(cudaMemset(cell, 0, 4));
  return cell;
}
float worst_linear(Tensor& out, Reference& r, Tensor* bias, Tensor* old) {
  float *cell = worst_cell(), result;
  const accel_dtype in = bias ? bias->tensor.dtype : kF32;
  accel::cuda::with_float(out.tensor.dtype, [&](auto* o) {
    return accel::cuda::with_float(in, [&](auto* e) {
      using Out = std::remove_pointer_t<decltype(o)>;
      using T = std::remove_pointer_t<decltype(e)>;
      compare_linear<Out, T><<<256, 256>>>((const Out*)out.data(), r.value, r.size, bias ? (const T*)bias->data() : nullptr,
                                           old ? (const Out*)old->data() : nullptr, out.count, r.n, accumulation(r.k),
                                           roundoff(out.tensor.dtype), tiny_of(out.tensor.dtype), cell);
      return 0;
    });
  });
  CUDA(cudaMemcpy(&result, cell, 4, cudaMemcpyDeviceToHost));
  return result;
}
float worst_gated(Tensor& out, Reference& g, Reference& u) {
  float *cell = worst_cell(), result;
  accel::cuda::with_float(out.tensor.dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    compare_gated<T><<<256, 256>>>((const T*)out.data(), g.value, g.size, u.value, u.size, out.count, accumulation(g.k),
                                   roundoff(out.tensor.dtype), tiny_of(out.tensor.dtype), cell);
    return 0;
  });
  CUDA(cudaMemcpy(&result, cell, 4, cudaMemcpyDeviceToHost));
  return result;
}

// ---- cases

bool library = false;

// What should run. `aligned`: all operands at multiples of 16 bytes.
const char* expected(accel_dtype in, accel_dtype out, int64_t m, int64_t k, bool aligned, bool bias, GemmPath gemm, GemvPath gemv) {
  const bool chunks = in.bits == 16 && k % 8 == 0 && aligned;
  if (m <= accel::cuda::kGemvRows) return chunks && gemv == GemvPath::automatic ? "gemv_mma" : "gemv";
  if (gemm == GemmPath::simt) return "gemm_simt";
  if (gemm == GemmPath::automatic && library && aligned && !(bias && in.bits != out.bits)) return "gemm_cublaslt";
  return chunks ? "gemm_mma" : "gemm_simt";
}

void check_linear(Host& host, accel_dtype in, accel_dtype result, int64_t m, int64_t n, int64_t k, bool with_bias, bool accumulate,
                  const std::vector<std::pair<GemmPath, GemvPath>>& paths, int64_t shift = 0) {
  Tensor x(in, {m, k}, shift), w(in, {n, k}), bias(in, {n}), old(result, {m, n}), out(result, {m, n});
  x.normal(m * 7 + k);
  w.normal(n * 3 + k, 1.f / sqrtf((float)k));
  bias.normal(n);
  old.normal(m + n);
  Reference r(x, w);
  Tensor* b = with_bias ? &bias : nullptr;
  for (const auto& [gemm, gemv] : paths) {
    accel::cuda::force_paths(gemm, gemv);
    std::vector<uint8_t> bits;
    for (int run = 0; run < 2; ++run) {
      out.poison();
      if (accumulate) CUDA(cudaMemcpy(out.data(), old.data(), out.bytes, cudaMemcpyDeviceToDevice));
      CUDA(cudaDeviceSynchronize());
      const bool good = host.run("linear", {&out, &x, &w, b}, accumulate);
      host.wait();
      const char* want = expected(in, result, m, k, shift * in.bits / 8 % 16 == 0, with_bias, gemm, gemv);
      char what[200];
      snprintf(what, sizeof what, "linear %s -> %s M=%lld N=%lld K=%lld bias=%d accumulate=%d shift=%lld", name_of(in), name_of(result),
               (long long)m, (long long)n, (long long)k, with_bias, accumulate, (long long)shift);
      expect(good, "%s: %s", what, host.error.c_str());
      // For sizes that are not whole vectors the library may have no algorithm.
      const bool may_decline = strcmp(want, "gemm_cublaslt") == 0 && (n % 8 != 0 || k % 8 != 0);
      if (may_decline && host.kernels != want) want = in.bits == 16 && k % 8 == 0 ? "gemm_mma" : "gemm_simt";
      expect(host.kernels == want, "%s ran %s instead of %s", what, host.kernels.c_str(), want);
      const float e = worst_linear(out, r, b, accumulate ? &old : nullptr);
      expect(e <= 1.f, "%s %s: error %g of its bound", host.kernels.c_str(), what, e);
      expect(out.guards_intact(), "%s %s wrote outside of out", host.kernels.c_str(), what);
      const std::vector<uint8_t> now = out.host();
      if (run == 0) bits = now;
      expect(now == bits, "%s %s: another run gave other bits", host.kernels.c_str(), what);
    }
  }
  accel::cuda::force_paths(GemmPath::automatic, GemvPath::automatic);
}

void check_few(Host& host) {
  int turn = 0;
  for (const accel_dtype in : {kBF16, kF16, kF32}) {
    for (const int64_t k : {8, 64, 100, 1000, 4096, 14336}) {
      for (const int64_t n : {1, 5, 64, 1000, 1024, 6144}) {
        for (const int64_t m : {1, 2, 3, 7, 8}) {
          if (n == 6144 && (k > 4096 || m % 7 != 1)) continue;  // M = 1 and 8
          ++turn;
          check_linear(host, in, turn % 5 == 0 ? kF32 : in, m, n, k, turn % 3 == 0, turn % 4 == 0,
                       {{GemmPath::automatic, GemvPath::automatic}, {GemmPath::automatic, GemvPath::scalar}});
        }
      }
    }
    check_linear(host, in, in, 3, 65, 256, true, false, {{GemmPath::automatic, GemvPath::automatic}}, 1);
  }
}

void check_many(Host& host) {
  const std::vector<std::pair<GemmPath, GemvPath>> paths = {{GemmPath::automatic, GemvPath::automatic},
                                                            {GemmPath::own, GemvPath::automatic},
                                                            {GemmPath::simt, GemvPath::automatic}};
  const std::vector<std::pair<int64_t, int64_t>> sizes = {{1, 8}, {5, 64}, {64, 100}, {1000, 1000}, {1024, 4096}, {64, 14336}, {6144, 64}};
  int turn = 0;
  for (const accel_dtype in : {kBF16, kF16, kF32}) {
    for (const auto& [n, k] : sizes) {
      for (const int64_t m : {9, 127, 128, 129, 257, 4097}) {
        if (m == 4097 && n * k > 1000 * 1000) continue;
        ++turn;
        check_linear(host, in, turn % 5 == 0 ? kF32 : in, m, n, k, turn % 3 == 0, turn % 4 == 0, paths);
      }
    }
    check_linear(host, in, in, 4097, 1000, 1000, true, true, paths);
    check_linear(host, in, in, 33, 65, 256, true, false, paths, 1);
  }
}

void check_group(Host& host, accel_dtype in, int64_t m, int64_t k, std::vector<int64_t> widths, bool with_bias) {
  Tensor x(in, {m, k});
  x.normal(m + k);
  std::vector<std::unique_ptr<Tensor>> out, w, bias;
  for (const int64_t n : widths) {
    out.push_back(std::make_unique<Tensor>(in, std::vector<int64_t>{m, n}));
    w.push_back(std::make_unique<Tensor>(in, std::vector<int64_t>{n, k}));
    w.back()->normal(n, 1.f / sqrtf((float)k));
    bias.push_back(std::make_unique<Tensor>(in, std::vector<int64_t>{n}));
    bias.back()->normal(n + 1);
  }
  const auto at = [](auto& list, size_t i, bool there) { return there && i < list.size() ? list[i].get() : nullptr; };
  const bool good = host.run("linear_group", {at(out, 0, true), at(out, 1, true), at(out, 2, true), &x, at(w, 0, true), at(w, 1, true),
                                              at(w, 2, true), at(bias, 0, with_bias), at(bias, 1, with_bias), at(bias, 2, with_bias)});
  host.wait();
  expect(good, "linear_group: %s", host.error.c_str());
  if (m <= 8) expect(host.kernels.find('+') == std::string::npos, "linear_group of few rows ran %s", host.kernels.c_str());
  for (size_t i = 0; i < widths.size(); ++i) {
    Reference r(x, *w[i]);
    const float e = worst_linear(*out[i], r, at(bias, i, with_bias), nullptr);
    expect(e <= 1.f, "linear_group %s M=%lld K=%lld part %d: %g", name_of(in), (long long)m, (long long)k, (int)i, e);
    expect(out[i]->guards_intact(), "linear_group wrote outside of part %d", (int)i);
    Tensor alone(in, {m, widths[i]});
    host.run("linear", {&alone, &x, w[i].get(), at(bias, i, with_bias)}, 0);
    host.wait();
    expect(alone.host() == out[i]->host(), "linear_group %s M=%lld K=%lld: part %d differs from linear", name_of(in), (long long)m,
           (long long)k, (int)i);
  }
}

void check_gated(Host& host, accel_dtype in, int64_t m, int64_t n, int64_t k, GemvPath path) {
  accel::cuda::force_paths(GemmPath::automatic, path);
  Tensor x(in, {m, k}), gate(in, {n, k}), up(in, {n, k}), out(in, {m, n});
  x.normal(m + k);
  gate.normal(n, 2.f / sqrtf((float)k));
  up.normal(n + 1, 1.f / sqrtf((float)k));
  const bool good = host.run("gated_linear", {&out, &x, &gate, &up});
  host.wait();
  expect(good, "gated_linear: %s", host.error.c_str());
  if (m <= 8) expect(host.kernels.find('+') == std::string::npos, "gated_linear of few rows ran %s", host.kernels.c_str());
  Reference g(x, gate), u(x, up);
  const float e = worst_gated(out, g, u);
  expect(e <= 1.f, "%s gated_linear %s M=%lld N=%lld K=%lld: %g", host.kernels.c_str(), name_of(in), (long long)m, (long long)n,
         (long long)k, e);
  expect(out.guards_intact(), "gated_linear wrote outside of out");
  accel::cuda::force_paths(GemmPath::automatic, GemvPath::automatic);
}

// A row of a batch has the bits it has alone.
void check_rows(Host& host, accel_dtype in, int64_t n, int64_t k) {
  Tensor x(in, {8, k}), w(in, {n, k}), out(in, {8, n});
  x.normal(1);
  w.normal(2, 1.f / sqrtf((float)k));
  host.run("linear", {&out, &x, &w, nullptr}, 0);
  host.wait();
  const std::vector<uint8_t> all = out.host();
  for (int row = 0; row < 8; row += 7) {
    Tensor one(in, {1, k}), alone(in, {1, n});
    CUDA(cudaMemcpy(one.data(), (uint8_t*)x.data() + row * one.bytes, one.bytes, cudaMemcpyDeviceToDevice));
    CUDA(cudaDeviceSynchronize());
    host.run("linear", {&alone, &one, &w, nullptr}, 0);
    host.wait();
    expect(memcmp(alone.host().data(), all.data() + row * alone.bytes, alone.bytes) == 0, "%s N=%lld K=%lld: row %d depends on the batch",
           name_of(in), (long long)n, (long long)k, row);
  }
}

// A chain h = A x, x = B h, ... in two buffers, as a graph: launches overlap, and none may read what its predecessor has
// not written yet, nor what an older product left in a cache. Against the same ops with a wait after each.
void check_graph(Host& host, int64_t m) {
  constexpr int kLinks = 16;
  Tensor start(kBF16, {m, 2048}), x(kBF16, {m, 2048}), h(kBF16, {m, 4096}), a(kBF16, {4096, 2048}), b(kBF16, {2048, 4096});
  start.normal(1);
  a.normal(2, 1.f / sqrtf(2048.f));
  b.normal(3, 1.f / 64);
  const auto link = [&](int i) {
    const bool good = i % 2 == 0 ? host.run("linear", {&h, &x, &a, nullptr}, 0) : host.run("linear", {&x, &h, &b, nullptr}, 0);
    expect(good, "a chain of products: %s", host.error.c_str());
  };
  const auto reset = [&] {
    h.poison();
    CUDA(cudaMemcpy(x.data(), start.data(), x.bytes, cudaMemcpyDeviceToDevice));
    CUDA(cudaDeviceSynchronize());
  };
  reset();
  for (int i = 0; i < kLinks; ++i) {
    link(i);
    host.wait();
  }
  const std::vector<uint8_t> want = x.host();
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  CUDA(cudaStreamBeginCapture(host.stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < kLinks; ++i) link(i);
  CUDA(cudaStreamEndCapture(host.stream, &graph));
  CUDA(cudaGraphInstantiate(&replay, graph, 0));
  for (int i = 0; i < 30; ++i) {
    reset();
    if (i % 3 == 2) {
      for (int j = 0; j < kLinks; ++j) link(j);
    } else {
      CUDA(cudaGraphLaunch(replay, host.stream));
    }
    host.wait();
    expect(x.host() == want, "M=%lld: a chain %s gave other bits than its links one by one", (long long)m,
           i % 3 == 2 ? "of launches" : "in a graph");
  }
  CUDA(cudaGraphExecDestroy(replay));
  CUDA(cudaGraphDestroy(graph));
}

}  // namespace

int main(int argc, char** argv) {
  Host host;
  const char* tried = "";
  library = accel::cuda::has_cublaslt(&tried);
  printf("cuBLASLt: %s%s\n", library ? "found" : "not found: ", library ? "" : tried);
  if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
    bench(host, library);
    return 0;
  }
  check_few(host);
  check_many(host);
  for (const accel_dtype in : {kBF16, kF16, kF32}) {
    for (const int64_t m : {1, 3, 8, 9, 300}) {
      check_group(host, in, m, 4096, {4096, 1024, 1024}, false);
      check_group(host, in, m, 1000, {7, 130, 8}, true);
      check_group(host, in, m, 96, {33, 9}, m == 8);
      check_group(host, in, m, 100, {20}, true);
      for (const GemvPath path : {GemvPath::automatic, GemvPath::scalar}) {
        check_gated(host, in, m, 1, 8, path);
        check_gated(host, in, m, 1003, 1000, path);
        check_gated(host, in, m, 3584, 1024, path);
        check_gated(host, in, m, 100, 14336, path);
      }
    }
    check_rows(host, in, 1024, 4096);
    check_rows(host, in, 6144, 1000);
    check_rows(host, in, 333, 14336);
  }
  for (const int64_t m : {1, 8, 64}) check_graph(host, m);
  printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
