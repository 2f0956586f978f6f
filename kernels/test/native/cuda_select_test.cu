// topk and sample on the GPU against plain sorting on the host. A program of its own: links ops/select.cu and
// ops/sample.cu and stands in for the runtime.
//   cuda_select_test [--small] [--bench] [seed]
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "accel/cuda.cuh"
#include "cuda/kernels.h"

namespace {

int passed = 0, failed = 0;

__attribute__((format(printf, 2, 3))) void expect(bool ok, const char* format, ...) {
  (ok ? passed : failed)++;
  if (ok || failed > 40) return;
  va_list list;
  va_start(list, format);
  printf("FAIL ");
  vprintf(format, list);
  printf("\n");
  va_end(list);
}

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  printf("%s: %s\n", what, cudaGetErrorString(error));
  exit(2);
}

using Random = std::mt19937_64;
int64_t pick(Random& rng, int64_t lo, int64_t hi) { return lo + (int64_t)(rng() % (uint64_t)(hi - lo + 1)); }

// ---- a host for the ops: one stream, no scratch (neither op takes any), errors in mapped memory

struct Check {
  const char *code, *format;
};

int fail(const accel_call*, const char* code, const char* format, ...) {
  va_list list;
  va_start(list, format);
  printf("%s: ", code);
  vprintf(format, list);
  printf("\n");
  va_end(list);
  return ACCEL_FAILED;
}

struct Gpu {
  accel_call call = {};
  cudaStream_t stream;
  std::vector<Check> checks;
  std::string ran;

  Gpu() {
    cudaDeviceProp properties;
    must(cudaGetDeviceProperties(&properties, 0), "no usable device");
    must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    must(cudaHostAlloc(&call.device_error, sizeof(accel_device_error), cudaHostAllocMapped), "pinned memory");
    *call.device_error = {};
    call.device = {ACCEL_DEVICE_CUDA, 0};
    call.stream = stream;
    call.host = this;
    call.capability = properties.major * 10 + properties.minor;
    call.multiprocessors = properties.multiProcessorCount;
    call.ran = [](const accel_call* c, const char* name) { static_cast<Gpu*>(c->host)->ran = name; };
    call.fail = fail;
    call.device_check = [](const accel_call* c, const char* code, const char* format) {
      Gpu* gpu = static_cast<Gpu*>(c->host);
      for (size_t i = 0; i < gpu->checks.size(); i++) {
        if (gpu->checks[i].format == format) return (int32_t)i + 1;
      }
      gpu->checks.push_back({code, format});
      return (int32_t)gpu->checks.size();
    };
    printf("%s, sm_%d, %d multiprocessors\n", properties.name, call.capability, call.multiprocessors);
  }
  // Returns "" or the code and index of a data error.
  std::string finish() {
    must(cudaStreamSynchronize(stream), "kernel");
    if (call.device_error->check == 0) return "";
    char text[300];
    const Check& check = checks[call.device_error->check - 1];
    snprintf(text, sizeof text, "%s %lld %lld", check.code, (long long)call.device_error->index,
             (long long)call.device_error->value);
    *call.device_error = {};
    return text;
  }
};

// A tensor in device memory with a guard behind it that must stay as it is.
template <class T>
struct Array {
  std::vector<int64_t> shape;
  accel_tensor t = {};
  int64_t size = 1;
  static constexpr int guard = 256;

  Array(std::vector<int64_t> shape_, const T* from) : shape(std::move(shape_)) {
    for (const int64_t s : shape) size *= s;
    must(cudaMalloc(&t.data, size * sizeof(T) + guard), "memory");
    must(cudaMemset(t.data, 0xee, size * sizeof(T) + guard), "memset");
    if (from != nullptr) must(cudaMemcpy(t.data, from, size * sizeof(T), cudaMemcpyHostToDevice), "copy");
    t.ndim = (int32_t)shape.size();
    t.shape = shape.data();
    must(cudaDeviceSynchronize(), "upload");
  }
  Array(const Array&) = delete;
  ~Array() { cudaFree(t.data); }
  std::vector<T> read() const {
    std::vector<T> out(size);
    must(cudaMemcpy(out.data(), t.data, size * sizeof(T), cudaMemcpyDeviceToHost), "copy");
    return out;
  }
  bool intact() const {
    uint8_t bytes[guard];
    must(cudaMemcpy(bytes, static_cast<uint8_t*>(t.data) + size * sizeof(T), guard, cudaMemcpyDeviceToHost), "copy");
    return std::all_of(bytes, bytes + guard, [](uint8_t b) { return b == 0xee; });
  }
  accel_arg arg() const {
    accel_arg a = {ACCEL_ARG_TENSOR, {}};
    a.tensor = &t;
    return a;
  }
};
accel_arg integer(int64_t i) {
  accel_arg a = {ACCEL_ARG_INT, {}};
  a.i = i;
  return a;
}
int run(Gpu& gpu, const accel::cuda::OpKernels& table, std::initializer_list<accel_arg> args) {
  gpu.call.args = args.begin();
  gpu.call.nargs = (int32_t)args.size();
  return table.kernels[0].run(&gpu.call);
}

