// Checks the attention and signal kernels of the CUDA backend, each forced in turn, against naive kernels, and times them.
//
//   cuda_attention_test            all cases; "N passed, N failed"; exit 1 if any failed
//   cuda_attention_test --small    tiny sizes, for compute-sanitizer (memcheck, racecheck)
//   cuda_attention_test --only X   cases whose name contains X
//   cuda_attention_test --bench    TF/s of prefill, GB/s of decode, times of signals (--bench prefill | decode | signals)
//
// Error of an output row: max |got - want| / max |want|, against fp32 attention of the same rounded inputs.
#include "cuda/attention/attention.h"
#include "cuda_attention_bench.cuh"
#include "cuda_attention_naive.cuh"

namespace accel::test {
namespace {

struct Case {
  const char* name;
  accel_dtype dtype = bf16;
  int head_dim = 128;
  int heads = 8, kv_heads = 2;
  std::vector<int> lens;
  std::vector<int> past;                 // rows of a head = past + len; past may be negative
  bool causal = true;
  int window = 0;
  std::vector<int32_t> ranges = {};
  bool gaps = false;
  bool ragged = false;                   // heads of a sequence have different numbers of rows
  int rows_per_page = 16;
  double scale = 1;                      // times 1 / sqrt(head_dim)
  int stale = 0;
  double listed = 0;                     // probability that a tile is in the list; 0: no list
};

struct Counts {
  int passed = 0, failed = 0;
};

class Suite {
 public:
  Suite(CudaHost& host, const char* only) : host_(host), only_(only), worst_(1) { read_worst(worst_); }

  void attention(const Case& c) {
    if (only_ != nullptr && strstr(c.name, only_) == nullptr) return;
    const int sequences = static_cast<int>(c.lens.size());
    std::vector<int> rows;
    for (int b = 0; b < sequences; b++) {
      for (int h = 0; h < c.kv_heads; h++) rows.push_back(std::max(0, c.past[b] + c.lens[b] - (c.ragged ? 37 * h : 0)));
    }
    CacheShape shape{c.dtype, c.head_dim, c.kv_heads, c.rows_per_page, rows, c.gaps};
    shape.stale = c.stale;
    const Cache cache(shape, ++seed_);

    int64_t tokens = 0;
    int row_blocks = 0;
    for (int len : c.lens) {
      tokens += len;
      row_blocks += (len + 127) / 128;
    }
    const int64_t elements = tokens * c.heads * c.head_dim;
    const size_t bytes = c.dtype.bits / 8, guard = 4096;
    Buffer<uint8_t> q(elements * bytes), out(elements * bytes + guard);
    Buffer<float> q32(elements), want(elements), want_lse(tokens * c.heads);
    Buffer<uint8_t> lse(tokens * c.heads * sizeof(float) + guard);
    fill_q(c.dtype, q.data, q32.data, elements);

    const Buffer<int32_t> lens(c.lens), ranges(c.ranges), row_table(rows);
    Naive naive = {};
    naive.q = q32.data;
    naive.keys = cache.key_table.data;
    naive.values = cache.value_table.data;
    naive.rows = row_table.data;
    naive.lens = lens.data;
    naive.ranges = ranges.data;
    naive.sequences = sequences;
    naive.heads = c.heads;
    naive.kv_heads = c.kv_heads;
    naive.head_dim = c.head_dim;
    naive.queries = tokens;
    naive.scale = static_cast<float>(c.scale / sqrt(c.head_dim));
    naive.causal = c.causal;
    naive.window = c.window;
    naive.max_rows = std::max(1, *std::max_element(rows.begin(), rows.end()));
    const Lists lists(c, row_blocks, naive.max_rows, ++seed_);
    if (c.listed > 0) {
      naive.listed = lists.bitmap.data;
      naive.tiles = lists.tiles;
    }
    Buffer<float> logits(static_cast<size_t>(naive_blocks) * naive.max_rows);
    naive_attention<<<naive_blocks, naive_threads>>>(naive, logits.data, want.data, want_lse.data);
    CUDA(cudaDeviceSynchronize());

    for (const char* kernel : {"reference", "sm80", "sm90", "decode", ""}) {
      setenv("ACCEL_CUDA_ATTENTION", kernel, 1);
      for (const bool with_lse : {true, false}) {
        if (!with_lse && *kernel == '\0') continue;
        out.poison();
        lse.poison();
        const bool ran = c.listed > 0 ? run_listed(c, cache, lists, q.data, out.data, with_lse ? lse.data : nullptr)
                                      : run_op(c, cache, q.data, out.data, with_lse ? lse.data : nullptr);
        if (!ran) {
          if (must_support(c, kernel)) report(c.name, kernel, false, host_.error);
          continue;
        }
        CUDA(cudaStreamSynchronize(host_.stream));
        const float error = error_of_rows(c.dtype, out.data, want.data, tokens * c.heads, c.head_dim, worst_);
        const float lse_error =
            with_lse ? error_of_numbers(reinterpret_cast<float*>(lse.data), want_lse.data, tokens * c.heads, worst_) : 0;
        const bool inside = untouched(out.data + elements * bytes, guard) &&
                            untouched(lse.data + (with_lse ? tokens * c.heads * sizeof(float) : 0), guard);
        char text[200];
        snprintf(text, sizeof text, "[%s] error %.2e, lse %.2e%s", host_.kernels.c_str(), error, lse_error,
                 inside ? "" : ", wrote past the end");
        const float bound = c.dtype.bits == 32 ? 1e-4f : c.dtype.code == ACCEL_BFLOAT ? 8e-3f : 2e-3f;
        // Forced means that this kernel and no other computed it.
        const bool as_told = tokens == 0 || *kernel == '\0' || host_.kernels.rfind("attention_" + std::string(kernel), 0) == 0;
        report(c.name, kernel, error < bound && lse_error < 2e-3f && inside && as_told, text);
      }
    }
    unsetenv("ACCEL_CUDA_ATTENTION");
  }

