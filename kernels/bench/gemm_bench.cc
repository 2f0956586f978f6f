// GFLOP/s of `linear`, beside OpenBLAS (sgemm) and oneDNN (matmul) in the same run when they are installed.
//
//   gemm_bench [--threads 1,2] [--dtype f32,bf16,f16] [--isa avx2,...] [--shapes 512x256x256,...] [--path auto|gemm|dot]
//              [--seconds 0.3] [--best] [--no-peers]
//
// Shapes are MxNxK: x [M,K] · W [N,K]ᵀ. The peers get the same row-major weights, so they pack them per call as we do;
// "packed" is oneDNN with weights reordered beforehand into the layout it likes best. Each number is the median over
// repetitions that alternate between the contestants. Peers are opened at run time:
//   OpenBLAS  libopenblas.so.0    the line "OpenBLAS core" says which kernels it chose (it takes some Zens for others;
//                                 OPENBLAS_CORETYPE=Haswell|Zen|SkylakeX|Cooperlake overrides)
//   oneDNN    libdnnl.so.2        ONEDNN_MAX_CPU_ISA=AVX2|AVX512_CORE|AVX512_CORE_BF16 makes the instruction sets equal
#include <dlfcn.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <functional>
#include <random>

#include "../src/cpu/gemm/gemm.h"
#include "../test/native/host.h"

#if __has_include(<oneapi/dnnl/dnnl.h>)
#include <oneapi/dnnl/dnnl.h>
#define ACCEL_BENCH_ONEDNN 1
#endif

using namespace accel::cpu;
using accel::test::arg;
using accel::test::Host;
using accel::test::View;

namespace {

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

bool best = false;  // --best: the fastest repetition instead of the median, for a machine that others use too

double median(std::vector<double> v) {
  if (v.empty()) return NAN;
  std::sort(v.begin(), v.end());
  return best ? v[0] : v[v.size() / 2];
}

// Pages that are really there, filled with small random numbers of the dtype.
struct Memory {
  size_t bytes;
  void* data;
  Memory(Float type, int64_t count) : bytes(size_t(count) * (type == Float::f32 ? 4 : 2)) {
    data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) exit((perror("mmap"), 1));
    madvise(data, bytes, MADV_HUGEPAGE);
    uint64_t state = 88172645463325252ull;
    for (int64_t i = 0; i < count; ++i) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      const float f = float(int64_t(state % 2001) - 1000) / 1000.f;
      uint32_t u;
      memcpy(&u, &f, 4);
      if (type == Float::f32) static_cast<float*>(data)[i] = f;
      else if (type == Float::bf16) static_cast<uint16_t*>(data)[i] = uint16_t(u >> 16);
      else static_cast<uint16_t*>(data)[i] = uint16_t(0x3000 + state % 0x800 + (state & 0x8000));
    }
  }
  ~Memory() { munmap(data, bytes); }
  Memory(const Memory&) = delete;
};

struct Shape { int64_t m, n, k; };

typedef std::function<void()> Job;

struct OpenBlas {
  typedef void (*Sgemm)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  Sgemm sgemm = nullptr;
  void (*set_threads)(int) = nullptr;
  OpenBlas() {
    void* lib = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (lib == nullptr) return;
    sgemm = reinterpret_cast<Sgemm>(dlsym(lib, "cblas_sgemm"));
    set_threads = reinterpret_cast<void (*)(int)>(dlsym(lib, "openblas_set_num_threads"));
    const auto core = reinterpret_cast<char* (*)()>(dlsym(lib, "openblas_get_corename"));
    const auto config = reinterpret_cast<char* (*)()>(dlsym(lib, "openblas_get_config"));
    printf("OpenBLAS core: %s (%s)\n", core ? core() : "?", config ? config() : "?");
  }
  Job job(const Shape& s, const void* x, const void* w, void* out, int threads) const {
    set_threads(threads);
    return [=, this] {
      constexpr int kRowMajor = 101, kNoTrans = 111, kTrans = 112;
      sgemm(kRowMajor, kNoTrans, kTrans, int(s.m), int(s.n), int(s.k), 1.f, static_cast<const float*>(x), int(s.k),
            static_cast<const float*>(w), int(s.k), 0.f, static_cast<float*>(out), int(s.n));
    };
  }
};