// ---- numbers: normal, few values, one value, both zeros, infinities, ascending, descending, one octave

constexpr int patterns = 9;
std::vector<float> numbers(Random& rng, int64_t n, int pattern) {
  std::vector<float> x(n);
  std::normal_distribution<float> normal(0, 3);
  for (int64_t i = 0; i < n; i++) {
    const float z = normal(rng);
    x[i] = pattern == 0   ? z
           : pattern == 1 ? roundf(z * 2) / 2
           : pattern == 2 ? 1.5f
           : pattern == 3 ? (i % 3 == 0 ? -0.f : i % 3 == 1 ? 0.f : roundf(z / 3))
           : pattern == 4 ? (z < 2 ? -INFINITY : z)
           : pattern == 5 ? (float)i
           : pattern == 6 ? -(float)i * 0.01f
           : pattern == 7 ? 1 + fabsf(z) * 0.01f
                          : (z > 0 ? 1e-3f : -1e30f);
  }
  if (pattern == 4) x[pick(rng, 0, n - 1)] = 3;
  return x;
}

// ---- topk

void topk_case(Gpu& gpu, Random& rng, int64_t heads, int64_t n, int64_t k, bool largest, int pattern) {
  std::vector<float> scores;
  for (int64_t h = 0; h < heads; h++) {
    std::vector<float> row = numbers(rng, n, pattern);
    if (pattern == 4) row[pick(rng, 0, n - 1)] = INFINITY;
    scores.insert(scores.end(), row.begin(), row.end());
  }
  Array<float> in({heads, n}, scores.data());
  Array<int32_t> out({heads, k}, nullptr);
  const int rc = run(gpu, accel::cuda::select_kernels(), {out.arg(), in.arg(), integer(k), integer(largest)});
  const std::string error = gpu.finish();
  const std::vector<int32_t> got = out.read();
  bool same = rc == ACCEL_OK && error.empty() && out.intact() && gpu.ran == "topk";
  int64_t where = -1;
  for (int64_t h = 0; h < heads && same; h++) {
    const float* row = scores.data() + h * n;
    std::vector<int32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    const auto before = [&](int32_t a, int32_t b) {
      return row[a] != row[b] ? (largest ? row[a] > row[b] : row[a] < row[b]) : a < b;
    };
    if (k < n) std::nth_element(order.begin(), order.begin() + k, order.end(), before);
    std::sort(order.begin(), order.begin() + k);
    for (int64_t i = 0; i < k && same; i++) {
      same = order[i] == got[h * k + i];
      if (!same) where = h * k + i;
    }
  }
  expect(same, "topk heads %lld n %lld k %lld largest %d pattern %d: rc %d error '%s' first difference at %lld",
         (long long)heads, (long long)n, (long long)k, largest, pattern, rc, error.c_str(), (long long)where);
}

void test_topk(Gpu& gpu, Random& rng, bool small) {
  for (const int64_t n : {1, 2, 31, 32, 33, 129, 1000, 4097, 20000, 128256, 131072, 1000003}) {
    if (small && n > 20000) continue;
    for (int pattern = 0; pattern < patterns; pattern++) {
      if (n > 200000 && pattern > 2) continue;
      const int64_t heads = n > 200000 ? 2 : n > 50000 ? 3 : pick(rng, 1, 9);
      for (const int64_t k : {(int64_t)0, (int64_t)1, n, n / 2, pick(rng, 1, n), std::min<int64_t>(n, 1024)}) {
        topk_case(gpu, rng, heads, n, k, pick(rng, 0, 1), pattern);
      }
    }
  }
  topk_case(gpu, rng, small ? 20 : 700, 3000, 77, true, 1);  // more rows than multiprocessors: one block each
  for (const int64_t at : {0, 7777, 9999}) {                 // NaN of either sign, chosen or not
    std::vector<float> scores = numbers(rng, 3 * 10000, 0);
    scores[10000 + at] = at == 0 ? -NAN : NAN;
    Array<float> in({3, 10000}, scores.data());
    for (const int64_t k : {0, 10}) {
      Array<int32_t> out({3, k}, nullptr);
      run(gpu, accel::cuda::select_kernels(), {out.arg(), in.arg(), integer(k), integer(1)});
      const std::string error = gpu.finish();
      expect(error == "ERR_ACCEL_NAN 1 0", "topk with NaN at %lld: '%s'", (long long)at, error.c_str());
    }
  }
}

