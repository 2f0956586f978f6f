#include "cpu/attention/run.h"

#include <algorithm>
#include <atomic>

#include "cpu/attention/window.h"

namespace accel::cpu {

const AttentionKernels& attention_kernels() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::avx512bf16:
    case Isa::avx512: return attention_avx512;
    case Isa::avx2: return attention_avx2;
    default: break;
  }
#endif
  return attention_base;
}

namespace {

// Sequences with few rows are cut along the keys, at multiples of these. The cuts depend only on the shapes, never on the
// threads, so results are the same on any machine with the same instruction set.
constexpr int64_t stream_split = 1024, tiled_split = 4096;
constexpr int split_rows = 512;            // packed rows up to which a sequence is cut along the keys
constexpr int block_rows = 192;            // packed rows per block when there is enough work for all threads

struct Item {
  int32_t sequence, head, first, queries;  // queries counted inside the sequence
  int64_t k0, k1, cost;
  float* partial;                          // null: the item finishes its rows itself
};

struct Job {                               // a block whose parts are joined
  int32_t sequence, head, first, queries, splits;
  float* partial;
};

struct Plan {
  Item* items = nullptr;                   // null while counting
  Job* jobs = nullptr;
  float* partial = nullptr;
  int64_t item_count = 0, job_count = 0, partial_floats = 0;
  int tiled_rows = 0;                      // largest tiled block
  bool streams = false;
};

class Runner {
 public:
  Runner(const accel_call* call, const AttentionRequest& r)
      : call_(call), r_(r), kv_(*r.kv), group_(r.query_heads / r.kv->heads), kernels_(attention_kernels()),
        window_(call, *r.kv, r.lens, r.window) {}