  // Both signal ops, all reductions, column_sums also into a wider tensor, adding to it, some columns only. The queries are
  // the last of the sequence.
  void signals(const char* name, accel_dtype dtype, int head_dim, int heads, int kv_heads, int n, int queries, bool gaps) {
    if (only_ != nullptr && strstr(name, only_) == nullptr) return;
    const std::vector<int> rows(kv_heads, n);
    const Cache cache({dtype, head_dim, kv_heads, 16, rows, gaps}, ++seed_);
    const int64_t elements = static_cast<int64_t>(queries) * heads * head_dim;
    Buffer<uint8_t> q(elements * (dtype.bits / 8));
    Buffer<float> q32(elements), lse(static_cast<size_t>(queries) * heads), logits(static_cast<size_t>(naive_blocks) * n);
    fill_q(dtype, q.data, q32.data, elements);
    const Buffer<int32_t> lens(std::vector<int32_t>{queries}), row_table(rows);
    Naive naive = {};
    naive.q = q32.data;
    naive.keys = cache.key_table.data;
    naive.values = cache.value_table.data;
    naive.rows = row_table.data;
    naive.lens = lens.data;
    naive.sequences = 1;
    naive.heads = heads;
    naive.kv_heads = kv_heads;
    naive.head_dim = head_dim;
    naive.queries = queries;
    naive.scale = static_cast<float>(1 / sqrt(head_dim));
    naive.causal = true;
    naive.max_rows = n;
    naive_attention<<<naive_blocks, naive_threads>>>(naive, logits.data, nullptr, lse.data);
    Buffer<double> columns(static_cast<size_t>(heads) * n);
    naive_columns<<<dim3((n + 127) / 128, heads), 128>>>(naive, lse.data, columns.data);
    CUDA(cudaDeviceSynchronize());
    const std::vector<double> sums = columns.host();

    const struct {
      const char* op;
      bool accumulate, wide, part;
    } kinds[] = {{"column_sums", false, false, false}, {"column_sums", true, true, false}, {"column_sums", true, false, true},
                 {"column_sums", false, true, true},   {"observe_scores", false, false, false}};
    for (const auto& kind : kinds) {
      const char* op = kind.op;
      for (int reduce = 0; reduce < 4; reduce++) {
        if (kind.accumulate && reduce == 2) continue;
        const int out_heads = reduce == 0 ? heads : kv_heads, group = heads / kv_heads, width = kind.wide ? n + 9 : n;
        const size_t count = static_cast<size_t>(out_heads) * width;
        const std::vector<int32_t> range = kind.part ? std::vector<int32_t>{n / 5, n + 3 - n / 3} : std::vector<int32_t>{};
        const int begin = kind.part ? range[0] : 0, end = kind.part ? std::min(n, range[1]) : n;
        const float before = 0.75f;
        Buffer<float> out(count + 256);
        std::vector<float> filled(count, before);
        CUDA(cudaMemcpy(out.data, filled.data(), count * sizeof(float), cudaMemcpyHostToDevice));
        CUDA(cudaDeviceSynchronize());
        TensorView o(out.data, fp32, {out_heads, width}), queries_view(q.data, dtype, {queries, heads, head_dim});
        TensorView lse_view(lse.data, fp32, {queries, heads});
        std::vector<accel_arg> args = {arg(&o.tensor), arg(&queries_view.tensor)};
        if (strcmp(op, "column_sums") == 0) args.push_back(arg(&lse_view.tensor));
        args.insert(args.end(), {arg(&cache.kv), arg(static_cast<double>(1 / sqrt(head_dim))), arg(int64_t{reduce})});
        if (strcmp(op, "column_sums") == 0) args.insert(args.end(), {arg(int64_t{kind.accumulate}), arg(range), arg(static_cast<const accel_tensor*>(nullptr))});
        args.push_back(arg(int64_t{0}));  // window
        if (!host_.run(args, op_named(cuda::signal_kernels(), op))) {
          report(name, op, false, host_.error);
          continue;
        }
        CUDA(cudaStreamSynchronize(host_.stream));
        const std::vector<float> got = out.host();
        double worst = 0;
        for (size_t i = 0; i < count; i++) {
          const size_t h = i / width;
          const int j = static_cast<int>(i % width);
          if (j < begin || j >= end) {   // not to be touched
            if (got[i] != before) worst = wrong;
            continue;
          }
          double want = sums[(reduce == 0 ? h : h * group) * n + j];
          for (int k = 1; reduce != 0 && k < group; k++) {
            const double x = sums[(h * group + k) * n + j];
            want = reduce == 2 ? std::max(want, x) : want + x;
          }
          if (reduce == 1) want /= group;
          if (kind.accumulate && j < n - queries) want += before;
          const double error = fabs(got[i] - want) / (want + 1e-9);
          worst = error <= worst ? worst : error == error ? error : wrong;
        }
        bool inside = untouched(reinterpret_cast<uint8_t*>(out.data + count), 256 * sizeof(float));
        char text[160];
        snprintf(text, sizeof text, "[%s] reduce %d%s%s%s: relative error %.2e%s", host_.kernels.c_str(), reduce,
                 kind.accumulate ? ", added" : "", kind.wide ? ", wide" : "", kind.part ? ", part" : "", worst,
                 inside ? "" : ", wrote past the end");
        report(name, op, worst < 5e-4 && inside, text);
      }
    }
  }