// ---- sample

struct Settings {
  float temperature, top_p, min_p;
  int32_t top_k;
  double uniform;
};

// The token's place in the order (logit descending, id ascending), by the definition.
int64_t reference_place(const float* logits, const std::vector<int32_t>& order, double temperature, int64_t top_k,
                        double top_p, double min_p, double uniform) {
  const int64_t n = (int64_t)order.size();
  if (temperature == 0) return 0;
  std::vector<double> w(n);
  for (int64_t i = 0; i < n; i++) w[i] = exp(((double)logits[order[i]] - logits[order[0]]) / temperature);
  int64_t kept = top_k > 0 ? std::min(n, top_k) : n;
  long double total = 0, sum = 0;
  for (int64_t i = 0; i < kept; i++) total += w[i];
  if (top_p < 1) {
    int64_t i = 0;
    while (i < kept && (i == 0 || sum < (long double)top_p * total)) sum += w[i++];
    kept = i;
    total = sum;
  }
  if (min_p > 0) {
    int64_t i = 0;
    for (total = 0; i < kept && w[i] >= min_p; i++) total += w[i];
    kept = i;
  }
  sum = 0;
  int64_t place = 0;
  for (int64_t i = 0; i < kept && w[i] > 0; i++) {
    place = i;
    sum += w[i];
    if (sum > uniform * total) break;
  }
  return place;
}

int64_t near = 0, draws = 0;

void sample_case(Gpu& gpu, Random& rng, int64_t n, int pattern, const std::vector<Settings>& s) {
  const int64_t batch = (int64_t)s.size();
  std::vector<float> logits, temperature, top_p, min_p;
  std::vector<int32_t> top_k;
  std::vector<double> uniform;
  for (const Settings& x : s) {
    std::vector<float> row = numbers(rng, n, pattern);
    logits.insert(logits.end(), row.begin(), row.end());
    temperature.push_back(x.temperature);
    top_p.push_back(x.top_p);
    min_p.push_back(x.min_p);
    top_k.push_back(x.top_k);
    uniform.push_back(x.uniform);
  }
  Array<float> l({batch, n}, logits.data()), t({batch}, temperature.data()), p({batch}, top_p.data()),
      m({batch}, min_p.data());
  Array<int32_t> k({batch}, top_k.data()), out({batch}, nullptr);
  Array<double> u({batch}, uniform.data());
  const auto go = [&] {
    return run(gpu, accel::cuda::sample_kernels(), {out.arg(), l.arg(), t.arg(), k.arg(), p.arg(), m.arg(), u.arg()});
  };
  const int rc = go();
  const std::string error = gpu.finish();
  const std::vector<int32_t> got = out.read();
  expect(rc == ACCEL_OK && error.empty() && out.intact() && gpu.ran == "sample", "sample n %lld: rc %d '%s'",
         (long long)n, rc, error.c_str());
  go();
  gpu.finish();
  expect(out.read() == got, "sample n %lld pattern %d: another result when repeated", (long long)n, pattern);
  std::vector<int32_t> order(n);
  for (int64_t b = 0; b < batch; b++) {
    const float* row = logits.data() + b * n;
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int32_t x, int32_t y) { return row[x] != row[y] ? row[x] > row[y] : x < y; });
    const Settings& x = s[b];
    const int64_t want = reference_place(row, order, x.temperature, x.top_k, x.top_p, x.min_p, x.uniform);
    draws++;
    bool ok = got[b] == order[want];
    int64_t place = -1;
    if (!ok) {
      // Rounding may move the draw by a hair: the place must lie between those of settings a hair away.
      place = std::find(order.begin(), order.end(), got[b]) - order.begin();
      int64_t low = want, high = want;
      for (const double dp : {-4e-9, 0.0, 4e-9}) {
        for (const double du : {-4e-9, 0.0, 4e-9}) {
          const int64_t at = reference_place(row, order, x.temperature, x.top_k,
                                             x.top_p < 1 ? x.top_p * (1 + dp) : 1.0, x.min_p,
                                             std::clamp(x.uniform + du, 0.0, 1 - 0x1p-53));
          low = std::min(low, at);
          high = std::max(high, at);
        }
      }
      ok = low <= place && place <= high;
      near++;
    }
    expect(ok, "sample n %lld pattern %d row %lld T %g top_k %d top_p %g min_p %g u %.17g: id %d (place %lld), want %d (place %lld)",
           (long long)n, pattern, (long long)b, x.temperature, x.top_k, x.top_p, x.min_p, x.uniform, got[b],
           (long long)place, order[want], (long long)want);
  }
}

