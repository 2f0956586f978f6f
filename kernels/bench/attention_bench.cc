// Rates of the attention kernels on this machine, beside what the machine can do.
//
//   attention_bench [threads] [seconds per case] [prefill|decode]
//
// Prefill counts 4 * N^2/2 * d * Hq flop and is compared with a 1024^3 sgemm of OpenBLAS if that library is installed
// (dlopen; it is no dependency). Decoding counts the bytes of K and V and is compared with memcpy's (read + write).
#include <dlfcn.h>
#include <math.h>
#include <string.h>

#include <chrono>
#include <memory>
#include <random>

#include "../test/native/host.h"
#include "cpu/builtin.h"
#include "cpu/isa.h"

namespace {

using accel::test::Host;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double budget = 0.5;

// Best time of one call.
template <class F>
double best(const F& f) {
  double least = 1e30;
  const double start = now();
  for (int i = 0; i < 2 || now() - start < budget; ++i) {
    const double t = now();
    f();
    const double s = now() - t;
    if (s < least) least = s;
  }
  return least;
}

const accel_op* find(const accel::cpu::OpTable& table, const char* name) {
  for (int i = 0; i < table.count; ++i) {
    if (strcmp(table.ops[i].name, name) == 0) return table.ops + i;
  }
  abort();
}

double sgemm_rate(int threads) {
  void* library = dlopen("libopenblas.so.0", RTLD_NOW);
  if (library == nullptr) return 0;
  using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  const auto sgemm = (Sgemm)dlsym(library, "cblas_sgemm");
  const auto set_threads = (void (*)(int))dlsym(library, "openblas_set_num_threads");
  if (sgemm == nullptr || set_threads == nullptr) return 0;
  set_threads(threads);
  const int n = 1024;
  std::vector<float> a((size_t)n * n, 1.f), b = a, c = a;
  const double s = best([&] { sgemm(101, 111, 112, n, n, n, 1.f, a.data(), n, b.data(), n, 0.f, c.data(), n); });
  return 2.0 * n * n * n / s;
}

double copy_rate(Host& host) {
  const size_t bytes = (size_t)256 << 20;
  std::vector<uint8_t> a(bytes, 1), b(bytes, 2);
  struct Pair {
    uint8_t *to, *from;
  } pair = {b.data(), a.data()};
  const auto check = [](const accel_call*) { return ACCEL_OK; };
  const double s = best([&] {
    host.run(nullptr, 0, check, [&](const accel_call* call) {
      call->parallel(call, (int64_t)bytes, 4 << 20, [](void* user, int64_t begin, int64_t end, int32_t) {
        const Pair* p = (const Pair*)user;
        memcpy(p->to + begin, p->from + begin, (size_t)(end - begin));
      }, &pair);
      return ACCEL_OK;
    });
  });
  return 2.0 * (double)bytes / s;
}

struct Setup {
  accel_dtype dtype;
  int bytes, heads, kv_heads, d, rows, queries;
  std::vector<uint8_t> memory;
  std::vector<int32_t> pages;
  std::vector<accel_kv_head> table;
  accel_kv kv;
  std::vector<uint8_t> q, out;
  std::vector<float> lse, scores;

  Setup(bool half, int heads_, int kv_heads_, int d_, int rows_, int queries_)
      : dtype(half ? accel_dtype{ACCEL_BFLOAT, 16, 1} : accel_dtype{ACCEL_FLOAT, 32, 1}), bytes(half ? 2 : 4),
        heads(heads_), kv_heads(kv_heads_), d(d_), rows(rows_), queries(queries_) {
    const int per_page = 16, count = (rows + per_page - 1) / per_page;
    const int64_t page_bytes = (int64_t)per_page * d * bytes;
    memory.resize((size_t)(page_bytes * count * 2 * kv_heads));
    std::mt19937 rng(1);
    fill(memory, rng);
    pages.resize((size_t)count * 2 * kv_heads);
    for (size_t i = 0; i < pages.size(); ++i) pages[i] = (int32_t)i;
    for (int h = 0; h < kv_heads; ++h) {
      int32_t* keys = pages.data() + (size_t)h * 2 * count;
      table.push_back({keys, keys + count, keys, rows, 0, 0});
    }
    kv = {memory.data(), page_bytes, dtype, d, 1, kv_heads, per_page, (int)(page_bytes / 4), table.data()};
    q.resize((size_t)queries * heads * d * bytes);
    fill(q, rng);
    out.resize(q.size());
    lse.resize((size_t)queries * heads);
    scores.resize((size_t)kv_heads * rows);
  }