  Counts counts;

 private:
  // A random list of 128-key tiles per (row block, head), last tile first; some row blocks get none.
  struct Lists {
    Lists(const Case& c, int row_blocks, int max_rows, uint64_t seed) : tiles((max_rows + 127) / 128) {
      if (c.listed == 0) return;
      std::mt19937_64 random(seed);
      std::uniform_real_distribution<double> uniform(0, 1);
      std::vector<int32_t> pointers = {0}, entries;
      std::vector<uint8_t> bits(static_cast<size_t>(row_blocks) * c.heads * tiles, 0);
      int number = 0;
      for (size_t b = 0; b < c.lens.size(); b++) {
        for (int block = 0; block < (c.lens[b] + 127) / 128; block++, number++) {
          for (int h = 0; h < c.heads; h++) {
            const int rows = std::max(0, c.past[b] + c.lens[b] - (c.ragged ? 37 * (h / (c.heads / c.kv_heads)) : 0));
            // Causal: from the tile of the block's last query down.
            const int last = rows - c.lens[b] + std::min((block + 1) * 128, c.lens[b]) - 1;
            const int top = c.causal ? (last >= 0 ? last / 128 : -1) : (rows - 1) / 128;
            for (int t = std::min(top, tiles - 1); t >= 0; t--) {
              const bool none = c.listed < 1 && (number + h) % 7 == 3;
              if (none || uniform(random) >= c.listed) continue;
              entries.push_back(t);
              bits[(static_cast<size_t>(number) * c.heads + h) * tiles + t] = 1;
            }
            pointers.push_back(static_cast<int32_t>(entries.size()));
          }
        }
      }
      row_ptr = Buffer<int32_t>(pointers);
      columns = Buffer<int32_t>(entries);
      bitmap = Buffer<uint8_t>(bits);
    }
    int tiles;
    Buffer<int32_t> row_ptr, columns;
    Buffer<uint8_t> bitmap;
  };