#if ACCEL_BENCH_ONEDNN
struct OneDnn {
  void* lib = nullptr;
  void (*omp_threads)(int) = nullptr;
  dnnl_engine_t engine = nullptr;
  dnnl_stream_t stream = nullptr;
#define ACCEL_DNNL(name) decltype(&dnnl_##name) name = nullptr;
#define ACCEL_DNNL_FUNCTIONS(F)                                                                                     \
  F(engine_create) F(stream_create) F(stream_wait) F(memory_desc_init_by_tag) F(memory_create) F(matmul_desc_init) \
  F(primitive_desc_create) F(primitive_create) F(primitive_execute) F(primitive_desc_query_md)                     \
  F(primitive_desc_query) F(reorder_primitive_desc_create) F(get_effective_cpu_isa)
  ACCEL_DNNL_FUNCTIONS(ACCEL_DNNL)
#undef ACCEL_DNNL
  OneDnn() {
    lib = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (lib == nullptr) return;
#define ACCEL_DNNL(name) name = reinterpret_cast<decltype(&dnnl_##name)>(dlsym(lib, "dnnl_" #name));
    ACCEL_DNNL_FUNCTIONS(ACCEL_DNNL)
#undef ACCEL_DNNL
    omp_threads = reinterpret_cast<void (*)(int)>(dlsym(lib, "omp_set_num_threads"));
    engine_create(&engine, dnnl_cpu, 0);
    stream_create(&stream, engine, dnnl_stream_default_flags);
    printf("oneDNN effective cpu isa: 0x%x\n", unsigned(get_effective_cpu_isa()));
  }
  dnnl_memory_t memory(const dnnl_memory_desc_t& md, void* data) const {
    dnnl_memory_t m = nullptr;
    memory_create(&m, &md, engine, data);
    return m;
  }
  // Empty when oneDNN has no kernel for it. Objects live until the program ends.
  Job job(const Shape& s, Float type, void* x, void* w, void* out, int threads, bool packed, const char** name) const {
    if (omp_threads != nullptr) omp_threads(threads);
    const dnnl_data_type_t t = type == Float::f32 ? dnnl_f32 : type == Float::bf16 ? dnnl_bf16 : dnnl_f16;
    const dnnl_dims_t xd = {s.m, s.k}, wd = {s.k, s.n}, od = {s.m, s.n};
    dnnl_memory_desc_t xm, wm, plain, om;
    memory_desc_init_by_tag(&xm, 2, xd, t, dnnl_ab);
    memory_desc_init_by_tag(&plain, 2, wd, t, dnnl_ba);  // [K,N] with K contiguous = our [N,K]
    memory_desc_init_by_tag(&wm, 2, wd, t, packed ? dnnl_format_tag_any : dnnl_ba);
    memory_desc_init_by_tag(&om, 2, od, t, dnnl_ab);
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t pd = nullptr;
    if (matmul_desc_init(&desc, &xm, &wm, nullptr, &om) != dnnl_success) return {};
    if (primitive_desc_create(&pd, &desc, nullptr, engine, nullptr) != dnnl_success) return {};
    primitive_desc_query(pd, dnnl_query_impl_info_str, 0, name);
    dnnl_memory_t wmem = memory(plain, w);
    if (packed) {
      const dnnl_memory_desc_t* wanted = primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
      dnnl_memory_t to = memory(*wanted, DNNL_MEMORY_ALLOCATE);
      dnnl_primitive_desc_t rpd = nullptr;
      dnnl_primitive_t reorder = nullptr;
      if (reorder_primitive_desc_create(&rpd, &plain, engine, wanted, engine, nullptr) != dnnl_success) return {};
      primitive_create(&reorder, rpd);
      const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, wmem}, {DNNL_ARG_TO, to}};
      primitive_execute(reorder, stream, 2, args);
      stream_wait(stream);
      wmem = to;
    }
    dnnl_primitive_t prim = nullptr;
    if (primitive_create(&prim, pd) != dnnl_success) return {};
    const dnnl_memory_t xmem = memory(xm, x), omem = memory(om, out);
    return [=, this] {
      const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, xmem}, {DNNL_ARG_WEIGHTS, wmem}, {DNNL_ARG_DST, omem}};
      primitive_execute(prim, stream, 3, args);
      stream_wait(stream);
    };
  }
};
#endif

