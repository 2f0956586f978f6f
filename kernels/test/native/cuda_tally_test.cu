// Checks tally_step and kv_remove on the GPU against plain loops, and times them.
//
//   cuda_tally_test            all cases; "N passed, N failed"; exit 1 if any failed
//   cuda_tally_test --small    tiny sizes, for compute-sanitizer
//   cuda_tally_test --bench    times inside a graph of 32 ops, as in a decode step
#include "cuda/kernels.h"
#include "cuda_attention_bench.cuh"

namespace accel::test {
namespace {

int passed = 0, failed = 0;

__attribute__((format(printf, 2, 3))) void expect(bool ok, const char* format, ...) {
  (ok ? passed : failed)++;
  if (ok || failed > 40) return;
  va_list list;
  va_start(list, format);
  printf("FAILED ");
  vprintf(format, list);
  printf("\n");
  va_end(list);
}

// ---- records and rows, through the pages

__device__ inline int32_t record_word(int pair, int row, int word) { return pair * 1000003 + row * 7 + word; }

__global__ void fill_records(cuda::KvPages kv) {
  const int row = static_cast<int>(blockIdx.x * 256 + threadIdx.x), pair = blockIdx.y;
  const accel_kv_head& head = kv.head[pair];
  if (row >= head.rows) return;
  int32_t* record = kv.record(head, row);
  record[0] = record_word(pair, row, 0);
  for (int w = 1; w < kv.record_words; w++) record[w] = __float_as_int(0.001f * row + w);
}

// out: [pairs, most, words]
__global__ void dump_records(cuda::KvPages kv, int most, int32_t* out) {
  const int row = static_cast<int>(blockIdx.x * 256 + threadIdx.x), pair = blockIdx.y;
  const accel_kv_head& head = kv.head[pair];
  if (row >= head.rows) return;
  for (int w = 0; w < kv.record_words; w++) {
    out[(static_cast<int64_t>(pair) * most + row) * kv.record_words + w] = kv.record(head, row)[w];
  }
}

// out: [pairs, most, head_dim]
template <class T>
__global__ void dump_rows(cuda::KvPages kv, bool values, int most, int head_dim, float* out) {
  const int row = blockIdx.x, pair = blockIdx.y;
  const accel_kv_head& head = kv.head[pair];
  if (row >= head.rows) return;
  const T* from = reinterpret_cast<const T*>(values ? kv.value(head, row) : kv.key(head, row));
  for (int c = threadIdx.x; c < head_dim; c += blockDim.x) {
    out[(static_cast<int64_t>(pair) * most + row) * head_dim + c] = cuda::to_float(from[c]);
  }
}

std::vector<int32_t> records_of(const accel_kv& kv, int most) {
  const cuda::KvPages pages = cuda::kv_pages(kv);
  Buffer<int32_t> out(static_cast<size_t>(kv.sequences) * kv.heads * most * pages.record_words);
  dump_records<<<dim3((most + 255) / 256, kv.sequences * kv.heads), 256>>>(pages, most, out.data);
  CUDA(cudaDeviceSynchronize());
  return out.host();
}

std::vector<float> rows_of(const accel_kv& kv, bool values, int most) {
  Buffer<float> out(static_cast<size_t>(kv.sequences) * kv.heads * most * kv.head_dim);
  cuda::with_float(kv.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    dump_rows<T><<<dim3(most, kv.sequences * kv.heads), 64>>>(cuda::kv_pages(kv), values, most, kv.head_dim, out.data);
    return 0;
  });
  CUDA(cudaDeviceSynchronize());
  return out.host();
}

struct Case {
  const char* name;
  accel_dtype dtype = bf16;
  int head_dim = 128;
  int group = 4, kv_heads = 2;
  std::vector<int> rows;                 // of a sequence
  std::vector<int32_t> ranges = {};
  bool gaps = false;
  bool ragged = false;                   // heads of a sequence have different numbers of rows
  int rows_per_page = 16;
  int stale = 0;
};

CacheShape shape_of(const Case& c) {
  std::vector<int> rows;
  for (int n : c.rows) {
    for (int h = 0; h < c.kv_heads; h++) rows.push_back(c.ragged ? std::max(0, n - 37 * h) : n);
  }
  CacheShape shape{c.dtype, c.head_dim, c.kv_heads, c.rows_per_page, rows, c.gaps};
  shape.stale = c.stale;
  shape.tallies = 3;
  return shape;
}

// ---- tally_step: every reduction, set and added; other numbers of the records and other rows stay as they are

void step_case(CudaHost& host, const Case& c, uint64_t seed) {
  const CacheShape shape = shape_of(c);
  const Cache cache(shape, seed);
  const int sequences = static_cast<int>(c.rows.size()), heads = c.kv_heads * c.group;
  const int most = std::max(1, *std::max_element(shape.rows.begin(), shape.rows.end())), words = 1 + shape.tallies;
  const int64_t elements = static_cast<int64_t>(sequences) * heads * c.head_dim;
  Buffer<uint8_t> q(elements * (c.dtype.bits / 8));
  Buffer<float> q32(elements);
  cuda::with_float(c.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    fill_normal<T><<<64, 256>>>(reinterpret_cast<T*>(q.data), q32.data, elements, 1.0f, seed + 1);
    return 0;
  });
  CUDA(cudaDeviceSynchronize());
  std::mt19937 random(static_cast<unsigned>(seed));
  std::vector<float> lse(static_cast<size_t>(sequences) * heads);
  for (float& x : lse) x = 2 + 0.001f * static_cast<float>(random() % 4000);
  lse[lse.size() / 2] = -INFINITY;       // a query that saw nothing
  Buffer<float> lse_on_device(lse);
  const double scale = 1 / sqrt(c.head_dim);
  const std::vector<float> queries = q32.host();
  std::vector<std::vector<float>> keys;
  for (const Buffer<float>& k : cache.keys) keys.push_back(k.host());