  void fill_q(accel_dtype dtype, void* q, float* copy, int64_t n) {
    cuda::with_float(dtype, [&](auto* element) {
      using T = std::remove_pointer_t<decltype(element)>;
      fill_normal<T><<<512, 256>>>(static_cast<T*>(q), copy, n, 1.0f, ++seed_);
      return 0;
    });
    CUDA(cudaDeviceSynchronize());
  }

  bool run_op(const Case& c, const Cache& cache, void* q, void* out, void* lse) {
    int64_t tokens = 0;
    for (int len : c.lens) tokens += len;
    TensorView o(out, c.dtype, {tokens, c.heads, c.head_dim}), queries(q, c.dtype, {tokens, c.heads, c.head_dim});
    TensorView l(lse, fp32, {tokens, c.heads});
    return host_.run({arg(&o.tensor), arg(lse == nullptr ? nullptr : &l.tensor), arg(&queries.tensor), arg(&cache.kv),
                      arg(c.lens), arg(c.scale / sqrt(c.head_dim)), arg(int64_t{c.causal}), arg(int64_t{c.window}),
                      arg(c.ranges)},
                     op_named(cuda::attention_kernels(), "attention"));
  }

  bool run_listed(const Case& c, const Cache& cache, const Lists& lists, void* q, void* out, void* lse) {
    return host_.run({}, [&](const accel_call* call) {
      std::vector<int32_t> begin = {0};
      cuda::AttentionProblem problem = {};
      for (int len : c.lens) {
        begin.push_back(begin.back() + len);
        problem.max_len = std::max(problem.max_len, len);
      }
      problem.call = call;
      problem.kv = &cache.kv;
      problem.pages = cuda::kv_pages(cache.kv);
      problem.dtype = c.dtype;
      problem.head_dim = c.head_dim;
      problem.query_heads = c.heads;
      problem.group = c.heads / c.kv_heads;
      problem.q = q;
      problem.out = out;
      problem.lse = static_cast<float*>(lse);
      problem.lens = c.lens.data();
      problem.query_begin = static_cast<const int32_t*>(call->upload(call, begin.data(), begin.size() * 4));
      problem.queries = begin.back();
      problem.scale = static_cast<float>(c.scale / sqrt(c.head_dim));
      problem.causal = c.causal;
      problem.gaps = c.gaps;
      problem.tiles = {lists.row_ptr.data, lists.columns.data};
      return cuda::run_attention(problem);
    });
  }

