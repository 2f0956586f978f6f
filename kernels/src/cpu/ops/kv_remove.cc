// kv_remove: one row leaves each head, in place (ADR 0013). Bit-exact; no arithmetic.
//
// The rows between the one that leaves and the `keep` newest move down by one, with their records. What is left is one
// stale row in front of the newest ones, in the same place in all heads, which the caller drops.
#include "cpu/builtin.h"
#include "cpu/ops/args.h"
#include "cpu/ops/kv_rows.h"

namespace accel::cpu {
namespace {

// ---- kv_remove  kv:kv, rows:tensor i32[Hk], keep:int
// One sequence; no page may be shared with a fork. rows[h] is from 0 to n - 1 - keep, n being that head's row count.

int kv_remove_check(const accel_call* call) {
  Checker check(call, "kv_remove");
  check.kv(0, "kv", 1);
  if (!check.ok()) return check.result();
  const accel_kv& kv = *call->args[0].kv;
  const int64_t keep = call->args[2].i;
  check.dtype(1, "rows", {Type::i32}).shape(1, "rows", "[Hk]", {kv.heads});
  check.require(keep >= 0, "ERR_ACCEL_ARGUMENT", "keep is %lld", (long long)keep);
  for (int h = 0; check.ok() && h < kv.heads; ++h) {
    check.require(kv.head[h].rows > keep, "ERR_ACCEL_ARGUMENT",
                  "no row of head %d can leave: it has %d and the newest %lld stay", h, kv.head[h].rows,
                  (long long)keep);
  }
  return check.result();
}

// Row r becomes row r + 1, for r from `first` to `last` - 1.
void move_down(const KvRows& rows, int64_t first, int64_t last) {
  for (int64_t r = first; r < last;) {
    // Neighbours in memory as far as both the old and the new places are.
    const int64_t to = rows.run(r, last - r), from = rows.run(r + 1, last - r), n = to < from ? to : from;
    memmove(rows.row(r), rows.row(r + 1), (size_t)(n * rows.row_bytes));
    r += n;
  }
}

int kv_remove(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  const int32_t* victims = data<int32_t>(tensor(call, 1));
  const int64_t keep = call->args[2].i;
  int64_t most = 1;
  for (int h = 0; h < kv.heads; ++h) {
    const int64_t last = kv.head[h].rows - 1 - keep;
    if (victims[h] < 0 || victims[h] > last) {
      return call->fail(call, "ERR_ACCEL_ARGUMENT",
                        "kv_remove: the row of head %d is %d; rows 0 to %lld may leave, the newest %lld of %d stay", h,
                        victims[h], (long long)last, (long long)keep, kv.head[h].rows);
    }
    most = last - victims[h] > most ? last - victims[h] : most;
  }
  parallel(call, 3 * kv.heads, grain_for(most * kv.head_dim / 8), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int h = (int)(i / 3), which = (int)(i % 3);
      const KvRows rows = which == 0 ? kv_keys(kv, 0, h) : which == 1 ? kv_values(kv, 0, h) : kv_records(kv, 0, h);
      move_down(rows, victims[h], rows.rows - 1 - keep);
    }
  });
  call->ran(call, "kv_remove");
  return ACCEL_OK;
}

const accel_op ops[] = {{"kv_remove", "kv:kv, rows:tensor, keep:int", kv_remove_check, kv_remove, nullptr}};

}  // namespace

OpTable kv_remove_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