// Median seconds of each job; the jobs take turns so that clock changes and neighbours hit all alike.
std::vector<double> race(const std::vector<Job>& jobs, double seconds) {
  std::vector<std::vector<double>> times(jobs.size());
  std::vector<int> inner(jobs.size(), 1);
  for (size_t i = 0; i < jobs.size(); ++i)
    if (jobs[i]) {
      jobs[i]();
      const double t0 = now();
      jobs[i]();
      inner[i] = std::max(1, int(0.002 / (now() - t0)));   // at least 2 ms a measurement
    }
  const double end = now() + seconds * double(jobs.size());
  for (int round = 0; round < 5 || now() < end; ++round)
    for (size_t i = 0; i < jobs.size(); ++i)
      if (jobs[i]) {
        jobs[i]();  // wakes the contestant's threads
        const double t0 = now();
        for (int r = 0; r < inner[i]; ++r) jobs[i]();
        times[i].push_back((now() - t0) / inner[i]);
      }
  std::vector<double> result;
  for (const auto& t : times) result.push_back(median(t));
  return result;
}

// Bytes moved per second (read + written) by all threads copying far beyond the caches: memory's speed limit.
void bandwidth(Host& host, int threads, double* copy) {
  constexpr int64_t kBytes = 256 << 20, kChunk = 1 << 20;
  Memory from(Float::f32, kBytes / 4), to(Float::f32, kBytes / 4);
  struct Pass { const char* from; char* to; } pass{static_cast<char*>(from.data), static_cast<char*>(to.data)};
  auto run = [&](accel_range_fn fn) {
    auto ok = [](const accel_call*) { return ACCEL_OK; };
    std::vector<double> times;
    for (int i = 0; i < 7; ++i) {
      const double t0 = now();
      host.run(nullptr, 0, ok, [&](const accel_call* call) {
        call->parallel(call, kBytes / kChunk, 1, fn, &pass);
        return ACCEL_OK;
      });
      times.push_back(now() - t0);
    }
    return median(times);
  };
  *copy = 2.0 * kBytes / run([](void* user, int64_t begin, int64_t end, int32_t) {
    const Pass& p = *static_cast<Pass*>(user);
    memcpy(p.to + begin * kChunk, p.from + begin * kChunk, size_t((end - begin) * kChunk));
  });
  printf("threads %d: copy %.1f GB/s (read + written)\n", threads, *copy * 1e-9);
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    if (comma > at) parts.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return parts;
}

const accel_dtype kTypes[] = {{ACCEL_FLOAT, 32, 1}, {ACCEL_BFLOAT, 16, 1}, {ACCEL_FLOAT, 16, 1}};
const char* const kTypeNames[] = {"f32", "bf16", "f16"};

}  // namespace

int main(int argc, char** argv) {
  // The peers' idle threads stop spinning soon after their turn, or they would steal the next contestant's cores.
  setenv("GOMP_SPINCOUNT", "20000", 0);
  setenv("OPENBLAS_THREAD_TIMEOUT", "16", 0);
  std::string threads = "1,2", dtypes = "f32,bf16", isas = isa_name(isa()), path_name = "auto";
  std::string shapes =
      "512x128x256,512x256x256,512x704x256,512x256x704,2048x256x256,2048x704x256,2048x256x704,512x4096x256,"
      "512x4096x4096,512x14336x4096,512x4096x14336,1x256x256,1x704x256,1x256x704,1x4096x256,1x4096x4096,1x14336x4096,1x4096x14336";
  double seconds = 0.3;
  bool peers = true;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--no-peers") peers = false;
    else if (option == "--best") best = true;
    else if (i + 1 == argc) return fprintf(stderr, "gemm_bench: %s needs a value\n", argv[i]), 2;
    else if (option == "--threads") threads = argv[++i];
    else if (option == "--dtype") dtypes = argv[++i];
    else if (option == "--isa") isas = argv[++i];
    else if (option == "--shapes") shapes = argv[++i];
    else if (option == "--path") path_name = argv[++i];
    else if (option == "--seconds") seconds = atof(argv[++i]);
    else return fprintf(stderr, "gemm_bench: unknown option %s\n", argv[i]), 2;
  }
  if (isa_error() != nullptr) return fprintf(stderr, "%s\n", isa_error()), 2;
  const LinearPath path = path_name == "gemm" ? LinearPath::gemm : path_name == "dot" ? LinearPath::dot : LinearPath::automatic;
  OpenBlas* blas = peers ? new OpenBlas : nullptr;
