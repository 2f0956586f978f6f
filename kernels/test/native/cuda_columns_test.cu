// Column sums for Hopper against their definition (cuda_attention_naive.cuh), through the op; then their speed.
//   cuda_columns_test [--small]          compares
//   cuda_columns_test --bench [--long]   times them, mma.sync's and the attention of the same prompt
// ACCEL_CUDA_COLUMNS forces the kernel, so that it also meets prompts that are too short to be worth it.
#include <math.h>

#include "cuda/kernels.h"
#include "cuda_attention_bench.cuh"
#include "cuda_attention_host.cuh"
#include "cuda_attention_naive.cuh"

using namespace accel::test;
namespace cuda = accel::cuda;

namespace {

int failures = 0;

struct Case {
  int rows, queries, heads, kv_heads, head_dim = 128;
  accel_dtype dtype = bf16;
  int reduce = 3;                        // 0 none, 1 mean, 2 max, 3 sum
  bool accumulate = false;
  std::vector<int32_t> range;            // or empty
  int rows_per_page = 16;
  bool gaps = false;
  int extra = 0;                         // columns of out behind the rows
  const char* kernel = "sm90";
};

std::string describe(const Case& c) {
  const char* const reduce[] = {"none", "mean", "max", "sum"};
  char text[200];
  snprintf(text, sizeof text, "%s d %3d, %4d rows %4d queries, heads %2d on %d, %-4s page %2d%s%s", name_of(c.dtype),
           c.head_dim, c.rows, c.queries, c.heads, c.kv_heads, reduce[c.reduce], c.rows_per_page, c.gaps ? " gaps" : "",
           c.accumulate ? " accumulate" : "");
  std::string name = text;
  if (!c.range.empty()) name += " [" + std::to_string(c.range[0]) + "," + std::to_string(c.range[1]) + ")";
  return name;
}

// What the reference needs, on the device.
struct Problem {
  Cache cache;
  Buffer<uint16_t> q;
  Buffer<float> dense, lse;
  Buffer<double> sums;
  explicit Problem(const Case& c)
      : cache({c.dtype, c.head_dim, c.kv_heads, c.rows_per_page, std::vector<int>(c.kv_heads, c.rows), c.gaps}, 5),
        q(static_cast<size_t>(c.queries) * c.heads * c.head_dim),
        dense(q.size),
        lse(static_cast<size_t>(c.queries) * c.heads),
        sums(static_cast<size_t>(c.heads) * c.rows) {
    cuda::with_float(c.dtype, [&](auto* element) {
      using T = std::remove_pointer_t<decltype(element)>;
      fill_normal<T><<<1024, 256>>>(reinterpret_cast<T*>(q.data), dense.data, q.size, 1.5f, 7);
      return 0;
    });
    const Buffer<int32_t> rows(std::vector<int32_t>(c.kv_heads, c.rows)), lens(std::vector<int32_t>{c.queries});
    Buffer<float> logits(static_cast<size_t>(naive_blocks) * c.rows);
    Naive naive = {};
    naive.q = dense.data;
    naive.keys = cache.key_table.data;
    naive.values = cache.value_table.data;
    naive.rows = rows.data;
    naive.lens = lens.data;
    naive.sequences = 1;
    naive.heads = c.heads;
    naive.kv_heads = c.kv_heads;
    naive.head_dim = c.head_dim;
    naive.queries = c.queries;
    naive.scale = 1 / sqrtf(c.head_dim);
    naive.causal = true;
    naive.max_rows = c.rows;
    naive_attention<<<naive_blocks, naive_threads>>>(naive, logits.data, nullptr, lse.data);
    naive_columns<<<dim3((c.rows + 127) / 128, c.heads), 128>>>(naive, lse.data, sums.data);
    CUDA(cudaDeviceSynchronize());
  }
};

bool run_columns(CudaHost& host, const accel_tensor* out, const accel_tensor* q, const accel_tensor* lse,
                 const accel_kv& kv, int reduce, bool accumulate, const std::vector<int32_t>& range) {
  return host.run({arg(out), arg(q), arg(lse), arg(&kv), arg(1 / sqrt(kv.head_dim)), arg(static_cast<int64_t>(reduce)),
                   arg(static_cast<int64_t>(accumulate)), arg(range), arg(static_cast<const accel_tensor*>(nullptr)), arg(int64_t{0})},
                  op_named(cuda::signal_kernels(), "column_sums"));
}

void compare(CudaHost& host, const Case& c) {
  Problem problem(c);
  const int out_heads = c.reduce == 0 ? c.heads : c.kv_heads, group = c.heads / c.kv_heads, stride = c.rows + c.extra;
  Buffer<float> out(static_cast<size_t>(out_heads) * stride);
  fill_normal<<<64, 256>>>(out.data, static_cast<float*>(nullptr), out.size, 1.0f, 11);
  CUDA(cudaDeviceSynchronize());
  const std::vector<float> before = out.host();
  TensorView out_view(out.data, fp32, {out_heads, stride});
  TensorView q(problem.q.data, c.dtype, {c.queries, c.heads, c.head_dim});
  TensorView lse(problem.lse.data, fp32, {c.queries, c.heads});
  setenv("ACCEL_CUDA_COLUMNS", c.kernel, 1);
  if (!run_columns(host, &out_view.tensor, &q.tensor, &lse.tensor, problem.cache.kv, c.reduce, c.accumulate, c.range)) {
    printf("FAIL %s: %s\n", describe(c).c_str(), host.error.c_str());
    failures++;
    return;
  }
  host.synchronize();

  const std::vector<float> after = out.host();
  const std::vector<double> sums = problem.sums.host();
  double worst = 0;
  int at = 0;
  bool intact = true;
  for (int h = 0; h < out_heads; h++) {
    for (int j = 0; j < stride; j++) {
      const size_t place = static_cast<size_t>(h) * stride + j;
      const bool asked = j < c.rows && (c.range.empty() || (j >= c.range[0] && j < c.range[1]));
      if (!asked) {
        intact = intact && after[place] == before[place];
        continue;
      }
      double want = 0;
      for (int i = 0; i < (c.reduce == 0 ? 1 : group); i++) {
        const double x = sums[static_cast<size_t>(c.reduce == 0 ? h : h * group + i) * c.rows + j];
        want = c.reduce == 2 ? std::max(want, x) : want + x;
      }
      if (c.reduce == 1) want /= group;
      double size = want;                // what rounding is relative to
      if (c.accumulate && j < c.rows - c.queries) {
        want += before[place];
        size += fabs(before[place]);
      }
      const double error = fabs(after[place] - want) / size;
      if (!(error <= worst)) worst = error, at = j;
    }
  }
  // fp32 products of 16-bit numbers, ex2.approx.
  const bool right = host.kernels == (strcmp(c.kernel, "sm90") == 0 ? "column_sums_sm90" : "column_sums");
  const bool good = worst < 2e-5 && intact && right;
  printf("%s %s: %s, error %.1e (column %d)%s\n", good ? "ok  " : "FAIL", describe(c).c_str(), host.kernels.c_str(),
         worst, at, intact ? "" : ", wrote where it must not");
  fflush(stdout);
  if (!good) failures++;
}

// A query of NaN, or one whose lse is NaN, makes the sums of all keys that it sees NaN, and no others.
void compare_nan(CudaHost& host, bool of_lse) {
  const Case c{1000, 1000, 2, 1};
  Problem problem(c);
  constexpr int bad = 700;
  const std::vector<uint16_t> nan(c.heads * c.head_dim, 0x7fc0);
  const float no = NAN;
  if (of_lse) {
    CUDA(cudaMemcpy(problem.lse.data + bad * c.heads, &no, sizeof no, cudaMemcpyHostToDevice));
  } else {
    CUDA(cudaMemcpy(problem.q.data + bad * nan.size(), nan.data(), nan.size() * 2, cudaMemcpyHostToDevice));
  }
  Buffer<float> out(c.rows);
  TensorView out_view(out.data, fp32, {1, c.rows}), q(problem.q.data, bf16, {c.queries, c.heads, c.head_dim});
  TensorView lse(problem.lse.data, fp32, {c.queries, c.heads});
  setenv("ACCEL_CUDA_COLUMNS", "sm90", 1);
  const bool ran = run_columns(host, &out_view.tensor, &q.tensor, &lse.tensor, problem.cache.kv, c.reduce, false, {});
  host.synchronize();
  int wrong = ran ? 0 : c.rows, j = 0;
  for (const float x : out.host()) wrong += isnan(x) != (j++ <= bad);
  printf("%s %s of NaN: %d columns wrong\n", wrong == 0 ? "ok  " : "FAIL", of_lse ? "an lse" : "a query", wrong);
  failures += wrong > 0;
}

void compare_all(CudaHost& host, bool small) {
  std::vector<Case> cases;
  for (const int n : {1, 127, 128, 129, 255, 257, 1000, 4133}) {
    if (small && n > 1000) continue;
    cases.push_back({n, n, 8, 2});
    cases.push_back({n, n, 4, 2, 64});
  }
  const int chunks[][2] = {{1000, 1}, {1000, 300}, {1000, 128}, {1000, 999}, {4133, 777}, {4133, 129}};
  for (const auto [n, queries] : chunks) {
    if (small && n > 1000) continue;
    cases.push_back({n, queries, 4, 2});
    Case chunk{n, queries, 4, 1};
    chunk.accumulate = true;
    chunk.extra = 13;
    cases.push_back(chunk);
    chunk.reduce = 1;
    chunk.head_dim = 64;
    cases.push_back(chunk);
  }
  for (int reduce = 0; reduce < 4; reduce++) {
    for (const int group : {1, 2, 4, 8}) {
      Case c{700, 700, 2 * group, 2};
      c.reduce = reduce;
      c.dtype = group % 3 == 1 ? fp16 : bf16;
      c.head_dim = group > 2 ? 128 : 64;
      cases.push_back(c);
      c.accumulate = true;
      c.queries = 200;
      cases.push_back(c);
    }
  }
  const int ranges[][2] = {{0, 1}, {5, 700}, {128, 256}, {699, 700}, {300, 9000}};
  for (const auto [begin, end] : ranges) {
    Case c{700, 400, 8, 2};
    c.range = {begin, end};
    c.extra = 100;
    c.accumulate = begin == 5;
    cases.push_back(c);
  }
  for (const int rows : {1, 8, 64, 100}) {
    Case c{900, 900, 4, 1};
    c.rows_per_page = rows;
    cases.push_back(c);
    c.gaps = true;
    cases.push_back(c);
  }
  if (!small) {
    Case c{40000, 130, 32, 8};           // groups of heads a block: as many blocks as that needs
    c.reduce = 1;
    cases.push_back(c);
    c.reduce = 3;
    c.rows = 40001;
    c.accumulate = true;
    cases.push_back(c);
    for (const char* kernel : {"sm80", "any"}) {
      c = {1000, 1000, 8, 2};
      c.kernel = kernel;
      cases.push_back(c);
    }
  }
  for (const Case& c : cases) compare(host, c);
  compare_nan(host, false);
  compare_nan(host, true);
  unsetenv("ACCEL_CUDA_COLUMNS");
}

// 32 query heads on 8 kv heads, bf16, a whole prompt: d 128 is the shape of an 8B model. Random data; lse is that of
// the attention kernel. TF/s count the half of the product that is visible (attention's: of both products).
struct Prompt {
  int n, d;
  Cache cache;
  Buffer<__nv_bfloat16> q, attended;
  Buffer<float> lse, sums;
  TensorView q_view, attended_view, lse_view, sums_view;
  std::vector<int32_t> lens, none;

