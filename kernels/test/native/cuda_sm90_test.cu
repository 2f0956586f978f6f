// The Hopper prefill kernel against a naive one, on the device and without the rest of the runtime; then its speed.
//   cuda_sm90_test          compares        cuda_sm90_test --bench [--long]   measures the variants
// Pages are scattered and everything that is no row of the cache is NaN: a stray read shows.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "cuda/attention/attention.h"

using namespace accel::cuda;

namespace {

const char* const variants[] = {"plain", "pingpong", "overlap", "both"};

int failures = 0;

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  exit(1);
}

// ---- a host for one op: blocks of memory that live as long as the stream is busy with them

struct Host {
  static constexpr size_t kSlot = 1 << 16;
  static constexpr int kSlots = 64;
  uint8_t *device = nullptr, *pinned = nullptr;
  int next = 0;
  const char* kernel = "";
  accel_call call = {};

  explicit Host(const cudaDeviceProp& properties) {
    must(cudaMalloc(&device, kSlot * kSlots), "cudaMalloc");
    must(cudaMallocHost(&pinned, kSlot * kSlots), "cudaMallocHost");
    call.host = this;
    call.device = {ACCEL_DEVICE_CUDA, 0};
    call.capability = properties.major * 10 + properties.minor;
    call.multiprocessors = properties.multiProcessorCount;
    call.scratch = [](const accel_call* c, size_t bytes) -> void* {
      Host* h = static_cast<Host*>(c->host);
      if (bytes > kSlot) abort();
      return h->device + h->next++ % kSlots * kSlot;
    };
    call.upload = [](const accel_call* c, const void* from, size_t bytes) -> const void* {
      Host* h = static_cast<Host*>(c->host);
      if (bytes > kSlot) abort();
      const size_t at = h->next++ % kSlots * kSlot;
      memcpy(h->pinned + at, from, bytes);
      must(cudaMemcpyAsync(h->device + at, h->pinned + at, bytes, cudaMemcpyHostToDevice), "upload");
      return h->device + at;
    };
    call.ran = [](const accel_call* c, const char* name) { static_cast<Host*>(c->host)->kernel = name; };
    call.fail = fail;
  }
  static int fail(const accel_call*, const char* code, const char* format, ...) {
    va_list list;
    va_start(list, format);
    fprintf(stderr, "%s: ", code);
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    return ACCEL_FAILED;
  }
};

// ---- data

__device__ float normal(uint64_t i, uint32_t seed) {
  uint64_t x = i * 0x9e3779b97f4a7c15ull + seed * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  x ^= x >> 31;
  const float u = ((x & 0xffffff) + 1) * 0x1p-24f, v = (x >> 40) * 0x1p-24f;
  return sqrtf(-2 * logf(u)) * cospif(2 * v);
}

template <class T>
__global__ void fill_normal(T* data, int64_t n, float scale, uint32_t seed) {
  for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll) {
    data[i] = from_float<T>(scale * normal(i, seed));
  }
}

// Rows of the cache; `drift` makes the scores of late rows grow or fall, so that maxima move along the tiles.
template <class T>
__global__ void fill_rows(KvPages pages, int head_dim, float scale, float drift) {
  const int h = blockIdx.y;
  const accel_kv_head& head = pages.head[h];
  for (int r = blockIdx.x; r < head.rows; r += gridDim.x) {
    const int64_t at = (static_cast<int64_t>(h) << 32) + r * static_cast<int64_t>(head_dim) + threadIdx.x;
    const float grown = scale * (1 + drift * r / head.rows);
    reinterpret_cast<T*>(pages.key(head, r))[threadIdx.x] = from_float<T>(grown * normal(at, 2));
    reinterpret_cast<T*>(pages.value(head, r))[threadIdx.x] = from_float<T>(normal(at, 3));
  }
}

