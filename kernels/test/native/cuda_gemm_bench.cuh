// Benches of the linear ops: `cuda_gemm_test --bench`.
//
// Few rows: GB/s of weight bytes. A graph of launches that go round over enough copies of the weights that none is in L2
// (> 256 MB); the time of a launch is the graph's over their number, as in a decode step. Many rows: TF/s of one launch.
// Random normal data, 10 warm-ups, median, p10 and p90 of 30 runs between events.
#ifndef ACCEL_TEST_CUDA_GEMM_BENCH_CUH
#define ACCEL_TEST_CUDA_GEMM_BENCH_CUH

#include <algorithm>
#include <functional>
#include <memory>

#include "cuda/gemm/gemm.h"
#include "cuda_gemm_host.cuh"

namespace accel::test {

struct Times {
  double median, p10, p90;  // seconds
};

inline Times measure(Host& host, const std::function<void()>& run, int runs = 30) {
  cudaEvent_t begin, end;
  CUDA(cudaEventCreate(&begin));
  CUDA(cudaEventCreate(&end));
  std::vector<double> times;
  for (int i = -10; i < runs; ++i) {
    CUDA(cudaEventRecord(begin, host.stream));
    run();
    CUDA(cudaEventRecord(end, host.stream));
    CUDA(cudaEventSynchronize(end));
    float ms;
    CUDA(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 0) times.push_back(ms * 1e-3);
  }
  CUDA(cudaEventDestroy(begin));
  CUDA(cudaEventDestroy(end));
  std::sort(times.begin(), times.end());
  const auto at = [&](double q) { return times[(size_t)(q * (double)(times.size() - 1) + 0.5)]; };
  return {at(0.5), at(0.1), at(0.9)};
}

// What reading alone gives: the yardstick for the lines below.
__global__ void __launch_bounds__(512) read_all(const uint4* from, int64_t n, uint32_t* to) {
  uint32_t sum = 0;
  const int64_t step = (int64_t)gridDim.x * blockDim.x;
  int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
  for (; i + 7 * step < n; i += 8 * step) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = __ldcs(from + i + j * step);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  for (; i < n; i += step) sum ^= from[i].x;
  if (sum == 0x12345678u) *to = sum;
}
inline void bench_read(Host& host) {
  Tensor big(kF32, {1 << 28}), to(kF32, {1});
  big.normal(1);
  const Times t = measure(host, [&] {
    read_all<<<132 * 4, 512, 0, host.stream>>>((const uint4*)big.data(), (int64_t)big.bytes / 16, (uint32_t*)to.data());
  });
  printf("read 1 GB: %.1f us, %.0f GB/s\n", t.median * 1e6, (double)big.bytes / t.median * 1e-9);
}

// One layer's product. parts: out widths; gated: two weights of parts[0] rows.
struct Shape {
  const char* name;
  std::vector<int64_t> parts;
  int64_t k;
  bool gated;
  int64_t rows() const {
    int64_t n = 0;
    for (const int64_t part : parts) n += gated ? 2 * part : part;
    return n;
  }
};
inline const std::vector<Shape>& shapes_8b() {
  static const std::vector<Shape> shapes = {{"qkv  group 4096+1024+1024 x 4096", {4096, 1024, 1024}, 4096, false},
                                            {"o    4096 x 4096", {4096}, 4096, false},
                                            {"mlp  gated 2 x 14336 x 4096", {14336}, 4096, true},
                                            {"down 4096 x 14336", {4096}, 14336, false},
                                            {"head 128256 x 4096", {128256}, 4096, false},
                                            {"k    1024 x 4096", {1024}, 4096, false}};
  return shapes;
}

struct Weights {
  std::vector<std::unique_ptr<Tensor>> w, out;
  Weights(const Shape& s, int64_t m, uint64_t seed) {
    const float scale = 1.f / sqrtf((float)s.k);
    for (const int64_t n : s.parts) {
      for (int i = 0; i < (s.gated ? 2 : 1); ++i) {
        w.push_back(std::make_unique<Tensor>(kBF16, std::vector<int64_t>{n, s.k}));
        w.back()->normal(++seed, scale);
      }
      out.push_back(std::make_unique<Tensor>(kBF16, std::vector<int64_t>{m, n}));
    }
  }
};
inline void run_shape(Host& host, const Shape& s, Tensor& x, Weights& at) {
  const auto w = [&](size_t i) { return i < at.w.size() ? at.w[i].get() : nullptr; };
  const auto out = [&](size_t i) { return i < at.out.size() ? at.out[i].get() : nullptr; };
  const bool good = s.gated ? host.run("gated_linear", {out(0), &x, w(0), w(1)})
                    : s.parts.size() == 1
                        ? host.run("linear", {out(0), &x, w(0), nullptr}, 0)
                        : host.run("linear_group", {out(0), out(1), out(2), &x, w(0), w(1), w(2), nullptr, nullptr, nullptr});
  if (!good) {
    printf("%s: %s\n", s.name, host.error.c_str());
    exit(1);
  }
}

inline void bench_gemv(Host& host, const Shape& s, int64_t m, cuda::GemvPath path) {
  cuda::force_paths(cuda::GemmPath::automatic, path);
  Tensor x(kBF16, {m, s.k});
  x.normal(7);
  const double bytes = (double)s.rows() * (double)s.k * 2;
  const int copies = std::max(2, (int)(256e6 / bytes) + 1), launches = std::max(copies * 2, 16) / copies * copies;
  std::vector<std::unique_ptr<Weights>> weights;
  for (int i = 0; i < copies; ++i) weights.push_back(std::make_unique<Weights>(s, m, 100 * i));
  run_shape(host, s, x, *weights[0]);
  host.wait();
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  CUDA(cudaStreamBeginCapture(host.stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) run_shape(host, s, x, *weights[i % copies]);
  CUDA(cudaStreamEndCapture(host.stream, &graph));
  CUDA(cudaGraphInstantiate(&replay, graph, 0));
  const Times t = measure(host, [&] { CUDA(cudaGraphLaunch(replay, host.stream)); });
  CUDA(cudaGraphExecDestroy(replay));
  CUDA(cudaGraphDestroy(graph));
  printf("%-9s %-36s M=%lld: %7.2f us, %5.0f GB/s (p10 %.0f, p90 %.0f)\n", host.kernels.c_str(), s.name, (long long)m,
         t.median / launches * 1e6, bytes * launches / t.median * 1e-9, bytes * launches / t.p90 * 1e-9,
         bytes * launches / t.p10 * 1e-9);
}

inline void bench_gemm(Host& host, const Shape& s, int64_t m, cuda::GemmPath path) {
  cuda::force_paths(path, cuda::GemvPath::automatic);
  Tensor x(kBF16, {m, s.k});
  x.normal(7);
  Weights weights(s, m, 3);
  const double flop = 2. * (double)m * (double)s.rows() * (double)s.k;
  const Times t = measure(host, [&] { run_shape(host, s, x, weights); });
  printf("%-13s %-36s M=%lld: %8.1f us, %4.0f TF/s (p10 %.0f, p90 %.0f)\n",
         host.kernels.substr(0, host.kernels.find('+')).c_str(), s.name, (long long)m, t.median * 1e6,
         flop / t.median * 1e-12, flop / t.p90 * 1e-12, flop / t.p10 * 1e-12);
}

inline void bench(Host& host, bool library) {
  bench_read(host);
  for (const Shape& s : shapes_8b()) {
    for (const int64_t m : {1, 2, 4, 8}) bench_gemv(host, s, m, cuda::GemvPath::automatic);
    for (const int64_t m : {1, 2}) bench_gemv(host, s, m, cuda::GemvPath::scalar);
  }
  for (const Shape& s : shapes_8b()) {
    for (const int64_t m : {16, 4096, 8192}) {
      if (library) bench_gemm(host, s, m, cuda::GemmPath::cublaslt);
      bench_gemm(host, s, m, cuda::GemmPath::own);
    }
  }
  cuda::force_paths(cuda::GemmPath::automatic, cuda::GemvPath::automatic);
}

}  // namespace accel::test
#endif