  // p[pair][row][head of the group]
  const auto probability = [&](int pair, int row, int h) {
    const int head = pair / c.kv_heads * heads + pair % c.kv_heads * c.group + h;
    if (lse[head] == -INFINITY) return 0.0;
    double x = 0;
    for (int i = 0; i < c.head_dim; i++) {
      x += static_cast<double>(queries[static_cast<size_t>(head) * c.head_dim + i]) *
           keys[pair][static_cast<size_t>(row) * c.head_dim + i];
    }
    return exp(x * scale - lse[head]);
  };
  TensorView q_view(q.data, c.dtype, {sequences, heads, c.head_dim}), lse_view(lse_on_device.data, fp32, {sequences, heads});
  for (int reduce = 1; reduce <= 4; reduce++) {
    for (const bool accumulate : {false, true}) {
      fill_records<<<dim3((most + 255) / 256, sequences * c.kv_heads), 256>>>(cuda::kv_pages(cache.kv));
      CUDA(cudaDeviceSynchronize());
      const std::vector<int32_t> before = records_of(cache.kv, most);
      const int tally = reduce % 3;
      if (!host.run({arg(&cache.kv), arg(&q_view.tensor), arg(&lse_view.tensor), arg(scale), arg(int64_t{tally}),
                     arg(int64_t{reduce}), arg(int64_t{accumulate}), arg(c.ranges), arg(int64_t{0})},
                    op_named(cuda::tally_kernels(), "tally_step"))) {
        expect(false, "%s: %s", c.name, host.error.c_str());
        continue;
      }
      host.synchronize();
      const std::vector<int32_t> after = records_of(cache.kv, most);
      double worst = 0;
      bool kept = true;
      for (int pair = 0; pair < sequences * c.kv_heads; pair++) {
        const int n = shape.rows[pair], b = pair / c.kv_heads;
        const int begin = c.ranges.empty() ? 0 : c.ranges[2 * b], end = c.ranges.empty() ? n : std::min(n, c.ranges[2 * b + 1]);
        for (int row = 0; row < n; row++) {
          const size_t at = (static_cast<size_t>(pair) * most + row) * words;
          for (int w = 0; w < words; w++) {
            if (w != 1 + tally || row < begin || row >= end) {
              kept &= before[at + w] == after[at + w];
              continue;
            }
            double want = probability(pair, row, 0);
            for (int h = 1; h < c.group && reduce != 4; h++) {
              const double x = probability(pair, row, h);
              want = reduce == 2 ? std::max(want, x) : want + x;
            }
            if (reduce == 1) want /= c.group;
            float old, got;
            memcpy(&old, &before[at + w], 4);
            memcpy(&got, &after[at + w], 4);
            if (accumulate) want += old;
            const double error = fabs(got - want) / (want + 1e-12);
            worst = error <= worst ? worst : error == error ? error : 1e30;
          }
        }
      }
      expect(worst < 2e-5 && kept, "tally_step, %s, reduce %d%s: relative error %.2e%s", c.name, reduce,
             accumulate ? ", added" : "", worst, kept ? "" : ", wrote elsewhere");
    }
  }
}

// ---- kv_remove: `where` of the rows before the newest; a head that has none, or a row too many, is an error