// One warp a (query, head), two passes over its rows, fp32. `active` [block, head, tile] is null when dense.
template <class T>
__global__ void naive(KvPages pages, const T* q, float* out, float* lse, const int* begin, const int* block_base,
                      int query_heads, int group, int head_dim, float scale, bool causal, const uint8_t* active,
                      int tiles) {
  const int b = blockIdx.z, h = blockIdx.y, len = begin[b + 1] - begin[b], lane = threadIdx.x;
  const accel_kv_head& head = pages.at(b, h / group);
  for (int i = blockIdx.x; i < len; i += gridDim.x) {
    const int64_t row = static_cast<int64_t>(begin[b] + i) * query_heads + h;
    const int64_t item = static_cast<int64_t>(block_base[b] + i / 128) * query_heads + h;
    const uint8_t* line = active == nullptr ? nullptr : active + item * tiles;
    float x[4], o[4] = {}, top = -INFINITY, sum = 0;
    for (int c = 0; c < head_dim / 32; c++) x[c] = to_float(q[row * head_dim + c * 32 + lane]) * scale;
    const int end = causal ? min(head.rows, head.rows - len + i + 1) : head.rows;
    for (int pass = 0; pass < 2; pass++) {
      for (int j = 0; j < end; j++) {
        if (line != nullptr && !line[j / 128]) continue;
        const T* k = reinterpret_cast<const T*>(pages.key(head, j));
        const T* v = reinterpret_cast<const T*>(pages.value(head, j));
        float s = 0;
        for (int c = 0; c < head_dim / 32; c++) s += x[c] * to_float(k[c * 32 + lane]);
        for (int d = 16; d > 0; d /= 2) s += __shfl_xor_sync(~0u, s, d);
        if (pass == 0) {
          top = fmaxf(top, s);
        } else {
          const float e = expf(s - top);
          sum += e;
          for (int c = 0; c < head_dim / 32; c++) o[c] += e * to_float(v[c * 32 + lane]);
        }
      }
    }
    for (int c = 0; c < head_dim / 32; c++) out[row * head_dim + c * 32 + lane] = sum > 0 ? o[c] / sum : 0;
    if (lane == 0) lse[row] = sum > 0 ? top + logf(sum) : -INFINITY;
  }
}

struct Case {
  std::string name;
  std::vector<int> lens, past;
  int head_dim = 128, query_heads = 8, heads = 2, rows_per_page = 16;
  bool half = false, causal = true, shuffled = true;
  float scale = 1, drift = 0;      // of the queries; of the keys along the rows
  int ragged = 0;                  // kv head h has h * ragged rows fewer
  double density = 0;              // > 0: random tiles, the diagonal always
};

