// attention: packed (variable length) grouped-query attention over the paged cache, with log-sum-exp.
//
// Query head h of sequence b reads kv head floor(h * Hk / Hq). With n rows in that head and m = lens[b] queries, query i
// sees row j if  j <= n - m + i (causal: bottom-right),  position(j) > position(n - m + i) - window (window > 0; ADR 0017),
// and begin <= j < end (ranges).
// out = softmax(scale * q K^T) V over the visible rows; lse is the natural logarithm of the sum of exp of scaled logits.
// Nothing visible: out 0, lse -inf. fp32 arithmetic for every dtype. The kernels are described in cpu/attention.
#include "cpu/attention/run.h"
#include "cpu/builtin.h"
#include "cpu/ops/args.h"

namespace accel::cpu {
namespace {

// out:tensor[T,Hq,d], lse:tensor? f32[T,Hq], q:tensor[T,Hq,d], kv:kv, lens:ints[B], scale:float, causal:int, window:int,
// ranges:ints (empty, or [begin, end) per sequence)

int attention_check(const accel_call* call) {
  Checker check(call, "attention");
  check.kv(3, "kv", -1);
  if (!check.ok()) return check.result();
  const accel_kv& kv = *call->args[3].kv;
  const accel_ints lens = call->args[4].ints;
  check.require(lens.size == kv.sequences, "ERR_ACCEL_SHAPE", "lens has %lld entries but kv has %d sequences",
                (long long)lens.size, kv.sequences);
  int64_t total = 0;
  for (int64_t b = 0; check.ok() && b < lens.size; ++b) {
    check.require(lens.data[b] >= 0, "ERR_ACCEL_ARGUMENT", "lens[%lld] is %d", (long long)b, lens.data[b]);
    total += lens.data[b];
  }
  check.kv_dtype(2, "q", 3, "kv").same_dtype(0, "out", 2, "q");
  check.shape(2, "q", "[T,Hq,d]", {total, -1, kv.head_dim}).same_shape(0, "out", 2, "q");
  const int64_t heads = check.dim(2, 1);
  check.require(heads > 0 && heads % kv.heads == 0, "ERR_ACCEL_SHAPE",
                "q has %lld heads, which is not a multiple of kv's %d", (long long)heads, kv.heads);
  if (check.has(1)) check.dtype(1, "lse", {Type::f32}).shape(1, "lse", "[T,Hq]", {total, heads});
  check.require(call->args[6].i == 0 || call->args[6].i == 1, "ERR_ACCEL_ARGUMENT", "causal must be 0 or 1, got %lld",
                (long long)call->args[6].i);
  return check.window(7).ranges(8, lens.size).result();
}

int attention(const accel_call* call) {
  AttentionRequest r = {};
  r.op = "attention";
  r.kv = call->args[3].kv;
  r.type = type(call, 2);
  r.query_heads = (int)dim(call, 2, 1);
  r.q = data(tensor(call, 2));
  r.lens = call->args[4].ints.data;
  r.scale = call->args[5].f;
  r.causal = call->args[6].i != 0;
  r.window = call->args[7].i;
  r.ranges = call->args[8].ints.size == 0 ? nullptr : call->args[8].ints.data;
  r.out = data(tensor(call, 0));
  r.lse = data<float>(tensor(call, 1));
  return run_attention(call, r);
}

const accel_op ops[] = {
    {"attention",
     "out:tensor, lse:tensor?, q:tensor, kv:kv, lens:ints, scale:float, causal:int, window:int, ranges:ints",
     attention_check, attention, nullptr}};

}  // namespace

OpTable attention_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