#if ACCEL_BENCH_ONEDNN
  OneDnn* dnn = peers ? new OneDnn : nullptr;
#endif
  for (const std::string& count : split(threads)) {
    const int nthreads = std::max(1, atoi(count.c_str()));
    Host host(nthreads);
    double copy = 0;
    bandwidth(host, nthreads, &copy);
    printf("| M x N x K | dtype | threads | kernel | ms | GFLOP/s | W GB/s (of copy) | OpenBLAS | ratio | oneDNN | ratio | packed | ratio |\n"
           "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (const std::string& text : split(shapes)) {
      Shape s{};
      if (sscanf(text.c_str(), "%ldx%ldx%ld", &s.m, &s.n, &s.k) != 3) return fprintf(stderr, "gemm_bench: bad shape %s\n", text.c_str()), 2;
      for (const std::string& type_name : split(dtypes)) {
        const int type = type_name == "f32" ? 0 : type_name == "bf16" ? 1 : 2;
        Memory x(Float(type), s.m * s.k), w(Float(type), s.n * s.k), out(Float(type), s.m * s.n), theirs(Float(type), s.m * s.n);
        const View xt(x.data, kTypes[type], s.m, s.k), wt(w.data, kTypes[type], s.n, s.k), ot(out.data, kTypes[type], s.m, s.n);
        const accel_arg args[] = {arg(&ot.tensor), arg(&xt.tensor), arg(&wt.tensor), arg(static_cast<const accel_tensor*>(nullptr)), arg(int64_t(0))};
        for (const std::string& level : split(isas)) {
          const LinearKernels* kernels = nullptr;
          for (int l = 0; l <= int(isa()); ++l) if (level == isa_name(Isa(l))) kernels = linear_kernels(Isa(l));
          if (kernels == nullptr) return fprintf(stderr, "gemm_bench: this machine has no %s\n", level.c_str()), 2;
          const char* dnn_name = "";
          std::vector<Job> jobs(4);
          jobs[0] = [&] {
            host.run(args, 5, check_linear, [&](const accel_call* call) { return run_linear(call, *kernels, path); });
          };
          if (blas != nullptr && blas->sgemm != nullptr && type == 0) jobs[1] = blas->job(s, x.data, w.data, theirs.data, nthreads);
#if ACCEL_BENCH_ONEDNN
          if (dnn != nullptr && dnn->lib != nullptr) {
            const char* unused;
            jobs[2] = dnn->job(s, Float(type), x.data, w.data, theirs.data, nthreads, false, &dnn_name);
            jobs[3] = dnn->job(s, Float(type), x.data, w.data, theirs.data, nthreads, true, &unused);
          }
#endif
          const std::vector<double> t = race(jobs, seconds);
          const double flop = 2.0 * double(s.m) * double(s.n) * double(s.k);
          const double rate = double(w.bytes) / t[0];
          printf("| %s | %s | %d | %s | %.3f | %.1f | %.1f (%.0f %%) |", text.c_str(), kTypeNames[type], nthreads, host.kernel.c_str(),
                 t[0] * 1e3, flop / t[0] * 1e-9, rate * 1e-9, 100 * rate / copy);
          for (size_t i = 1; i < t.size(); ++i)
            if (jobs[i]) printf(" %.1f | %.2f |", flop / t[i] * 1e-9, t[i] / t[0]);
            else printf(" | |");
          printf(" %s\n", dnn_name);
          fflush(stdout);
        }
      }
    }
  }
}
