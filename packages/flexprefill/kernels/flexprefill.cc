// The op library of FlexPrefill: its table and the check of its op (flexprefill.h says what the arguments are).
#include "flexprefill.h"

#include "accel/host.h"

namespace accel_flexprefill {
namespace {

using accel::host::is_f32;
using accel::host::is_i32;

bool has_shape(const accel_tensor* t, int64_t a, int64_t b) {
  return t->ndim == 2 && t->shape[0] == a && t->shape[1] == b;
}
bool has_shape(const accel_tensor* t, int64_t a, int64_t b, int64_t c) {
  return t->ndim == 3 && t->shape[0] == a && t->shape[1] == b && t->shape[2] == c;
}

int check_inputs(const accel_call* call) {
  const accel_tensor* q = call->args[kQ].tensor;
  const accel_kv& kv = *call->args[kKv].kv;
  if (q->dtype.code != kv.dtype.code || q->dtype.bits != kv.dtype.bits) {
    return call->fail(call, "ERR_ACCEL_DTYPE", "flexprefill_blocks: q and kv must have one float format.");
  }
  if (kv.sequences != 1) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "flexprefill_blocks: kv must be of one sequence, not of %d.", kv.sequences);
  }
  if (q->ndim != 3 || q->shape[0] < 1 || q->shape[1] < 1 || q->shape[1] % kv.heads != 0 || q->shape[2] != kv.head_dim) {
    return call->fail(call, "ERR_ACCEL_SHAPE",
                      "flexprefill_blocks: q must be [rows, heads, %d] with at least one row, heads a multiple of kv's %d.",
                      kv.head_dim, kv.heads);
  }
  const int64_t rows = kv.head[0].rows, before = rows - q->shape[0];
  for (int head = 1; head < kv.heads; head++) {
    if (kv.head[head].rows != rows) {
      return call->fail(call, "ERR_ACCEL_SHAPE",
                        "flexprefill_blocks: all heads must have equally many rows, but head 0 has %lld and head %d has %d.",
                        (long long)rows, head, kv.head[head].rows);
    }
  }
  if (before < 0) {
    return call->fail(call, "ERR_ACCEL_SHAPE",
                      "flexprefill_blocks: the rows of q are the cache's last ones, but it has %lld for %lld queries.",
                      (long long)rows, (long long)q->shape[0]);
  }
  if (before % kTile != 0) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT",
                      "flexprefill_blocks: %lld rows before the queries are no multiple of %d, so blocks of queries and "
                      "of keys have no common grid.",
                      (long long)before, kTile);
  }
  return ACCEL_OK;
}

int check_scalars(const accel_call* call) {
  const accel_arg* a = call->args;
  if (a[kBlock].i != 64 && a[kBlock].i != 128) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "flexprefill_blocks: block %lld must be 64 or 128.",
                      (long long)a[kBlock].i);
  }
  if (!(a[kScale].f > 0) || !isfinite(a[kScale].f)) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "flexprefill_blocks: scale %g must be positive.", a[kScale].f);
  }
  if (!(a[kGamma].f > 0 && a[kGamma].f < 1)) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "flexprefill_blocks: gamma %g must lie between 0 and 1.", a[kGamma].f);
  }
  if (!(a[kTau].f >= 0)) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "flexprefill_blocks: tau %g must not be negative.", a[kTau].f);
  }
  if (a[kMinBudget].i < 1 || a[kMaxBudget].i < 1) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "flexprefill_blocks: budgets are at least 1 block, not %lld and %lld.",
                      (long long)a[kMinBudget].i, (long long)a[kMaxBudget].i);
  }
  if (a[kCompat].i != 0 && a[kCompat].i != 1) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "flexprefill_blocks: compat %lld must be 0 or 1.",
                      (long long)a[kCompat].i);
  }
  return ACCEL_OK;
}

int check_outputs(const accel_call* call) {
  const accel_arg* a = call->args;
  const Problem p = problem_of(call);
  const accel_tensor *mask = a[kMask].tensor, *figures = a[kFigures].tensor, *fine = a[kFine].tensor;
  const accel_tensor *counts = a[kCounts].tensor, *profiles = a[kProfiles].tensor;
  if (!is_i32(mask) || (fine != nullptr && !is_i32(fine)) || (counts != nullptr && !is_i32(counts)) ||
      !is_f32(figures) || (profiles != nullptr && !is_f32(profiles))) {
    return call->fail(call, "ERR_ACCEL_DTYPE",
                      "flexprefill_blocks: mask, fine and counts must be int32, figures and profiles float32.");
  }
  const int64_t rows = (p.m + kTile - 1) / kTile, words = (p.tiles + 31) / 32;
  if (!has_shape(mask, rows, p.heads, words)) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "flexprefill_blocks: mask must be [%lld, %d, %lld].", (long long)rows,
                      p.heads, (long long)words);
  }
  if (!has_shape(figures, p.heads, kFigureCount)) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "flexprefill_blocks: figures must be [%d, %d].", p.heads, kFigureCount);
  }
  if (fine != nullptr && !has_shape(fine, p.row_blocks, p.heads, p.words)) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "flexprefill_blocks: fine must be [%d, %d, %d].", p.row_blocks, p.heads,
                      p.words);
  }
  if (counts != nullptr && !has_shape(counts, p.heads, kCountCount)) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "flexprefill_blocks: counts must be [%d, %d].", p.heads, kCountCount);
  }
  if (profiles != nullptr && !has_shape(profiles, p.heads, 3, p.columns)) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "flexprefill_blocks: profiles must be [%d, 3, %d].", p.heads, p.columns);
  }
  return ACCEL_OK;
}

int check(const accel_call* call) {
  if (check_inputs(call) != ACCEL_OK || check_scalars(call) != ACCEL_OK) return ACCEL_FAILED;
  return check_outputs(call);
}

const accel_op ops[] = {
    {"flexprefill_blocks",
     "mask:tensor, figures:tensor, fine:tensor?, counts:tensor?, profiles:tensor?, q:tensor, kv:kv, scale:float, "
     "gamma:float, tau:float, min_budget:int, max_budget:int, block:int, compat:int",
     check, flexprefill_cpu, flexprefill_cuda},
};
const accel_op_library library = {ACCEL_OP_ABI, ACCEL_LIBRARY_NAME, ACCEL_LIBRARY_VERSION, 1, ops};

}  // namespace
}  // namespace accel_flexprefill

extern "C" ACCEL_EXPORT const accel_op_library* accel_op_library_get(uint32_t) { return &accel_flexprefill::library; }