void test_sample(Gpu& gpu, Random& rng, bool small) {
  std::uniform_real_distribution<double> unit(0, 1);
  for (const int64_t n : {1, 2, 129, 1000, 5000, 32000, 128256, 1000000}) {
    if (small && n > 5000) continue;
    for (int pattern = 0; pattern < patterns; pattern++) {
      if (n > 200000 && pattern > 2) continue;
      std::vector<Settings> s;
      const int64_t batch = n > 200000 ? 2 : n > 50000 ? 6 : 24;
      const float temperatures[] = {0, 0.7f, 1, 5, 1e-3f, 1e30f}, ps[] = {1, 0.9f, 0.5f, 1e-6f}, mins[] = {0, 0, 0.05f, 1};
      const int32_t ks[] = {0, 0, 1, 40, (int32_t)n, (int32_t)n + 5, (int32_t)pick(rng, 1, n)};
      for (int64_t b = 0; b < batch; b++) {
        const int64_t end = pick(rng, 0, 9);
        s.push_back({temperatures[pick(rng, 0, 5)], ps[pick(rng, 0, 3)], mins[pick(rng, 0, 3)], ks[pick(rng, 0, 6)],
                     end == 0 ? 0 : end == 1 ? 1 - 0x1p-53 : unit(rng)});
      }
      sample_case(gpu, rng, n, pattern, s);
    }
    sample_case(gpu, rng, n, 0, {{0, 1, 0, 0, 0}});
    sample_case(gpu, rng, n, 2, {{0, 1, 0, 0, 0}});
    sample_case(gpu, rng, n, 0, {{1, 1, 0, 0, unit(rng)}});
    sample_case(gpu, rng, n, 2, {{1, 0.5f, 0, 0, 1 - 0x1p-53}});
  }
  sample_case(gpu, rng, 300, 0, std::vector<Settings>(small ? 10 : 400, {1, 0.9f, 0, 40, 0.5}));
  // Errors name the row; the other rows are drawn.
  for (int kind = 0; kind < 9; kind++) {
    const int64_t n = 9000;
    std::vector<float> l = numbers(rng, 3 * n, 0), t = {1, 1, 0}, p = {1, 1, 1}, m = {0, 0, 0};
    std::vector<int32_t> k = {0, 0, 0};
    std::vector<double> u = {0.3, 0.4, 0.5};
    if (kind == 0) l[n + 8999] = NAN;
    if (kind == 1) l[n + 17] = -NAN;
    if (kind == 2) l[n + 5000] = INFINITY;
    if (kind == 3) std::fill(l.begin() + n, l.begin() + 2 * n, -INFINITY);
    if (kind == 4) t[1] = NAN;
    if (kind == 5) k[1] = -1;
    if (kind == 6) p[1] = 0;
    if (kind == 7) m[1] = 1.5f;
    if (kind == 8) u[1] = 1;
    Array<float> dl({3, n}, l.data()), dt({3}, t.data()), dp({3}, p.data()), dm({3}, m.data());
    Array<int32_t> dk({3}, k.data()), out({3}, nullptr);
    Array<double> du({3}, u.data());
    run(gpu, accel::cuda::sample_kernels(), {out.arg(), dl.arg(), dt.arg(), dk.arg(), dp.arg(), dm.arg(), du.arg()});
    const std::string error = gpu.finish();
    char want[40];
    snprintf(want, sizeof want, kind < 4 ? "ERR_ACCEL_NAN 1 0" : "ERR_ACCEL_ARGUMENT 1 %d", kind - 2);
    const std::vector<int32_t> ids = out.read();
    expect(error == want, "sample, bad data %d: '%s', want '%s'", kind, error.c_str(), want);
    expect(ids[1] == -1 && ids[2] == std::max_element(l.begin() + 2 * n, l.end()) - (l.begin() + 2 * n),
           "sample, bad data %d: ids %d %d", kind, ids[1], ids[2]);
  }
  printf("%lld of %lld draws beside a step of the distribution went to the neighbour\n", (long long)near, (long long)draws);
}

// ---- bench: 20 launches in a captured graph, median of 15