template <class T>
T* device_copy(const std::vector<T>& host) {
  T* device = nullptr;
  must(cudaMalloc(&device, std::max<size_t>(1, host.size()) * sizeof(T)), "cudaMalloc");
  must(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  return device;
}

// The problem of a case with all of its memory.
struct Setup {
  std::vector<accel_kv_head> head, device_head;
  std::vector<int> begin{0}, block_base{0};
  std::vector<void*> memory;
  accel_kv kv = {};
  AttentionProblem problem = {};
  int max_rows = 0;
  static constexpr int kGuard = 128;  // rows behind out that must survive

  template <class T>
  T* keep(T* p) {
    memory.push_back(p);
    return p;
  }
  ~Setup() {
    for (void* p : memory) cudaFree(p);
  }

  Setup(Host& host, const Case& c) {
    const int row_bytes = c.head_dim * 2, page_bytes = row_bytes * c.rows_per_page;
    std::mt19937 random(1);
    int pages = 0;
    for (size_t b = 0; b < c.lens.size(); b++) {
      begin.push_back(begin.back() + c.lens[b]);
      block_base.push_back(block_base.back() + (c.lens[b] + 127) / 128);
      for (int h = 0; h < c.heads; h++) {
        accel_kv_head one = {};
        one.rows = std::max(0, c.lens[b] + c.past[b] - h * c.ragged);
        one.gap_at = INT32_MAX;
        max_rows = std::max(max_rows, one.rows);
        pages += 2 * ((one.rows + c.rows_per_page - 1) / c.rows_per_page);
        head.push_back(one);
      }
    }
    std::vector<int32_t> order(pages + 1);
    for (int i = 0; i <= pages; i++) order[i] = i;
    if (c.shuffled) std::shuffle(order.begin(), order.end(), random);
    device_head = head;
    int next = 0;
    for (accel_kv_head& one : device_head) {
      const int count = (one.rows + c.rows_per_page - 1) / c.rows_per_page;
      one.key_pages = keep(device_copy(std::vector<int32_t>(order.begin() + next, order.begin() + next + count)));
      next += count;
      one.value_pages = keep(device_copy(std::vector<int32_t>(order.begin() + next, order.begin() + next + count)));
      next += count;
    }
    uint8_t* pool = nullptr;
    must(cudaMalloc(&pool, static_cast<size_t>(pages + 1) * page_bytes), "cudaMalloc");
    must(cudaMemset(pool, 0xff, static_cast<size_t>(pages + 1) * page_bytes), "cudaMemset");
    kv.base = keep(pool);
    kv.page_bytes = page_bytes;
    kv.dtype = c.half ? accel_dtype{ACCEL_FLOAT, 16, 1} : accel_dtype{ACCEL_BFLOAT, 16, 1};
    kv.head_dim = c.head_dim;
    kv.sequences = static_cast<int>(c.lens.size());
    kv.heads = c.heads;
    kv.rows_per_page = c.rows_per_page;
    kv.records_per_page = page_bytes / 4;
    kv.record_bytes = 4;
    kv.head = head.data();
    kv.device_head = keep(device_copy(device_head));
    kv.row_limit = max_rows;

    const int64_t tokens = begin.back(), elements = tokens * c.query_heads * c.head_dim;
    uint16_t *q = nullptr, *out = nullptr;
    float* lse = nullptr;
    must(cudaMalloc(&q, elements * 2), "cudaMalloc");
    must(cudaMalloc(&out, (elements + kGuard * c.query_heads * c.head_dim) * 2), "cudaMalloc");
    must(cudaMalloc(&lse, tokens * c.query_heads * 4), "cudaMalloc");
    must(cudaMemset(out, 0x7b, (elements + kGuard * c.query_heads * c.head_dim) * 2), "cudaMemset");
    problem.call = &host.call;
    problem.kv = &kv;
    problem.pages = kv_pages(kv);
    problem.dtype = kv.dtype;
    problem.head_dim = c.head_dim;
    problem.query_heads = c.query_heads;
    problem.group = c.query_heads / c.heads;
    problem.q = keep(q);
    problem.out = keep(out);
    problem.lse = keep(lse);
    problem.lens = c.lens.data();
    problem.query_begin = keep(device_copy(begin));
    problem.queries = tokens;
    problem.max_len = *std::max_element(c.lens.begin(), c.lens.end());
    problem.scale = 1 / sqrtf(static_cast<float>(c.head_dim));
    problem.causal = c.causal;
    const dim3 grid(std::max(1, std::min(max_rows, 4096)), static_cast<unsigned>(head.size()));
    if (c.half) {
      fill_normal<<<1024, 256>>>(reinterpret_cast<__half*>(q), elements, c.scale, 1);
      fill_rows<__half><<<grid, c.head_dim>>>(problem.pages, c.head_dim, 1, c.drift);
    } else {
      fill_normal<<<1024, 256>>>(reinterpret_cast<__nv_bfloat16*>(q), elements, c.scale, 1);
      fill_rows<__nv_bfloat16><<<grid, c.head_dim>>>(problem.pages, c.head_dim, 1, c.drift);
    }
    must(cudaGetLastError(), "fill");
    must(cudaDeviceSynchronize(), "fill");
  }
};

float value(uint16_t bits, bool half) {
  if (half) {
    const int e = bits >> 10 & 31, m = bits & 1023;
    const float v = e == 31 ? NAN : e == 0 ? ldexpf(m, -24) : ldexpf(1024 + m, e - 25);
    return bits & 0x8000 ? -v : v;
  }
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float v;
  memcpy(&v, &wide, 4);
  return v;
}

void compare(Host& host, const Case& c) {
  Setup s(host, c);
  const int blocks = s.block_base.back(), tiles = (s.max_rows + 127) / 128;
  std::vector<uint8_t> active;
  if (c.density > 0) {
    std::mt19937 random(7);
    std::vector<int32_t> row_ptr{0}, columns;
    active.assign(static_cast<size_t>(blocks) * c.query_heads * tiles, 0);
    for (size_t b = 0; b < c.lens.size(); b++) {
      for (int block = 0; block < s.block_base[b + 1] - s.block_base[b]; block++) {
        for (int h = 0; h < c.query_heads; h++) {
          const int rows = s.head[b * c.heads + h / s.problem.group].rows;
          const int first = rows - c.lens[b] + block * 128;  // the last row that the block's first query sees
          const int last = std::min(rows - 1, first + 127) / 128;
          for (int t = last; t >= 0; t--) {
            if ((t + 1) * 128 <= first + 1 && random() % 1000 >= c.density * 1000) continue;
            columns.push_back(t);
            active[(static_cast<size_t>(s.block_base[b] + block) * c.query_heads + h) * tiles + t] = 1;
          }
          row_ptr.push_back(static_cast<int>(columns.size()));
        }
      }
    }
    s.problem.tiles.row_ptr = s.keep(device_copy(row_ptr));
    s.problem.tiles.columns = s.keep(device_copy(columns));
  }
  if (!sm90_supports(s.problem)) {
    printf("FAIL %s: sm90_supports says no\n", c.name.c_str());
    failures++;
    return;
  }
  const int64_t rows = static_cast<int64_t>(s.begin.back()) * c.query_heads, elements = rows * c.head_dim;
  float *out = nullptr, *lse = nullptr;
  must(cudaMalloc(&out, elements * 4), "cudaMalloc");
  must(cudaMalloc(&lse, rows * 4), "cudaMalloc");
  s.keep(out);
  s.keep(lse);
  const int* begin = s.keep(device_copy(s.begin));
  const int* base = s.keep(device_copy(s.block_base));
  const uint8_t* map = active.empty() ? nullptr : s.keep(device_copy(active));
  const dim3 grid(1024, c.query_heads, static_cast<unsigned>(c.lens.size()));
  const auto reference = [&](auto* q) {
    naive<<<grid, 32>>>(s.problem.pages, q, out, lse, begin, base, c.query_heads, s.problem.group, c.head_dim,
                        s.problem.scale, c.causal, map, tiles);
  };
  if (c.half) {
    reference(static_cast<const __half*>(s.problem.q));
  } else {
    reference(static_cast<const __nv_bfloat16*>(s.problem.q));
  }
  must(cudaDeviceSynchronize(), "naive");
  if (run_attention_sm90(s.problem) != ACCEL_OK) exit(1);
  must(cudaDeviceSynchronize(), c.name.c_str());

  const int64_t guard = static_cast<int64_t>(Setup::kGuard) * c.query_heads * c.head_dim;
  std::vector<uint16_t> got(elements + guard);
  std::vector<float> want(elements), got_lse(rows), want_lse(rows);
  must(cudaMemcpy(got.data(), s.problem.out, got.size() * 2, cudaMemcpyDeviceToHost), "out");
  must(cudaMemcpy(want.data(), out, want.size() * 4, cudaMemcpyDeviceToHost), "out");
  must(cudaMemcpy(got_lse.data(), s.problem.lse, rows * 4, cudaMemcpyDeviceToHost), "lse");
  must(cudaMemcpy(want_lse.data(), lse, rows * 4, cudaMemcpyDeviceToHost), "lse");
  // The error of a row in the 2-norm, relative to the row: rounding P and the output to 16 bits allows about 2^-8.
  double worst = 0, worst_lse = 0;
  int64_t worst_row = 0, worst_lse_row = 0;
  for (int64_t r = 0; r < rows; r++) {
    double error = 0, norm = 0;
    for (int i = 0; i < c.head_dim; i++) {
      const double w = want[r * c.head_dim + i], d = value(got[r * c.head_dim + i], c.half) - w;
      error += d * d;
      norm += w * w;
    }
    const double relative = error == 0 ? 0 : norm == 0 ? INFINITY : sqrt(error / norm);
    if (!(relative <= worst)) worst = relative, worst_row = r;
    const double scale = std::max(1.0f, fabsf(want_lse[r]));
    const double d = got_lse[r] == want_lse[r] ? 0 : fabs(got_lse[r] - want_lse[r]) / scale;
    if (!(d <= worst_lse)) worst_lse = d, worst_lse_row = r;
  }
  const bool intact = std::all_of(got.begin() + elements, got.end(), [](uint16_t x) { return x == 0x7b7b; });
  const bool good = worst < (c.half ? 2e-3 : 1e-2) && worst_lse < 1e-4 && intact;
  printf("%s %-34s %-20s row error %.2e (token %lld head %lld), lse %.1e (token %lld)%s\n", good ? "ok  " : "FAIL",
         c.name.c_str(), host.kernel, worst, static_cast<long long>(worst_row / c.query_heads),
         static_cast<long long>(worst_row % c.query_heads), worst_lse,
         static_cast<long long>(worst_lse_row / c.query_heads), intact ? "" : ", wrote past the end");
  fflush(stdout);
  if (!good) failures++;
}

void compare_all(Host& host) {
  const auto one = [](const char* name, int len, int past) {
    Case c;
    c.name = name;
    c.lens = {len};
    c.past = {past};
    return c;
  };
  std::vector<Case> cases;
  for (const int n : {1, 2, 15, 16, 17, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 1000, 4097}) {
    cases.push_back(one(("causal " + std::to_string(n)).c_str(), n, 0));
  }
  const auto add = [&](Case c, auto change) {
    change(c);
    cases.push_back(c);
  };
  add(one("pages in order 1000", 1000, 0), [](Case& c) { c.shuffled = false; });
  add(one("all visible 1000", 1000, 0), [](Case& c) { c.causal = false; });
  add(one("all visible 130, past 3000", 130, 3000), [](Case& c) { c.causal = false; });
  cases.push_back(one("past 1, 128 queries", 128, 1));
  cases.push_back(one("past 129, 200 queries", 200, 129));
  cases.push_back(one("past 5000, 77 queries", 77, 5000));
  add(one("fewer rows than queries", 300, -150), [](Case&) {});
  add(one("no rows", 140, -140), [](Case&) {});
  add(one("ragged heads", 500, 700), [](Case& c) { c.ragged = 333; });
  add(one("two sequences", 300, 0), [](Case& c) { c.lens = {300, 1111}, c.past = {0, 40}; });
  add(one("sequences, one empty", 1, 0), [](Case& c) { c.lens = {129, 0, 1, 640}, c.past = {0, 5, 2000, 64}; });
  add(one("peaked, rising maxima", 2000, 0), [](Case& c) { c.scale = 6, c.drift = -0.9f; });
  add(one("peaked, falling maxima", 2000, 0), [](Case& c) { c.scale = 1, c.drift = 5; });
  for (const int rows : {8, 32, 64, 128, 256}) {
    add(one(("rows per page " + std::to_string(rows)).c_str(), 900, 333), [&](Case& c) { c.rows_per_page = rows; });
  }
  for (const int n : {1, 129, 1000, 2049}) {
    add(one(("D 64, " + std::to_string(n)).c_str(), n, n / 3), [](Case& c) { c.head_dim = 64; });
    add(one(("fp16, " + std::to_string(n)).c_str(), n, n / 3), [](Case& c) { c.half = true; });
    add(one(("fp16 D 64, " + std::to_string(n)).c_str(), n, 0), [](Case& c) { c.head_dim = 64, c.half = true; });
  }
  add(one("32 heads on 8", 777, 0), [](Case& c) { c.query_heads = 32, c.heads = 8; });
  add(one("sparse 3000", 3000, 0), [](Case& c) { c.density = 0.3; });
  add(one("sparse, two sequences, past", 1, 0),
      [](Case& c) { c.density = 0.4, c.lens = {700, 1500}, c.past = {1000, 77}; });
  for (const Case& c : cases) {
    for (const char* variant : variants) {
      if ((c.half || c.head_dim != 128) && variant != variants[0]) continue;
      setenv("ACCEL_CUDA_SM90", variant, 1);
      compare(host, c);
    }
  }
  unsetenv("ACCEL_CUDA_SM90");
}

void bench(Host& host, int n, int head_dim, bool causal, const char* variant, int samples) {
  Case c;
  c.lens = {n};
  c.past = {0};
  c.query_heads = 32;
  c.heads = 8;
  c.head_dim = head_dim;
  c.causal = causal;
  Setup s(host, c);
  setenv("ACCEL_CUDA_SM90", variant, 1);
  cudaEvent_t from, to;
  must(cudaEventCreate(&from), "cudaEventCreate");
  must(cudaEventCreate(&to), "cudaEventCreate");
  const int repeat = n <= 16384 ? 4 : 1;
  std::vector<float> ms;
  for (int i = -3; i < samples; i++) {
    cudaEventRecord(from);
    for (int k = 0; k < repeat; k++) {
      if (run_attention_sm90(s.problem) != ACCEL_OK) exit(1);
    }
    cudaEventRecord(to);
    must(cudaEventSynchronize(to), "bench");
    float t = 0;
    cudaEventElapsedTime(&t, from, to);
    if (i >= 0) ms.push_back(t / repeat);
  }
  std::sort(ms.begin(), ms.end());
  const double flop = 4.0 * n * n * head_dim * c.query_heads / (causal ? 2 : 1);
  const auto rate = [&](float t) { return flop / t * 1e-9; };
  printf("{\"kernel\":\"%s\",\"variant\":\"%s\",\"n\":%d,\"d\":%d,\"causal\":%d,\"ms\":%.4f,\"tflops\":%.1f,"
         "\"tflops_p10\":%.1f,\"tflops_p90\":%.1f}\n",
         host.kernel, variant, n, head_dim, causal, ms[ms.size() / 2], rate(ms[ms.size() / 2]),
         rate(ms[ms.size() * 9 / 10]), rate(ms[ms.size() / 10]));
  fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  cudaDeviceProp device;
  must(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  if (device.major != 9) {
    printf("skipped: needs compute capability 9.0, this is %d.%d\n", device.major, device.minor);
    return 77;
  }
  Host host(device);
  const auto has = [&](const char* flag) {
    return std::any_of(argv + 1, argv + argc, [&](const char* a) { return strcmp(a, flag) == 0; });
  };
  if (!has("--bench")) {
    compare_all(host);
    printf(failures == 0 ? "all passed\n" : "%d failed\n", failures);
    return failures == 0 ? 0 : 1;
  }
  for (const int n : {4096, 8192, 16384, 32768}) {
    for (const char* variant : variants) bench(host, n, 128, true, variant, 20);
  }
  bench(host, 8192 + 37, 128, true, "plain", 20);
  bench(host, 16384, 128, false, "plain", 20);
  bench(host, 16384, 64, true, "plain", 20);
  if (has("--long")) {
    bench(host, 65536, 128, true, "plain", 5);
    bench(host, 131072, 128, true, "plain", 3);
  }
  return 0;
}