  int run() {
    choose_block();
    Plan plan;
    lay_out(plan);
    if (plan.item_count == 0) return ACCEL_OK;
    Plan full;
    full.items = scratch<Item>(plan.item_count);
    full.jobs = scratch<Job>(plan.job_count);
    full.partial = scratch<float>(plan.partial_floats);
    size_t floats = plan.streams ? kernels_.streamed_floats(kv_.head_dim) : 0;
    if (plan.tiled_rows > 0) floats = std::max(floats, kernels_.tiled_floats(kv_.head_dim, plan.tiled_rows));
    floats = (floats + 31) / 16 * 16;
    float* workspace = scratch<float>((int64_t)floats * call_->threads);
    if (full.items == nullptr || full.jobs == nullptr || full.partial == nullptr || workspace == nullptr) {
      return call_->fail(call_, "ERR_ACCEL_OUT_OF_MEMORY", "%s: no memory for %lld work items", r_.op,
                         (long long)plan.item_count);
    }
    lay_out(full);
    // Heaviest first, handed out one by one: the last items to finish are small.
    std::sort(full.items, full.items + full.item_count, [](const Item& a, const Item& b) { return a.cost > b.cost; });

    std::atomic<int64_t> next{0};
    parallel(call_, std::min<int64_t>(call_->threads, full.item_count), 1, [&](int64_t, int64_t, int worker) {
      for (int64_t i = next++; i < full.item_count; i = next++) run_item(full.items[i], workspace + worker * floats);
    });
    parallel(call_, full.job_count, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) run_job(full.jobs[i]);
    });
    if (full.streams) call_->ran(call_, r_.out == nullptr ? "attention_lse_streamed" : "attention_streamed");
    if (full.tiled_rows > 0) call_->ran(call_, r_.out == nullptr ? "attention_lse_tiled" : "attention_tiled");
    return ACCEL_OK;
  }

 private:
  template <class T>
  T* scratch(int64_t n) {
    return static_cast<T*>(call_->scratch(call_, (size_t)std::max<int64_t>(n, 1) * sizeof(T)));
  }

  // Smaller blocks when there are few, so that no thread is left without work. Does not change any result.
  void choose_block() {
    block_ = block_rows;
    while (block_ > 48) {
      int64_t items = 0;
      for (int b = 0; b < kv_.sequences; ++b) items += ((int64_t)r_.lens[b] * group_ + block_ - 1) / block_ * kv_.heads;
      if (items >= 4 * call_->threads) break;
      block_ /= 2;
    }
  }

  AttentionBlock block(int b, int h, int first, int queries, int64_t k0, int64_t k1) const {
    AttentionBlock x = {};
    const int64_t n = kv_.head[b * kv_.heads + h].rows;
    x.type = r_.type;
    x.head_dim = kv_.head_dim;
    x.group = group_;
    x.queries = queries;
    const int64_t token = start(b) + first, column = (int64_t)h * group_;
    x.q_stride = x.out_stride = (int64_t)r_.query_heads * kv_.head_dim;
    const int64_t element = token * x.q_stride + column * kv_.head_dim;
    x.q = static_cast<const uint8_t*>(r_.q) + element * type_bytes(r_.type);
    x.scale = (float)(r_.scale * 1.44269504088896340736);
    x.keys = kv_keys(kv_, b, h);
    x.values = kv_values(kv_, b, h);
    x.causal = r_.causal;
    x.last = n - r_.lens[b] + first;
    x.window_begin = window_.of(h, token);
    x.begin = r_.ranges == nullptr ? 0 : std::min<int64_t>(r_.ranges[2 * b], n);
    x.end = r_.ranges == nullptr ? n : std::min<int64_t>(r_.ranges[2 * b + 1], n);
    x.k0 = k0;
    x.k1 = k1;
    x.scores_only = r_.out == nullptr;
    if (r_.out != nullptr) x.out = static_cast<uint8_t*>(r_.out) + element * type_bytes(r_.type);
    x.lse_stride = r_.query_heads;
    if (r_.lse != nullptr) x.lse = r_.lse + token * r_.query_heads + column;
    return x;
  }

  int64_t start(int b) const {
    int64_t token = 0;
    for (int i = 0; i < b; ++i) token += r_.lens[i];
    return token;
  }

  // Counts items, jobs and partial results, and writes them if the plan has memory.
  void lay_out(Plan& plan) {
    for (int b = 0; b < kv_.sequences; ++b) {
      const int m = r_.lens[b];
      if (m == 0) continue;
      const int64_t rows = (int64_t)m * group_;
      const bool stream = rows <= stream_rows;
      const int step = stream ? m : std::max(1, block_ / group_);
      for (int h = 0; h < kv_.heads; ++h) {
        for (int first = 0; first < m; first += step) {
          add_block(plan, b, h, first, std::min(step, m - first), stream, rows <= split_rows);
        }
      }
    }
  }

  void add_block(Plan& plan, int b, int h, int first, int queries, bool stream, bool may_split) {
    const int rows = queries * group_;
    const int64_t n = kv_.head[b * kv_.heads + h].rows;
    const AttentionBlock whole = block(b, h, first, queries, 0, n);
    const RowSpan top = visible(whole, 0), bottom = visible(whole, queries - 1);
    const int64_t begin = std::min(top.lo, bottom.lo), end = std::max(top.hi, bottom.hi);
    const int64_t size = stream ? stream_split : tiled_split;
    const int64_t s0 = begin < end ? begin / size : 0, s1 = begin < end ? (end - 1) / size + 1 : 1;
    const bool parts = may_split && s1 - s0 > 1;
    const int splits = parts ? (int)(s1 - s0) : 1;
    const bool joined = stream || parts;
    float* partial = nullptr;
    if (joined) {
      const int64_t floats = rows * partial_stride(kv_.head_dim, r_.out == nullptr);
      if (plan.jobs != nullptr) {
        partial = plan.partial + plan.partial_floats;
        plan.jobs[plan.job_count] = {b, h, first, queries, splits, partial};
      }
      ++plan.job_count;
      plan.partial_floats += floats * splits;
    }
    for (int s = 0; s < splits; ++s) {
      if (plan.items != nullptr) {
        const int64_t k0 = parts ? (s0 + s) * size : 0, k1 = parts ? std::min(n, (s0 + s + 1) * size) : n;
        const int64_t seen = std::max<int64_t>(0, std::min(end, k1) - std::max(begin, k0));
        float* at = joined ? partial + s * rows * partial_stride(kv_.head_dim, r_.out == nullptr) : nullptr;
        plan.items[plan.item_count] = {b, h, first, queries, k0, k1, rows * (seen + 16), at};
      }
      ++plan.item_count;
    }
    if (stream) {
      plan.streams = true;
    } else {
      plan.tiled_rows = std::max(plan.tiled_rows, rows);
    }
  }

  void run_item(const Item& item, float* workspace) {
    AttentionBlock x = block(item.sequence, item.head, item.first, item.queries, item.k0, item.k1);
    x.partial = item.partial;
    if (r_.lens[item.sequence] * group_ <= stream_rows) {
      kernels_.streamed(x, workspace);
    } else {
      kernels_.tiled(x, workspace);
    }
  }

  void run_job(const Job& job) {
    const AttentionBlock x = block(job.sequence, job.head, job.first, job.queries, 0, 0);
    kernels_.join({x.type, x.head_dim, x.group, x.queries, job.splits, x.scores_only, job.partial, x.out, x.out_stride,
                   x.lse, x.lse_stride});
  }

  const accel_call* call_;
  const AttentionRequest& r_;
  const accel_kv& kv_;
  const int group_;
  const AttentionKernels& kernels_;
  const WindowBegins window_;
  int block_ = block_rows;
};

}  // namespace

int run_attention(const accel_call* call, const AttentionRequest& request) { return Runner(call, request).run(); }

}  // namespace accel::cpu