  static CacheShape shape(int n, int d) {
    CacheShape s{bf16, d, bench_kv_heads, 16, std::vector<int>(bench_kv_heads, n)};
    s.dense = false;
    return s;
  }
  Prompt(int n, int d)
      : n(n),
        d(d),
        cache(shape(n, d), 1),
        q(static_cast<size_t>(n) * bench_heads * d),
        attended(q.size),
        lse(static_cast<size_t>(n) * bench_heads),
        sums(static_cast<size_t>(n) * bench_kv_heads),
        q_view(q.data, bf16, {n, bench_heads, d}),
        attended_view(attended.data, bf16, {n, bench_heads, d}),
        lse_view(lse.data, fp32, {n, bench_heads}),
        sums_view(sums.data, fp32, {bench_kv_heads, n}),
        lens{n} {
    fill_normal<<<1024, 256>>>(q.data, static_cast<float*>(nullptr), q.size, 1.0f, 7);
    CUDA(cudaDeviceSynchronize());
  }
  bool attention(CudaHost& host) {
    return host.run({arg(&attended_view.tensor), arg(&lse_view.tensor), arg(&q_view.tensor), arg(&cache.kv), arg(lens),
                     arg(1 / sqrt(d)), arg(int64_t{1}), arg(int64_t{0}), arg(none)},
                    op_named(cuda::attention_kernels(), "attention"));
  }
  bool columns(CudaHost& host) {
    return run_columns(host, &sums_view.tensor, &q_view.tensor, &lse_view.tensor, cache.kv, 1, false, none);
  }
};

void bench(CudaHost& host, int n, int d) {
  Prompt prompt(n, d);
  const auto time = [&](auto&& enqueue) {
    for (int i = 0; i < (n > 100000 ? 1 : 3); i++) {
      if (!enqueue()) {
        printf("%s\n", host.error.c_str());
        exit(1);
      }
    }
    return median_time(host, n > 100000 ? 5 : 15, enqueue);
  };
  const double flops = 1.0 * n * n * bench_heads * d;
  const double attention = time([&] { return prompt.attention(host); });
  printf("d %3d %6d tokens  %-16s %9.3f ms %6.1f TF/s\n", d, n, host.kernels.c_str(), attention * 1e3,
         2 * flops / attention / 1e12);
  for (const char* kernel : {"sm80", "sm90"}) {
    prompt.sums.poison();
    setenv("ACCEL_CUDA_COLUMNS", kernel, 1);
    const double t = time([&] { return prompt.columns(host); });
    printf("d %3d %6d tokens  %-16s %9.3f ms %6.1f TF/s  %5.1f %% of attention\n", d, n, host.kernels.c_str(), t * 1e3,
           flops / t / 1e12, 100 * t / attention);
    fflush(stdout);
  }
  unsetenv("ACCEL_CUDA_COLUMNS");
}

}  // namespace

int main(int argc, char** argv) {
  int device = 0, major = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess || major != 9) {
    printf("skipped: needs compute capability 9.0\n");
    return 77;
  }
  CudaHost host;
  const auto has = [&](const char* flag) {
    return std::any_of(argv + 1, argv + argc, [&](const char* a) { return strcmp(a, flag) == 0; });
  };
  if (!has("--bench")) {
    compare_all(host, has("--small"));
    printf(failures == 0 ? "all passed\n" : "%d failed\n", failures);
    return failures == 0 ? 0 : 1;
  }
  host.poison = false;
  for (const int n : {4096, 8192, 16384, 32768}) bench(host, n, 128);
  if (has("--long")) {
    for (const int n : {65536, 131072}) bench(host, n, 128);
  }
  bench(host, 32768, 64);
  return 0;
}