void remove_case(CudaHost& host, const Case& c, int keep, double where, bool wrong_row, uint64_t seed) {
  const CacheShape shape = shape_of(c);
  const Cache cache(shape, seed);
  const int most = std::max(1, *std::max_element(shape.rows.begin(), shape.rows.end())), words = 1 + shape.tallies;
  fill_records<<<dim3((most + 255) / 256, c.kv_heads), 256>>>(cuda::kv_pages(cache.kv));
  CUDA(cudaDeviceSynchronize());
  const std::vector<int32_t> records = records_of(cache.kv, most);
  const std::vector<float> keys = rows_of(cache.kv, false, most), values = rows_of(cache.kv, true, most);
  std::vector<int32_t> victims;
  std::vector<bool> moves;
  bool wrong = false;
  for (int h = 0; h < c.kv_heads; h++) {
    const int n = shape.rows[h], end = n - keep;
    int victim = std::max(0, std::min(end - 1, static_cast<int>(where * end) + h));
    if (wrong_row && h == c.kv_heads - 1) victim = h % 2 == 0 ? end : -1;
    moves.push_back(victim >= 0 && victim < end);
    wrong |= !moves.back();
    victims.push_back(victim);
  }
  Buffer<int32_t> victims_on_device(victims);
  TensorView view(victims_on_device.data, {ACCEL_INT, 32, 1}, {c.kv_heads});
  if (!host.run({arg(&cache.kv), arg(&view.tensor), arg(int64_t{keep})}, op_named(cuda::kv_remove_kernels(), "kv_remove"))) {
    return expect(false, "%s: %s", c.name, host.error.c_str());
  }
  host.synchronize();
  accel_device_error* error = host.call()->device_error;
  const bool reported = error->check != 0;
  *error = {};
  const std::vector<int32_t> records_now = records_of(cache.kv, most);
  const std::vector<float> keys_now = rows_of(cache.kv, false, most), values_now = rows_of(cache.kv, true, most);
  bool same = true;
  int64_t first_wrong = -1;
  for (int h = 0; h < c.kv_heads; h++) {
    for (int row = 0; row < shape.rows[h]; row++) {
      const int end = shape.rows[h] - keep;
      const size_t to = static_cast<size_t>(h) * most + row, from = moves[h] && row >= victims[h] && row < end - 1 ? to + 1 : to;
      bool good = std::equal(&records_now[to * words], &records_now[to * words] + words, &records[from * words]);
      good &= memcmp(&keys_now[to * c.head_dim], &keys[from * c.head_dim], c.head_dim * 4) == 0;
      good &= memcmp(&values_now[to * c.head_dim], &values[from * c.head_dim], c.head_dim * 4) == 0;
      if (!good && first_wrong < 0) first_wrong = static_cast<int64_t>(to);
      same &= good;
    }
  }
  expect(same && reported == wrong, "kv_remove, %s, keep %d, at %.2f: first wrong row %lld%s", c.name, keep, where,
         static_cast<long long>(first_wrong), reported == wrong ? "" : ", error not as it should be");
}

void cases(CudaHost& host, bool small) {
  uint64_t seed = 1;
  for (const int d : {64, 128}) {
    step_case(host, {.name = "one row", .head_dim = d, .rows = {1}}, ++seed);
    step_case(host, {.name = "batch", .head_dim = d, .rows = {100, 7, 33}, .gaps = true, .ragged = true}, ++seed);
    step_case(host, {.name = "group 1", .dtype = fp16, .head_dim = d, .group = 1, .kv_heads = 3, .rows = {65}}, ++seed);
    step_case(host, {.name = "group 7", .head_dim = d, .group = 7, .rows = {130}, .rows_per_page = 3}, ++seed);
    step_case(host, {.name = "group 12", .dtype = fp16, .head_dim = d, .group = 12, .rows = {90}}, ++seed);
    step_case(host, {.name = "ranges", .head_dim = d, .rows = {200, 90, 50}, .ranges = {20, 150, 90, 95, 17, 1000}, .gaps = true}, ++seed);
    step_case(host, {.name = "stale host rows", .head_dim = d, .rows = {300}, .stale = 120}, ++seed);
    if (small) continue;
    for (const int n : {15, 16, 17, 64, 1025, 5000}) {
      step_case(host, {.name = "length", .head_dim = d, .kv_heads = 4, .rows = {n}, .gaps = n == 1025}, ++seed);
    }
    step_case(host, {.name = "unequal batch", .head_dim = d, .kv_heads = 8, .rows = {20000, 1, 64, 3000, 0, 17}}, ++seed);
  }
  step_case(host, {.name = "fp32", .dtype = fp32, .head_dim = 24, .group = 3, .rows = {70, 5}, .gaps = true, .ragged = true}, ++seed);
  step_case(host, {.name = "other dimension", .dtype = bf16, .head_dim = 80, .rows = {50}, .ranges = {3, 41}}, ++seed);

  const struct {
    accel_dtype dtype;
    int head_dim;
  } formats[] = {{bf16, 128}, {fp32, 6}, {fp16, 72}, {bf16, 3}};
  for (const auto& f : formats) {
    for (const double where : {0.0, 0.4, 1.0}) {
      for (const int keep : {0, 1, 20}) {
        for (const int n : {2, 60, 1300, 6000}) {
          if (small && n > 60) continue;
          if (n > 2000 && f.head_dim != 128) continue;
          remove_case(host, {.name = "rows", .dtype = f.dtype, .head_dim = f.head_dim, .kv_heads = 3, .rows = {n},
                             .gaps = n > 20 && keep == 1, .ragged = n > 200, .rows_per_page = n == 60 ? 4 : 16},
                      keep, where, false, ++seed);
        }
      }
    }
    remove_case(host, {.name = "wrong row", .dtype = f.dtype, .head_dim = f.head_dim, .kv_heads = 3, .rows = {70}}, 5, 0.3, true, ++seed);
    remove_case(host, {.name = "wrong row", .dtype = f.dtype, .head_dim = f.head_dim, .kv_heads = 2, .rows = {70}}, 5, 0.3, true, ++seed);
  }
}