template <class Run>
void bench(Gpu& gpu, const char* name, double bytes, Run&& op) {
  const int launches = 20;
  op();
  gpu.finish();
  cudaGraph_t graph;
  cudaGraphExec_t ready;
  must(cudaStreamBeginCapture(gpu.stream, cudaStreamCaptureModeRelaxed), "capture");
  for (int i = 0; i < launches; i++) op();
  must(cudaStreamEndCapture(gpu.stream, &graph), "capture");
  must(cudaGraphInstantiate(&ready, graph, 0), "graph");
  cudaEvent_t start, stop;
  cudaEventCreate(&start);
  cudaEventCreate(&stop);
  std::vector<float> times;
  for (int i = 0; i < 18; i++) {
    cudaEventRecord(start, gpu.stream);
    must(cudaGraphLaunch(ready, gpu.stream), "graph");
    cudaEventRecord(stop, gpu.stream);
    must(cudaStreamSynchronize(gpu.stream), "graph");
    float ms;
    cudaEventElapsedTime(&ms, start, stop);
    if (i >= 3) times.push_back(ms * 1000 / launches);
  }
  std::sort(times.begin(), times.end());
  printf("{\"bench\":\"%s\",\"us\":%.2f,\"gb_per_s\":%.0f}\n", name, times[times.size() / 2],
         bytes / times[times.size() / 2] * 1e-3);
  cudaGraphExecDestroy(ready);
  cudaGraphDestroy(graph);
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
}

void run_bench(Gpu& gpu, Random& rng) {
  const int64_t n = 128256;
  const struct {
    const char* name;
    int64_t batch;
    Settings s;
  } cases[] = {{"sample greedy", 1, {0, 1, 0, 0, 0.5}},
               {"sample greedy, 8 rows", 8, {0, 1, 0, 0, 0.5}},
               {"sample T 0.8 top_k 40 top_p 0.9", 1, {0.8f, 0.9f, 0, 40, 0.5}},
               {"sample T 0.8 top_p 0.9", 1, {0.8f, 0.9f, 0, 0, 0.5}},
               {"sample T 1", 1, {1, 1, 0, 0, 0.5}},
               {"sample T 1 top_p 0.95 min_p 0.05, 8 rows", 8, {1, 0.95f, 0.05f, 0, 0.5}}};
  for (const auto& c : cases) {
    std::vector<float> logits = numbers(rng, c.batch * n, 0), t(c.batch, c.s.temperature), p(c.batch, c.s.top_p),
                       m(c.batch, c.s.min_p);
    std::vector<int32_t> k(c.batch, c.s.top_k);
    std::vector<double> u(c.batch, c.s.uniform);
    Array<float> dl({c.batch, n}, logits.data()), dt({c.batch}, t.data()), dp({c.batch}, p.data()),
        dm({c.batch}, m.data());
    Array<int32_t> dk({c.batch}, k.data()), out({c.batch}, nullptr);
    Array<double> du({c.batch}, u.data());
    bench(gpu, c.name, (double)c.batch * n * 4, [&] {
      run(gpu, accel::cuda::sample_kernels(), {out.arg(), dl.arg(), dt.arg(), dk.arg(), dp.arg(), dm.arg(), du.arg()});
    });
  }
  const struct {
    const char* name;
    int64_t heads, n, k;
    int pattern;
  } tops[] = {{"topk 1024 of 8 x 131072", 8, 131072, 1024, 0},
              {"topk 1024 of 8 x 131072, one octave", 8, 131072, 1024, 7},
              {"topk 1024 of 8 x 131072, all equal", 8, 131072, 1024, 2},
              {"topk 1024 of 32 x 131072", 32, 131072, 1024, 0},
              {"topk 1024 of 256 x 8192", 256, 8192, 1024, 0}};
  for (const auto& c : tops) {
    const std::vector<float> scores = numbers(rng, c.heads * c.n, c.pattern);
    Array<float> in({c.heads, c.n}, scores.data());
    Array<int32_t> out({c.heads, c.k}, nullptr);
    bench(gpu, c.name, (double)c.heads * c.n * 4, [&] {
      run(gpu, accel::cuda::select_kernels(), {out.arg(), in.arg(), integer(c.k), integer(1)});
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  bool small = false, with_bench = false;
  uint64_t seed = 1;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--small") == 0) small = true;
    else if (strcmp(argv[i], "--bench") == 0) with_bench = true;
    else seed = strtoull(argv[i], nullptr, 10);
  }
  Gpu gpu;
  Random rng(seed);
  test_topk(gpu, rng, small);
  test_sample(gpu, rng, small);
  if (with_bench) run_bench(gpu, rng);
  printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
