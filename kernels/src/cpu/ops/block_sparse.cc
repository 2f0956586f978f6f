// block_sparse_attention: causal attention in which every query head sees some 128 x 128 blocks only, with log-sum-exp.
//
//   out     [T, Hq, d]       lse  f32 [T, Hq] or absent
//   counts  i32 [B, Hq] or absent: the blocks that were computed are added to it
//   mask    i32 [R, Hq, W]   bit j % 32 of word j / 32 of row block r: column j is visible
//
// The queries of each sequence are cut into blocks of 128, numbered through the batch (R in all); columns are blocks of 128
// rows of the sequence's cache. With n rows and m queries the prefix n - m is a multiple of 128, so that row block i has its
// diagonal in column (n - m) / 128 + i. The diagonal is computed whether its bit is set or not: no query is left without a
// key. Bits beyond it mean nothing, nor do those of blocks that lie before the window of all their queries.
// out = softmax over the rows of visible blocks up to the query's own row, and in its window as in `attention` (renormalised).
#include <algorithm>

#include "cpu/attention/run.h"
#include "cpu/builtin.h"
#include "cpu/ops/args.h"

namespace accel::cpu {
namespace {

enum { kOut, kLse, kCounts, kQ, kKv, kLens, kMask, kScale, kWindow };

int block_sparse_check(const accel_call* call) {
  Checker check(call, "block_sparse_attention");
  check.kv(kKv, "kv", -1);
  if (!check.ok()) return check.result();
  const accel_kv& kv = *call->args[kKv].kv;
  const accel_ints lens = call->args[kLens].ints;
  check.require(lens.size == kv.sequences, "ERR_ACCEL_SHAPE", "lens has %lld entries but kv has %d sequences",
                (long long)lens.size, kv.sequences);
  int64_t total = 0, blocks = 0, columns = 1;
  for (int64_t b = 0; check.ok() && b < lens.size; ++b) {
    const int32_t m = lens.data[b], n = kv.head[b * kv.heads].rows;
    check.require(m >= 0 && m <= n, "ERR_ACCEL_ARGUMENT", "lens[%lld] is %d, but the cache has %d rows", (long long)b, m, n);
    check.require(m == 0 || (n - m) % list_tile == 0, "ERR_ACCEL_ARGUMENT",
                  "sequence %lld has %d rows before its %d queries, which is not a multiple of %d: there is no grid of "
                  "blocks. Attend densely up to the next multiple first",
                  (long long)b, n - m, m, list_tile);
    for (int h = 1; h < kv.heads; ++h) {
      check.require(kv.head[b * kv.heads + h].rows == n, "ERR_ACCEL_ARGUMENT",
                    "kv head %d of sequence %lld has %d rows and head 0 has %d; blocks need equal rows", h, (long long)b,
                    kv.head[b * kv.heads + h].rows, n);
    }
    total += m;
    blocks += (m + list_tile - 1) / list_tile;
    columns = std::max<int64_t>(columns, (n + list_tile - 1) / list_tile);
  }
  check.kv_dtype(kQ, "q", kKv, "kv").same_dtype(kOut, "out", kQ, "q");
  check.shape(kQ, "q", "[T,Hq,d]", {total, -1, kv.head_dim}).same_shape(kOut, "out", kQ, "q");
  const int64_t heads = check.dim(kQ, 1);
  check.require(heads > 0 && heads % kv.heads == 0, "ERR_ACCEL_SHAPE",
                "q has %lld heads, which is not a multiple of kv's %d", (long long)heads, kv.heads);
  if (check.has(kLse)) check.dtype(kLse, "lse", {Type::f32}).shape(kLse, "lse", "[T,Hq]", {total, heads});
  if (check.has(kCounts)) {
    check.dtype(kCounts, "counts", {Type::i32}).shape(kCounts, "counts", "[B,Hq]", {lens.size, heads});
  }
  check.dtype(kMask, "mask", {Type::i32}).shape(kMask, "mask", "[R,Hq,W]", {blocks, heads, -1});
  check.require(check.dim(kMask, 2) * 32 >= columns, "ERR_ACCEL_SHAPE",
                "mask has %lld words for each row block, too few for %lld columns", (long long)check.dim(kMask, 2),
                (long long)columns);
  return check.window(kWindow).result();
}

int block_sparse(const accel_call* call) {
  AttentionRequest r = {};
  r.op = "block_sparse_attention";
  r.kv = call->args[kKv].kv;
  r.type = type(call, kQ);
  r.query_heads = (int)dim(call, kQ, 1);
  r.q = data(tensor(call, kQ));
  r.lens = call->args[kLens].ints.data;
  r.scale = call->args[kScale].f;
  r.causal = true;
  r.window = call->args[kWindow].i;
  r.out = data(tensor(call, kOut));
  r.lse = data<float>(tensor(call, kLse));
  return run_block_sparse(call, r,
                          {data<uint32_t>(tensor(call, kMask)), dim(call, kMask, 2), data<int32_t>(tensor(call, kCounts))});
}

const accel_op ops[] = {
    {"block_sparse_attention",
     "out:tensor, lse:tensor?, counts:tensor?, q:tensor, kv:kv, lens:ints, mask:tensor, scale:float, window:int",
     block_sparse_check, block_sparse, nullptr}};

}  // namespace

OpTable block_sparse_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
