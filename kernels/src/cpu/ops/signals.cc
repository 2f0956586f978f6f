// observe_scores, column_sums: how much attention each cached row received. Never holds an [Hq, T, n] matrix.
//
// column_sums     c[h, j] = sum over the last T queries i of exp(logit[h, i, j] - lse[h, i]), causal bottom-right: H2O's
//                 column sums (Zhang et al. 2023, arXiv:2306.14048); with T = 1 the decode probabilities. May add to
//                 what is there, so that chunks of a prompt sum up, and may do some of the columns only.
// observe_scores  the same over the last w queries, whose lse it computes first (over all n rows, causal inside the last w
//                 columns): SnapKV's observation window (Li et al. 2024, arXiv:2404.14469).
// window: as in `attention`, whose lse it must be.
// reduce over the g query heads of a kv head: 0 none, 1 mean, 2 max, 3 sum (of the sums over queries).
#include <atomic>

#include "cpu/attention/run.h"
#include "cpu/attention/window.h"
#include "cpu/builtin.h"

namespace accel::cpu {
namespace {

// `wide`: out may have more columns than there are rows.
void check_scores(Checker& check, const accel_call* call, int q, int kv_index, int64_t reduce, bool wide) {
  check.kv(kv_index, "kv", 1).same_rows(kv_index, "kv");
  if (!check.ok()) return;
  const accel_kv& kv = *call->args[kv_index].kv;
  const int n = kv.head[0].rows;
  check.kv_dtype(q, "q", kv_index, "kv").shape(q, "q", "[T,Hq,d]", {-1, -1, kv.head_dim});
  const int64_t heads = check.dim(q, 1);
  check.require(heads > 0 && heads % kv.heads == 0, "ERR_ACCEL_SHAPE",
                "q has %lld heads, which is not a multiple of kv's %d", (long long)heads, kv.heads);
  check.require(check.dim(q, 0) <= n, "ERR_ACCEL_SHAPE", "q has %lld queries but kv only %d rows",
                (long long)check.dim(q, 0), n);
  check.require(reduce >= 0 && reduce <= 3, "ERR_ACCEL_ARGUMENT",
                "reduce must be 0 (none), 1 (mean), 2 (max) or 3 (sum), got %lld", (long long)reduce);
  check.dtype(0, "out", {Type::f32});
  check.shape(0, "out", wide ? "[Hs,at least n]" : "[Hs,n]", {reduce == 0 ? heads : kv.heads, wide ? -1 : n});
  check.require(check.dim(0, 1) >= n, "ERR_ACCEL_SHAPE", "out has %lld columns but kv %d rows",
                (long long)check.dim(0, 1), n);
}

// What to do with the sums: which columns [begin, end) to write, and those below add_below are added to `out`.
struct Columns {
  int64_t begin, end, add_below;
  const accel_tensor* mask;
  int64_t window;
};

int sum_columns(const accel_call* call, const accel_tensor* q, const float* lse, const accel_kv& kv, double scale,
                Reduce reduce, const Columns& columns) {
  const Type t = type_of(q->dtype);
  const int d = kv.head_dim, group = (int)(q->shape[1] / kv.heads);
  const int64_t n = kv.head[0].rows, queries = q->shape[0], stride = dim(call, 0, 1);
  const int64_t first = columns.begin / column_tile, tiles = (columns.end + column_tile - 1) / column_tile - first;
  if (columns.begin >= columns.end) return ACCEL_OK;
  float* out = data<float>(tensor(call, 0));
  const AttentionKernels& kernels = attention_kernels();
  const size_t floats = (kernels.column_floats(d, group) + 31) / 16 * 16;
  float* workspace = static_cast<float*>(call->scratch(call, floats * (size_t)call->threads * sizeof(float)));
  if (workspace == nullptr) {
    return call->fail(call, "ERR_ACCEL_OUT_OF_MEMORY", "no memory for the column sums of %lld rows", (long long)n);
  }
  const int32_t lens = (int32_t)queries;
  const WindowBegins window(call, kv, &lens, columns.window);
  // Early tiles are seen by the most queries, so ascending order is heaviest first.
  std::atomic<int64_t> next{0};
  const int64_t items = tiles * kv.heads;
  parallel(call, items < call->threads ? items : call->threads, 1, [&](int64_t, int64_t, int worker) {
    for (int64_t i = next++; i < items; i = next++) {
      const int h = (int)(i % kv.heads);
      ColumnBlock b = {};
      b.type = t;
      b.head_dim = d;
      b.group = group;
      b.q = data<uint8_t>(q) + (int64_t)h * group * d * type_bytes(t);
      b.q_stride = q->shape[1] * d;
      b.scale = (float)(scale * 1.44269504088896340736);
      b.lse = lse + (int64_t)h * group;
      b.lse_stride = q->shape[1];
      b.keys = kv_keys(kv, 0, h);
      b.last = n - queries;
      b.k0 = (first + i / kv.heads) * column_tile;
      b.k1 = b.k0 + column_tile < n ? b.k0 + column_tile : n;
      b.queries = window.before(h, 0, queries, b.k1);
      b.window_begin = window.of(h, 0);
      b.reduce = reduce;
      if (columns.mask != nullptr) {
        b.listed_heads = q->shape[1];
        b.listed_stride = columns.mask->shape[2];
        b.listed = data<uint32_t>(columns.mask) + (int64_t)h * group * b.listed_stride;
      }
      b.begin = columns.begin;
      b.end = columns.end;
      b.add_below = columns.add_below;
      b.out = out + (reduce == Reduce::none ? (int64_t)h * group : h) * stride;
      b.out_stride = stride;
      kernels.columns(b, workspace + worker * floats);
    }
  });
  return ACCEL_OK;
}

// ---- observe_scores  out:tensor f32[Hs,n], q:tensor[w,Hq,d], kv:kv, scale:float, reduce:int, window:int

int observe_scores_check(const accel_call* call) {
  Checker check(call, "observe_scores");
  check_scores(check, call, 1, 2, call->args[4].i, false);
  return check.window(5).result();
}

int observe_scores(const accel_call* call) {
  const accel_tensor* q = tensor(call, 1);
  const accel_kv& kv = *call->args[2].kv;
  const int32_t queries = (int32_t)q->shape[0];
  float* lse = static_cast<float*>(call->scratch(call, (size_t)(queries * q->shape[1] + 1) * sizeof(float)));
  if (lse == nullptr) return call->fail(call, "ERR_ACCEL_OUT_OF_MEMORY", "observe_scores: no memory for lse");
  AttentionRequest r = {};
  r.op = "observe_scores";
  r.kv = &kv;
  r.type = type(call, 1);
  r.query_heads = (int)q->shape[1];
  r.q = data(q);
  r.lens = &queries;
  r.scale = call->args[3].f;
  r.causal = true;
  r.window = call->args[5].i;
  r.lse = lse;
  if (run_attention(call, r) != ACCEL_OK) return ACCEL_FAILED;
  const Columns all = {0, kv.head[0].rows, 0, nullptr, r.window};
  if (sum_columns(call, q, lse, kv, r.scale, (Reduce)call->args[4].i, all) != ACCEL_OK) return ACCEL_FAILED;
  call->ran(call, "observe_scores");
  return ACCEL_OK;
}

// ---- column_sums  out:tensor f32[Hs,m], q:tensor[T,Hq,d], lse:tensor f32[T,Hq], kv:kv, scale:float, reduce:int,
//                   accumulate:int, ranges:ints, mask:tensor? i32[R,Hq,W], window:int
// mask: that of block_sparse_attention, whose lse this is; pairs of queries and keys in other blocks do not count.
// Writes columns [0, n), or those of them in the range; m >= n. accumulate: the last T columns are new rows and are
// set, those before are added to. Not with max: a maximum of sums is no sum of maxima.

int column_sums_check(const accel_call* call) {
  Checker check(call, "column_sums");
  check_scores(check, call, 1, 3, call->args[5].i, true);
  const int64_t accumulate = call->args[6].i;
  check.require(accumulate == 0 || accumulate == 1, "ERR_ACCEL_ARGUMENT", "accumulate must be 0 or 1, got %lld",
                (long long)accumulate);
  check.require(accumulate == 0 || call->args[5].i != (int)Reduce::max, "ERR_ACCEL_ARGUMENT",
                "sums reduced by maximum cannot be accumulated; sum without reduce and let tally_add reduce");
  check.ranges(7, 1).window(9);
  if (check.has(8) && check.ok()) {
    const int64_t n = call->args[3].kv->head[0].rows, queries = check.dim(1, 0);
    check.require((n - queries) % list_tile == 0, "ERR_ACCEL_ARGUMENT",
                  "%lld rows before the queries are not a multiple of %d: there is no grid of blocks",
                  (long long)(n - queries), list_tile);
    check.dtype(8, "mask", {Type::i32});
    check.shape(8, "mask", "[R,Hq,W]", {(queries + list_tile - 1) / list_tile, check.dim(1, 1), -1});
    check.require(check.dim(8, 2) * 32 * list_tile >= n, "ERR_ACCEL_SHAPE", "mask has %lld words, too few for %lld rows",
                  (long long)check.dim(8, 2), (long long)n);
  }
  return check.dtype(2, "lse", {Type::f32}).shape(2, "lse", "[T,Hq]", {check.dim(1, 0), check.dim(1, 1)}).result();
}

int column_sums(const accel_call* call) {
  const accel_kv& kv = *call->args[3].kv;
  const accel_ints range = call->args[7].ints;
  const int64_t n = kv.head[0].rows;
  Columns columns = {0, n, call->args[6].i != 0 ? n - dim(call, 1, 0) : 0, tensor(call, 8), call->args[9].i};
  if (range.size > 0) {
    columns.begin = range.data[0];
    columns.end = range.data[1] < n ? range.data[1] : n;
  }
  const int status = sum_columns(call, tensor(call, 1), data<float>(tensor(call, 2)), kv, call->args[4].f,
                                 (Reduce)call->args[5].i, columns);
  if (status == ACCEL_OK) call->ran(call, "column_sums");
  return status;
}

const accel_op ops[] = {
    {"observe_scores", "out:tensor, q:tensor, kv:kv, scale:float, reduce:int, window:int", observe_scores_check,
     observe_scores, nullptr},
    {"column_sums", "out:tensor, q:tensor, lse:tensor, kv:kv, scale:float, reduce:int, accumulate:int, ranges:ints, "
     "mask:tensor?, window:int",
     column_sums_check, column_sums, nullptr},
};

}  // namespace

OpTable signal_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