  bool must_support(const Case& c, const char* kernel) const {
    const std::string name = kernel;
    if (name.empty() || name == "reference") return true;
    const bool common = c.dtype.bits == 16 && (c.head_dim == 64 || c.head_dim == 128);
    if (name == "sm80") return common;
    const int longest = *std::max_element(c.lens.begin(), c.lens.end());
    if (name == "decode") return common && c.listed == 0 && longest * (c.heads / c.kv_heads) <= 16;
    return common && host_.call()->capability == 90 && c.window == 0 && c.ranges.empty() && !c.gaps && c.rows_per_page == 16;
  }

  void report(const char* name, const char* kernel, bool good, const std::string& text) {
    good ? counts.passed++ : counts.failed++;
    if (!good) printf("FAILED %s, %s: %s\n", name, *kernel == '\0' ? "chosen" : kernel, text.c_str());
    if (good && getenv("VERBOSE") != nullptr) printf("ok %s, %s: %s\n", name, kernel, text.c_str());
    fflush(stdout);
  }

  CudaHost& host_;
  const char* only_;
  Buffer<float> worst_;
  uint64_t seed_ = 0;
};

void small(Suite& suite) {
  suite.attention({.name = "small", .heads = 4, .kv_heads = 2, .lens = {70, 3}, .past = {10, 130}});
  suite.attention({.name = "small 64", .dtype = fp16, .head_dim = 64, .heads = 2, .kv_heads = 1, .lens = {130}, .past = {0}});
  suite.attention({.name = "small decode", .heads = 8, .kv_heads = 2, .lens = {1, 1}, .past = {300, 5}, .ragged = true});
  suite.attention({.name = "small window", .heads = 2, .kv_heads = 2, .lens = {90}, .past = {60}, .window = 40, .gaps = true});
  suite.attention({.name = "small list", .heads = 2, .kv_heads = 1, .lens = {200}, .past = {150}, .listed = 0.6});
  suite.attention({.name = "small masks", .head_dim = 64, .heads = 4, .kv_heads = 2, .lens = {140, 1}, .past = {100, 90},
                   .window = 120, .ranges = {20, 210, 30, 60}, .gaps = true, .ragged = true, .rows_per_page = 3});
  suite.attention({.name = "small, not causal", .heads = 7, .kv_heads = 1, .lens = {70, 0, 2}, .past = {90, 5, 3}, .causal = false,
                   .ranges = {0, 100, 0, 0, 2, 4}});
  suite.attention({.name = "small, few rows", .head_dim = 64, .heads = 2, .kv_heads = 2, .lens = {180}, .past = {-100}});
  suite.attention({.name = "small list, not causal", .head_dim = 64, .heads = 2, .kv_heads = 2, .lens = {140, 60}, .past = {130, 70},
                   .causal = false, .ragged = true, .listed = 0.5});
  suite.signals("small signals", bf16, 128, 4, 2, 200, 20, true);
  suite.signals("small signals", bf16, 128, 7, 1, 300, 1, false);
  suite.signals("small signals", bf16, 64, 4, 2, 257, 100, false);
  suite.signals("small signals", fp16, 64, 2, 2, 130, 130, false);
  suite.signals("small signals", fp32, 80, 2, 1, 50, 9, false);
}

void all(Suite& suite) {
  // Lengths around the tile sizes, every type and dimension, no past.
  for (const accel_dtype dtype : {bf16, fp16, fp32}) {
    for (const int d : {64, 128}) {
      for (const int len : {1, 2, 63, 64, 65, 127, 128, 129, 300}) {
        suite.attention({.name = "length", .dtype = dtype, .head_dim = d, .lens = {len}, .past = {0}});
        suite.attention({.name = "length, not causal", .dtype = dtype, .head_dim = d, .lens = {len}, .past = {0}, .causal = false});
      }
    }
  }
  for (const int d : {8, 80, 100, 256}) {
    for (const accel_dtype dtype : {bf16, fp32}) {
      suite.attention({.name = "other head dimensions", .dtype = dtype, .head_dim = d, .lens = {100, 1}, .past = {33, 500}});
    }
  }
  for (const int d : {64, 128}) {
    suite.attention({.name = "long", .head_dim = d, .lens = {4097}, .past = {0}});
    suite.attention({.name = "long fp16", .dtype = fp16, .head_dim = d, .heads = 4, .lens = {1500}, .past = {2597}});
    suite.attention({.name = "later turn", .head_dim = d, .lens = {129, 500, 1}, .past = {1000, 77, 4000}});
    suite.attention({.name = "later turn, not causal", .head_dim = d, .lens = {129, 500, 1}, .past = {1000, 77, 4000}, .causal = false});
    suite.attention({.name = "empty sequences", .head_dim = d, .lens = {0, 65, 0, 200, 0}, .past = {10, 0, 0, 3, 0}});
    suite.attention({.name = "fewer rows than queries", .head_dim = d, .lens = {300, 200}, .past = {-100, -200}});
    suite.attention({.name = "group 1", .head_dim = d, .heads = 3, .kv_heads = 3, .lens = {200, 31}, .past = {64, 1}});
    suite.attention({.name = "group 7", .head_dim = d, .heads = 14, .kv_heads = 2, .lens = {150, 2}, .past = {100, 700}});
    suite.attention({.name = "ragged", .head_dim = d, .heads = 8, .kv_heads = 4, .lens = {300, 1}, .past = {200, 900}, .ragged = true});
    suite.attention({.name = "gaps", .head_dim = d, .lens = {260, 1}, .past = {500, 300}, .gaps = true});
    suite.attention({.name = "window", .head_dim = d, .lens = {400, 1}, .past = {300, 1000}, .window = 130});
    suite.attention({.name = "window 1", .head_dim = d, .lens = {100}, .past = {50}, .window = 1});
    suite.attention({.name = "window, not causal", .head_dim = d, .lens = {200, 1}, .past = {50, 90}, .causal = false, .window = 70});
    suite.attention({.name = "ranges", .head_dim = d, .lens = {200, 200, 1, 1}, .past = {100, 0, 800, 20},
                     .ranges = {20, 250, 64, 128, 100, 101, 5, 5}});
    suite.attention({.name = "all masks", .head_dim = d, .lens = {300, 1}, .past = {400, 600}, .window = 200,
                     .ranges = {100, 640, 450, 900}, .gaps = true, .ragged = true});
    suite.attention({.name = "stale host rows", .head_dim = d, .lens = {200, 1}, .past = {800, 700}, .stale = 150});
    suite.attention({.name = "sharp", .head_dim = d, .lens = {500}, .past = {500}, .scale = 6});
    for (const int per_page : {1, 3, 8, 64, 256}) {
      suite.attention({.name = "page sizes", .head_dim = d, .lens = {200, 1}, .past = {123, 777}, .rows_per_page = per_page});
    }
    for (const int rows : {1, 15, 63, 64, 65, 255, 256, 257, 1025, 8193, 40000}) {
      for (const int m : {1, 3}) {
        suite.attention({.name = "decode", .head_dim = d, .lens = {m, m, 1}, .past = {rows - m, 200, 31}});
      }
    }
    suite.attention({.name = "decode window", .head_dim = d, .lens = {1, 1}, .past = {5000, 100}, .window = 512, .ragged = true});
    suite.attention({.name = "list of all", .head_dim = d, .lens = {700, 129}, .past = {300, 0}, .listed = 1});
    suite.attention({.name = "list", .head_dim = d, .lens = {1000, 130, 5}, .past = {2000, 0, 400}, .listed = 0.3});
    suite.attention({.name = "list, not causal", .head_dim = d, .lens = {300}, .past = {600}, .causal = false, .listed = 0.5});
    suite.attention({.name = "list, ragged", .head_dim = d, .lens = {500}, .past = {600}, .ragged = true, .listed = 0.4});
  }
  suite.attention({.name = "list fp32", .dtype = fp32, .head_dim = 32, .lens = {300}, .past = {300}, .listed = 0.4});
  // A seeded mixture of everything.
  std::mt19937 random(5);
  const auto pick = [&](int n) { return static_cast<int>(random() % n); };
  for (int i = 0; i < 60; i++) {
    Case c{.name = "random"};
    c.dtype = pick(2) == 0 ? bf16 : fp16;
    c.head_dim = pick(2) == 0 ? 64 : 128;
    c.kv_heads = 1 + pick(3);
    c.heads = c.kv_heads * (1 + pick(8));
    for (int b = pick(4); b >= 0; b--) {
      c.lens.push_back(i % 3 == 0 ? 1 + pick(2) : pick(700));
      c.past.push_back(pick(1500));
    }
    c.causal = pick(4) != 0;
    c.window = pick(3) == 0 ? 1 + pick(600) : 0;
    c.gaps = pick(3) == 0;
    c.ragged = pick(3) == 0;
    if (pick(4) == 0) {
      for (size_t b = 0; b < c.lens.size(); b++) {
        c.ranges.push_back(pick(500));
        c.ranges.push_back(c.ranges.back() + pick(1200));
      }
    }
    suite.attention(c);
  }

  for (const int n : {1, 127, 128, 129, 1000, 4097}) {
    for (const int queries : {1, 2, 16, 17, 64, 65, 200}) {
      if (queries > n) continue;
      suite.signals("signals", bf16, 128, 8, 2, n, queries, n == 1000);
      if (queries % 2 == 1) suite.signals("signals", fp16, 64, 7, 1, n, queries, n == 1000);
    }
  }
  suite.signals("signals of a prefill", bf16, 128, 4, 2, 1500, 1500, false);
  suite.signals("signals of a prefill", fp16, 64, 4, 4, 1000, 1000, true);
  suite.signals("signals without tensor cores", fp32, 64, 4, 2, 300, 40, true);
  suite.signals("signals without tensor cores", fp32, 256, 2, 1, 100, 100, false);
  suite.signals("signals without tensor cores", bf16, 80, 4, 2, 500, 1, false);
}

}  // namespace
}  // namespace accel::test

int main(int argc, char** argv) {
  using namespace accel::test;
  const char *only = nullptr, *bench = nullptr;
  bool tiny = false;
  for (int i = 1; i < argc; i++) {
    const bool value = i + 1 < argc && argv[i + 1][0] != '-';
    if (strcmp(argv[i], "--small") == 0) tiny = true;
    if (strcmp(argv[i], "--only") == 0 && value) only = argv[++i];
    if (strcmp(argv[i], "--bench") == 0) bench = value ? argv[++i] : "all";
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    printf("no CUDA device: %s\n", cudaGetErrorString(cudaGetLastError()));
    return 77;
  }
  CudaHost host;
  if (bench != nullptr) {
    const std::string what = bench;
    host.poison = false;
    if (what == "all" || what == "prefill") bench_prefill(host);
    if (what == "all" || what == "decode") bench_decode(host);
    if (what == "all" || what == "signals") bench_signals(host);
    return 0;
  }
  Suite suite(host, only);
  tiny ? small(suite) : all(suite);
  printf("%d passed, %d failed\n", suite.counts.passed, suite.counts.failed);
  return suite.counts.failed == 0 && suite.counts.passed > 0 ? 0 : 1;
}
