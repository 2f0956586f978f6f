// tally_add, tally_step, tally_read, tally_write: float32 numbers in the rows' records (ADR 0013).
//
// What they usually hold is the attention that a row received so far, by which H2O (Zhang et al. 2023, arXiv:2306.14048)
// evicts. tally_add takes it from the column sums of a prompt, tally_step from the one query of a decode step.
// reduce of the g query heads of a kv head: 1 mean, 2 max, 3 sum, 4 the first of them.
#include <math.h>

#include <algorithm>
#include <atomic>

#include "cpu/attention/run.h"
#include "cpu/attention/window.h"
#include "cpu/builtin.h"

namespace accel::cpu {
namespace {

enum class HeadReduce : int { mean = 1, max, sum, first };

void check_reduce(Checker& check, int64_t reduce) {
  check.require(reduce >= 1 && reduce <= 4, "ERR_ACCEL_ARGUMENT",
                "reduce must be 1 (mean), 2 (max), 3 (sum) or 4 (first), got %lld", (long long)reduce);
}

void check_group(Checker& check, const char* name, int64_t heads, int kv_heads) {
  check.require(heads > 0 && heads % kv_heads == 0, "ERR_ACCEL_SHAPE",
                "%s has %lld heads, which is not a multiple of kv's %d", name, (long long)heads, kv_heads);
}

// ---- tally_add  kv:kv, sums:tensor f32[Hs,m], tally:int, reduce:int
// tally[h, j] += the sums of head h, or of the query heads of its group; m is at least every head's row count.

int tally_add_check(const accel_call* call) {
  Checker check(call, "tally_add");
  check.kv(0, "kv", 1);
  if (!check.ok()) return check.result();
  const accel_kv& kv = *call->args[0].kv;
  check.tally(2, 0, "kv").dtype(1, "sums", {Type::f32}).shape(1, "sums", "[Hs,at least n]", {-1, -1});
  check_reduce(check, call->args[3].i);
  check_group(check, "sums", check.dim(1, 0), kv.heads);
  for (int h = 0; check.ok() && h < kv.heads; ++h) {
    check.require(check.dim(1, 1) >= kv.head[h].rows, "ERR_ACCEL_SHAPE",
                  "sums has %lld columns but head %d of kv %d rows", (long long)check.dim(1, 1), h, kv.head[h].rows);
  }
  return check.result();
}

int tally_add(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  const int64_t m = dim(call, 1, 1), group = dim(call, 1, 0) / kv.heads;
  const float* sums = data<float>(tensor(call, 1));
  const int which = (int)call->args[2].i;
  const auto reduce = (HeadReduce)call->args[3].i;
  const int64_t heads = reduce == HeadReduce::first ? 1 : group;
  for (int h = 0; h < kv.heads; ++h) {
    const KvRows records = kv_records(kv, 0, h);
    const float* of = sums + h * group * m;
    parallel(call, records.rows, grain_for(4 * heads), [&](int64_t begin, int64_t end, int) {
      each_tally(records, which, begin, end, [&](int64_t j, float& tally) {
        float x = of[j];
        for (int64_t i = 1; i < heads; ++i) {
          const float y = of[i * m + j];
          x = reduce == HeadReduce::max ? (x > y ? x : y) : x + y;
        }
        tally += reduce == HeadReduce::mean ? x / (float)group : x;
      });
    });
  }
  call->ran(call, "tally_add");
  return ACCEL_OK;
}

// ---- tally_step  kv:kv, q:tensor[B,Hq,d], lse:tensor f32[B,Hq], scale:float, tally:int, reduce:int, accumulate:int,
//                  ranges:ints (empty, or [begin, end) per sequence), window:int
// p[h, j] = exp(scale * q . k_j - lse), of the group as one number; tally[h, j] becomes p or has p added to it.
// p is 0 outside the window of the sequence's last row, whose query it is.

int tally_step_check(const accel_call* call) {
  Checker check(call, "tally_step");
  check.kv(0, "kv", -1);
  if (!check.ok()) return check.result();
  const accel_kv& kv = *call->args[0].kv;
  check.tally(4, 0, "kv").kv_dtype(1, "q", 0, "kv").shape(1, "q", "[B,Hq,d]", {kv.sequences, -1, kv.head_dim});
  check_group(check, "q", check.dim(1, 1), kv.heads);
  check.dtype(2, "lse", {Type::f32}).shape(2, "lse", "[B,Hq]", {kv.sequences, check.dim(1, 1)});
  check_reduce(check, call->args[5].i);
  check.require(call->args[6].i == 0 || call->args[6].i == 1, "ERR_ACCEL_ARGUMENT",
                "accumulate must be 0 or 1, got %lld", (long long)call->args[6].i);
  return check.ranges(7, kv.sequences).window(8).result();
}

constexpr int64_t step_rows = 1024;  // rows of one item

int tally_step(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  const Type t = type(call, 1);
  const int d = kv.head_dim, which = (int)call->args[4].i;
  const int64_t query_heads = dim(call, 1, 1), group = query_heads / kv.heads;
  const auto reduce = (HeadReduce)call->args[5].i;
  const bool accumulate = call->args[6].i != 0;
  const accel_ints ranges = call->args[7].ints;
  const int64_t window = call->args[8].i;
  const AttentionKernels& kernels = attention_kernels();
  const size_t floats = (kernels.step_floats(d, (int)group) + 15) / 16 * 16 + step_rows;
  float* workspace = static_cast<float*>(call->scratch(call, floats * (size_t)call->threads * sizeof(float)));
  if (workspace == nullptr) return call->fail(call, "ERR_ACCEL_OUT_OF_MEMORY", "tally_step: no memory for one tile");

  int64_t most = 0;
  for (int i = 0; i < kv.sequences * kv.heads; ++i) most = std::max<int64_t>(most, kv.head[i].rows);
  const int64_t heads = (int64_t)kv.sequences * kv.heads, items = heads * ((most + step_rows - 1) / step_rows);
  std::atomic<int64_t> next{0};
  parallel(call, std::min<int64_t>(items, call->threads), 1, [&](int64_t, int64_t, int worker) {
    float* p = workspace + worker * floats;
    for (int64_t i = next++; i < items; i = next++) {
      const int b = (int)(i % heads / kv.heads), h = (int)(i % kv.heads);
      StepBlock block = {};
      block.keys = kv_keys(kv, b, h);
      block.k0 = i / heads * step_rows;
      block.k1 = std::min<int64_t>(block.k0 + step_rows, block.keys.rows);
      if (ranges.size > 0) {
        block.k0 = std::max<int64_t>(block.k0, ranges.data[2 * b]);
        block.k1 = std::min<int64_t>(block.k1, ranges.data[2 * b + 1]);
      }
      const int64_t seen = host::KvHead(kv, b, h).window_begin(block.keys.rows - 1, window);
      if (seen > block.k0) {
        const int64_t from = std::min(seen, block.k1);
        if (!accumulate) each_tally(kv_records(kv, b, h), which, block.k0, from, [](int64_t, float& tally) { tally = 0; });
        block.k0 = from;
      }
      if (block.k0 >= block.k1) continue;
      block.type = t;
      block.head_dim = d;
      block.group = reduce == HeadReduce::first ? 1 : (int)group;
      block.q = data<uint8_t>(tensor(call, 1)) + (b * query_heads + h * group) * d * type_bytes(t);
      block.scale = (float)(call->args[3].f * 1.44269504088896340736);
      block.lse = data<float>(tensor(call, 2)) + b * query_heads + h * group;
      block.reduce = reduce == HeadReduce::first ? Reduce::sum : (Reduce)reduce;
      block.out = p;
      kernels.step(block, p + step_rows);
      each_tally(kv_records(kv, b, h), which, block.k0, block.k1,
                 [&](int64_t j, float& tally) { tally = accumulate ? tally + p[j - block.k0] : p[j - block.k0]; });
    }
  });
  call->ran(call, "tally_step");
  return ACCEL_OK;
}

// ---- tally_read  out:tensor f32[Hk,n], kv:kv, tally:int, first:int, last:int
// The first `first` and the last `last` rows of a head become +inf.

int tally_read_check(const accel_call* call) {
  Checker check(call, "tally_read");
  check.kv(1, "kv", 1).same_rows(1, "kv");
  if (!check.ok()) return check.result();
  const accel_kv& kv = *call->args[1].kv;
  check.tally(2, 1, "kv").dtype(0, "out", {Type::f32}).shape(0, "out", "[Hk,n]", {kv.heads, kv.head[0].rows});
  const int64_t first = call->args[3].i, last = call->args[4].i;
  return check
      .require(first >= 0 && last >= 0, "ERR_ACCEL_ARGUMENT", "first is %lld and last %lld", (long long)first,
               (long long)last)
      .result();
}

int tally_read(const accel_call* call) {
  const accel_kv& kv = *call->args[1].kv;
  const int64_t n = kv.head[0].rows, first = call->args[3].i, last = call->args[4].i;
  float* out = data<float>(tensor(call, 0));
  const int which = (int)call->args[2].i;
  for (int h = 0; h < kv.heads; ++h) {
    parallel(call, n, grain_for(2), [&](int64_t begin, int64_t end, int) {
      each_tally(kv_records(kv, 0, h), which, begin, end, [&](int64_t j, const float& tally) {
        out[h * n + j] = j < first || j >= n - last ? INFINITY : tally;
      });
    });
  }
  call->ran(call, "tally_read");
  return ACCEL_OK;
}

// ---- tally_write  kv:kv, values:tensor f32[Hk,n], tally:int

int tally_write_check(const accel_call* call) {
  Checker check(call, "tally_write");
  check.kv(0, "kv", 1).same_rows(0, "kv");
  if (!check.ok()) return check.result();
  const accel_kv& kv = *call->args[0].kv;
  check.tally(2, 0, "kv").dtype(1, "values", {Type::f32});
  return check.shape(1, "values", "[Hk,n]", {kv.heads, kv.head[0].rows}).result();
}

int tally_write(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  const int64_t n = kv.head[0].rows;
  const float* values = data<float>(tensor(call, 1));
  const int which = (int)call->args[2].i;
  for (int h = 0; h < kv.heads; ++h) {
    parallel(call, n, grain_for(2), [&](int64_t begin, int64_t end, int) {
      each_tally(kv_records(kv, 0, h), which, begin, end, [&](int64_t j, float& tally) { tally = values[h * n + j]; });
    });
  }
  call->ran(call, "tally_write");
  return ACCEL_OK;
}

const accel_op ops[] = {
    {"tally_add", "kv:kv, sums:tensor, tally:int, reduce:int", tally_add_check, tally_add, nullptr},
    {"tally_step", "kv:kv, q:tensor, lse:tensor, scale:float, tally:int, reduce:int, accumulate:int, ranges:ints, "
     "window:int",
     tally_step_check, tally_step, nullptr},
    {"tally_read", "out:tensor, kv:kv, tally:int, first:int, last:int", tally_read_check, tally_read, nullptr},
    {"tally_write", "kv:kv, values:tensor, tally:int", tally_write_check, tally_write, nullptr},
};

}  // namespace

OpTable tally_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