// ---- times: 8 kv heads of 128, 4 query heads each, bf16, one tally

void bench(CudaHost& host) {
  host.poison = false;
  constexpr int ops = 32, heads = 8, group = 4, d = 128;
  const int shapes[][2] = {{1, 1025}, {1, 4096}, {1, 32768}, {1, 131072}, {8, 1025}, {8, 16384}};
  for (const auto [sequences, n] : shapes) {
    CacheShape shape{bf16, d, heads, 16, std::vector<int>(sequences * heads, n)};
    shape.dense = false;
    shape.tallies = 1;
    const Cache cache(shape, 1);
    Buffer<__nv_bfloat16> q(static_cast<size_t>(sequences) * heads * group * d);
    Buffer<float> lse(std::vector<float>(static_cast<size_t>(sequences) * heads * group, 5.0f));
    CUDA(cudaMemset(q.data, 0, q.size * 2));
    CUDA(cudaDeviceSynchronize());
    TensorView q_view(q.data, bf16, {sequences, heads * group, d}), lse_view(lse.data, fp32, {sequences, heads * group});
    const std::vector<int32_t> none;
    const double time = median_time_in_graph(host, 20, ops, [&](int) {
      host.run({arg(&cache.kv), arg(&q_view.tensor), arg(&lse_view.tensor), arg(0.1), arg(int64_t{0}), arg(int64_t{1}),
                arg(int64_t{1}), arg(none), arg(int64_t{0})},
               op_named(cuda::tally_kernels(), "tally_step"));
    });
    printf("tally_step  %d x %6d rows            %8.2f us %8.1f GB/s of keys\n", sequences, n, time * 1e6,
           2.0 * sequences * n * heads * d / time / 1e9);
    fflush(stdout);
  }
  for (const int n : {1024, 6553, 32768, 131072}) {
    CacheShape shape{bf16, d, heads, 16, std::vector<int>(heads, n)};
    shape.dense = false;
    shape.tallies = 1;
    const Cache cache(shape, 1);
    for (const int victim : {0, n / 2, n - 33}) {  // all, half, nothing moves
      Buffer<int32_t> victims(std::vector<int32_t>(heads, victim));
      TensorView view(victims.data, {ACCEL_INT, 32, 1}, {heads});
      const double time = median_time_in_graph(host, 20, ops, [&](int) {
        host.run({arg(&cache.kv), arg(&view.tensor), arg(int64_t{32})}, op_named(cuda::kv_remove_kernels(), "kv_remove"));
      });
      const int moved = n - 32 - 1 - victim;
      printf("kv_remove   %6d rows, %6d move    %8.2f us %8.1f GB/s read and written\n", n, moved, time * 1e6,
             2.0 * moved * heads * (4 * d + 8) / time / 1e9);
      fflush(stdout);
    }
  }
}

}  // namespace
}  // namespace accel::test

int main(int argc, char** argv) {
  using namespace accel::test;
  bool small = false, times = false;
  for (int i = 1; i < argc; i++) {
    small |= strcmp(argv[i], "--small") == 0;
    times |= strcmp(argv[i], "--bench") == 0;
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    printf("no CUDA device: %s\n", cudaGetErrorString(cudaGetLastError()));
    return 77;
  }
  CudaHost host;
  if (times) {
    bench(host);
    return 0;
  }
  cases(host, small);
  printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