  void fill(std::vector<uint8_t>& to, std::mt19937& rng) {
    for (size_t i = 0; i < to.size(); i += (size_t)bytes) {
      const float x = (float)((int)(rng() & 255) - 128) / 128;
      uint32_t u;
      memcpy(&u, &x, 4);
      if (bytes == 2) u >>= 16;
      memcpy(to.data() + i, &u, (size_t)bytes);
    }
  }
};

accel_arg arg_real(double f) {
  accel_arg a{};
  a.kind = ACCEL_ARG_FLOAT;
  a.f = f;
  return a;
}
accel_arg arg_ints(const int32_t* data, int64_t size) {
  accel_arg a{};
  a.kind = ACCEL_ARG_INTS;
  a.ints = {data, size};
  return a;
}
accel_arg arg_kv(const accel_kv* kv) {
  accel_arg a{};
  a.kind = ACCEL_ARG_KV;
  a.kv = kv;
  return a;
}

struct View3 {
  int64_t shape[3];
  accel_tensor tensor;
  View3(void* data, accel_dtype dtype, int64_t a, int64_t b, int64_t c = 0) : shape{a, b, c} {
    tensor = {data, {ACCEL_DEVICE_CPU, 0}, c == 0 ? 2 : 3, dtype, shape, nullptr, 0};
  }
  View3(const View3&) = delete;
};

double run_attention(Host& host, Setup& s) {
  const accel_op* op = find(accel::cpu::attention_ops(), "attention");
  View3 out(s.out.data(), s.dtype, s.queries, s.heads, s.d), q(s.q.data(), s.dtype, s.queries, s.heads, s.d);
  View3 lse(s.lse.data(), {ACCEL_FLOAT, 32, 1}, s.queries, s.heads);
  const int32_t lens = s.queries;
  const accel_arg args[] = {accel::test::arg(&out.tensor), accel::test::arg(&lse.tensor), accel::test::arg(&q.tensor),
                            arg_kv(&s.kv), arg_ints(&lens, 1), arg_real(1 / sqrt(s.d)), accel::test::arg((int64_t)1),
                            accel::test::arg((int64_t)0), arg_ints(nullptr, 0)};
  return best([&] {
    if (!host.run(args, 9, op->check, op->cpu)) printf("%s\n", host.error.c_str());
  });
}

double run_signal(Host& host, Setup& s, bool observe) {
  const accel_op* op = find(accel::cpu::signal_ops(), observe ? "observe_scores" : "column_sums");
  View3 out(s.scores.data(), {ACCEL_FLOAT, 32, 1}, s.kv_heads, s.rows), q(s.q.data(), s.dtype, s.queries, s.heads, s.d);
  View3 lse(s.lse.data(), {ACCEL_FLOAT, 32, 1}, s.queries, s.heads);
  std::vector<accel_arg> args = {accel::test::arg(&out.tensor), accel::test::arg(&q.tensor)};
  if (!observe) args.push_back(accel::test::arg(&lse.tensor));
  args.push_back(arg_kv(&s.kv));
  args.push_back(arg_real(1 / sqrt(s.d)));
  args.push_back(accel::test::arg((int64_t)1));
  const accel_tensor* no_mask = nullptr;
  if (!observe) args.insert(args.end(), {accel::test::arg((int64_t)0), arg_ints(nullptr, 0), accel::test::arg(no_mask)});
  args.push_back(accel::test::arg((int64_t)0));  // window
  return best([&] {
    if (!host.run(args.data(), (int)args.size(), op->check, op->cpu)) printf("%s\n", host.error.c_str());
  });
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : (int)std::thread::hardware_concurrency();
  if (argc > 2) budget = atof(argv[2]);
  const bool only_prefill = argc > 3 && strcmp(argv[3], "prefill") == 0;
  const bool only_decode = argc > 3 && strcmp(argv[3], "decode") == 0;
  if (accel::cpu::isa_error() != nullptr) {
    printf("%s\n", accel::cpu::isa_error());
    return 1;
  }
  const double sgemm = sgemm_rate(threads);
  Host host(threads);
  const double copy = copy_rate(host);
  printf("%s, %d threads: sgemm %.1f GFLOP/s, copy %.1f GB/s\n", accel::cpu::isa_name(accel::cpu::isa()), threads,
         sgemm * 1e-9, copy * 1e-9);
  const auto flops = [&](const char* name, const Setup& s, double seconds, double flop) {
    printf("%-14s %s Hq %2d Hk %d d %3d queries %6d rows %6d  %9.3f ms  %7.1f GFLOP/s", name,
           s.bytes == 2 ? "bf16" : "fp32", s.heads, s.kv_heads, s.d, s.queries, s.rows, seconds * 1e3, flop / seconds * 1e-9);
    if (sgemm > 0) printf("  %3.0f %% of sgemm", 100 * flop / seconds / sgemm);
    printf("\n");
  };
  const struct {
    int heads, kv_heads, d, rows;
  } prefill[] = {{4, 2, 64, 1024}, {4, 2, 64, 4096}, {4, 2, 64, 16384}, {8, 2, 128, 4096}};
  for (const bool half : {false, true}) {
    if (only_decode) break;
    for (const auto& p : prefill) {
      Setup s(half, p.heads, p.kv_heads, p.d, p.rows, p.rows);
      flops("prefill", s, run_attention(host, s), 2.0 * p.rows * p.rows * p.d * p.heads);
    }
    Setup s(half, 4, 2, 64, 4096, 4096);
    run_attention(host, s);
    flops("column_sums", s, run_signal(host, s, false), 1.0 * s.rows * s.rows * s.d * s.heads);
    Setup w(half, 4, 2, 64, 16384, 32);
    flops("observe_scores", w, run_signal(host, w, true), 4.0 * w.rows * 32 * w.d * w.heads);
  }
  const struct {
    int heads, kv_heads, d, rows, queries;
  } decode[] = {{4, 2, 64, 4096, 1}, {4, 2, 64, 16384, 1}, {32, 8, 128, 32768, 1}, {32, 8, 128, 32768, 4}, {4, 2, 64, 512, 1}};
  for (const bool half : {false, true}) {
    if (only_prefill) break;
    for (const auto& p : decode) {
      Setup s(half, p.heads, p.kv_heads, p.d, p.rows, p.queries);
      const double t = run_attention(host, s), bytes = 2.0 * p.kv_heads * p.d * p.rows * s.bytes;
      printf("%-14s %s Hq %2d Hk %d d %3d queries %6d rows %6d  %9.3f ms  %7.1f GB/s  %3.0f %% of copy\n", "decode",
             half ? "bf16" : "fp32", p.heads, p.kv_heads, p.d, p.queries, p.rows, t * 1e3, bytes / t * 1e-9, 100 * bytes / t / copy);
    }
  }
  return 0;
}
