// h2o_victim: which row of each head leaves the cache.
//
//   out    i32 [Hk]   of the rows below n - keep the one with the smallest tally; of equal ones the latest
//   kv     one sequence; n is the row count of a head
//   tally  which number of a row's record is its score
//   keep   newest rows that stay whatever their score; less than n
//
// Zhang et al., H2O, NeurIPS 2023 (arXiv:2306.14048), algorithm 1: the heavy hitters and the row that leaves the recent
// window compete for the heavy places. Rows are ordered by score descending, position ascending, and the last one leaves.
// A score that is not a number is an error.
#include <atomic>

#include "accel/host.h"
#include "h2o_victim.h"

namespace {

using namespace accel_h2o;
using namespace accel::host;

int check(const accel_call* call) {
  const accel_tensor* out = call->args[kOut].tensor;
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t tally = call->args[kTally].i, keep = call->args[kKeep].i;
  if (kv.sequences != 1) {
    return call->fail(call, "ERR_ACCEL_BATCH", "h2o_victim: kv must be one sequence, got %d.", kv.sequences);
  }
  if (!is_i32(out) || out->ndim != 1 || out->shape[0] != kv.heads) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "h2o_victim: out must be int32 [%d], one entry for each head of kv.",
                      kv.heads);
  }
  if (tally < 0 || tally >= kv.tallies) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "h2o_victim: tally %lld is not one of the %d of kv.", (long long)tally,
                      kv.tallies);
  }
  if (keep < 0) return call->fail(call, "ERR_ACCEL_ARGUMENT", "h2o_victim: keep is %lld.", (long long)keep);
  for (int h = 0; h < kv.heads; ++h) {
    if (kv.head[h].rows > keep) continue;
    return call->fail(call, "ERR_ACCEL_ARGUMENT",
                      "h2o_victim: no row of head %d can leave: it has %d and the newest %lld stay.", h, kv.head[h].rows,
                      (long long)keep);
  }
  return ACCEL_OK;
}

int run(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int tally = static_cast<int>(call->args[kTally].i);
  const int64_t keep = call->args[kKeep].i;
  int32_t* out = data<int32_t>(call->args[kOut].tensor);
  std::atomic<int64_t> bad{-1};
  call->ran(call, "h2o_victim");
  parallel(call, kv.heads, 1 + 16384 / kv.head[0].rows, [&](int64_t begin, int64_t end, int) {
    for (int64_t h = begin; h < end; ++h) {
      const KvHead head(kv, 0, static_cast<int>(h));
      uint64_t first = kNobody;
      for (int32_t row = 0; row < head.rows() - keep; ++row) {
        const float score = head.tally(row, tally);
        if (score != score) bad = h;
        const uint64_t order = departure(to_bits(score), row);
        first = order < first ? order : first;
      }
      out[h] = row_of(first);
    }
  });
  if (bad >= 0) {
    return call->fail(call, "ERR_ACCEL_NAN", "h2o_victim: the scores of head %lld contain NaN", (long long)bad);
  }
  return ACCEL_OK;
}

const accel_op ops[] = {{"h2o_victim", "out:tensor, kv:kv, tally:int, keep:int", check, run, h2o_victim_cuda}};
const accel_op_library library = {ACCEL_OP_ABI, ACCEL_LIBRARY_NAME, ACCEL_LIBRARY_VERSION, 1, ops};

}  // namespace

extern "C" ACCEL_EXPORT const accel_op_library* accel_op_library_get(uint32_t) { return &library; }
