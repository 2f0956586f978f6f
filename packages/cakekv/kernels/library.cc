// The table of CakeKV's ops and the checks of their arguments. What they compute is said in the file of each op.
#include "cakekv.h"

namespace {

using namespace accel_cakekv;

// Checks in a row; the first that fails reports.
struct Checker {
  const accel_call* call;
  const char* op;
  bool ok = true;

  void require(bool good, const char* code, const char* what) {
    if (ok && !good) {
      ok = false;
      call->fail(call, code, "%s: %s.", op, what);
    }
  }
  void tensor(int i, uint8_t code, int bits, int ndim, const char* what) {
    const accel_tensor* t = call->args[i].tensor;
    if (t == nullptr) return;
    require(t->dtype.code == code && t->dtype.bits == bits, "ERR_ACCEL_DTYPE", what);
    require(t->ndim == ndim, "ERR_ACCEL_SHAPE", what);
  }
  int64_t dim(int i, int axis) const {
    const accel_tensor* t = call->args[i].tensor;
    return t == nullptr || axis >= t->ndim ? 0 : t->shape[axis];
  }
  bool has(int i) const { return call->args[i].tensor != nullptr; }
  // One sequence whose heads have equally many rows; returns how many.
  int64_t kv(int i) {
    const accel_kv& kv = *call->args[i].kv;
    require(kv.sequences == 1, "ERR_ACCEL_SHAPE", "kv must be one sequence");
    for (int h = 1; ok && h < kv.heads; ++h) {
      require(kv.head[h].rows == kv.head[0].rows, "ERR_ACCEL_SHAPE",
              "all heads of kv must have the same number of rows");
    }
    return kv.heads > 0 ? kv.head[0].rows : 0;
  }
  void tally(int i, int kv, const char* what) {
    require(call->args[i].i >= 0 && call->args[i].i < call->args[kv].kv->tallies, "ERR_ACCEL_ARGUMENT", what);
  }
  void size(int i) {
    require(call->args[i].i >= 1 && call->args[i].i <= kMaxPool && call->args[i].i % 2 == 1, "ERR_ACCEL_ARGUMENT",
            "size must be odd, at least 1 and at most 127");
  }
  int result() const { return ok ? ACCEL_OK : ACCEL_FAILED; }
};

int statistics_check(const accel_call* call) {
  Checker check{call, "cake_statistics"};
  const int64_t rows = check.kv(kStatisticsKv);
  const accel_kv& kv = *call->args[kStatisticsKv].kv;
  const accel_tensor* q = call->args[kQueries].tensor;
  check.require(q->dtype.code == kv.dtype.code && q->dtype.bits == kv.dtype.bits, "ERR_ACCEL_DTYPE",
                "q must have the dtype of kv");
  check.require(q->ndim == 3 && check.dim(kQueries, 2) == kv.head_dim, "ERR_ACCEL_SHAPE",
                "q must be [w, Hq, d], d that of kv");
  check.require(kv.heads > 0 && check.dim(kQueries, 1) > 0 && check.dim(kQueries, 1) % kv.heads == 0, "ERR_ACCEL_SHAPE",
                "q's heads must be a multiple of kv's");
  check.require(check.dim(kQueries, 0) >= 1 && check.dim(kQueries, 0) <= rows, "ERR_ACCEL_SHAPE",
                "q must have at least one query and at most as many as kv has rows");
  // Columns before the window are then older than all queries.
  check.require(call->args[kStatisticsWindow].i >= check.dim(kQueries, 0), "ERR_ACCEL_ARGUMENT",
                "window must be at least the number of queries");
  check.require(call->args[kSliding].i >= 0, "ERR_ACCEL_ARGUMENT", "sliding must be at least 0");
  check.require(check.has(kIndicator) || check.has(kSums), "ERR_ACCEL_ARGUMENT", "indicator or sums must be given");
  check.tensor(kIndicator, ACCEL_FLOAT, 32, 2, "indicator must be float32 [Hk, n]");
  check.require(!check.has(kIndicator) || (check.dim(kIndicator, 0) == kv.heads && check.dim(kIndicator, 1) == rows),
                "ERR_ACCEL_SHAPE", "indicator must be [Hk, n], n the rows of kv");
  check.tensor(kSums, ACCEL_FLOAT, 64, 1, "sums must be float64 [2]");
  check.require(!check.has(kSums) || check.dim(kSums, 0) == 2, "ERR_ACCEL_SHAPE", "sums must be float64 [2]");
  return check.result();
}

int pool_check(const accel_call* call) {
  Checker check{call, "cake_pool"};
  check.tensor(kPooled, ACCEL_FLOAT, 32, 2, "out must be float32 [H, n]");
  check.tensor(kScores, ACCEL_FLOAT, 32, 2, "scores must be float32 [H, n]");
  check.require(check.dim(kPooled, 0) == check.dim(kScores, 0) && check.dim(kPooled, 1) == check.dim(kScores, 1),
                "ERR_ACCEL_SHAPE", "out and scores must have the same shape");
  check.require(tensor_data<float>(call->args[kPooled]) != tensor_data<float>(call->args[kScores]),
                "ERR_ACCEL_ARGUMENT", "out and scores must be different tensors");
  check.require(call->args[kPrefix].i >= 0 && call->args[kPrefix].i <= check.dim(kScores, 1), "ERR_ACCEL_ARGUMENT",
                "prefix must be within the columns");
  check.size(kSize);
  return check.result();
}

int victim_check(const accel_call* call) {
  Checker check{call, "cake_victim"};
  const int64_t rows = check.kv(kVictimKv);
  check.tensor(kVictims, ACCEL_INT, 32, 1, "victims must be int32 [Hk]");
  check.require(check.dim(kVictims, 0) == call->args[kVictimKv].kv->heads, "ERR_ACCEL_SHAPE",
                "victims must be int32 [Hk]");
  check.require(call->args[kVictimWindow].i >= 0 && call->args[kVictimWindow].i < rows, "ERR_ACCEL_ARGUMENT",
                "window must be smaller than the number of rows");
  check.tally(kVictimAttention, kVictimKv, "attention must be one of kv's tallies");
  check.size(kVictimSize);
  return check.result();
}

int order_check(const accel_call* call) {
  Checker check{call, "cake_order"};
  const int64_t rows = check.kv(kOrderKv), heads = call->args[kOrderKv].kv->heads;
  check.tensor(kOrderVictims, ACCEL_INT, 32, 1, "victims must be int32 [Hk]");
  check.require(!check.has(kOrderVictims) || check.dim(kOrderVictims, 0) == heads, "ERR_ACCEL_SHAPE",
                "victims must be int32 [Hk]");
  check.tensor(kOrderScores, ACCEL_FLOAT, 32, 2, "scores must be float32 [Hk, n]");
  check.require(!check.has(kOrderScores) || (check.dim(kOrderScores, 0) == heads && check.dim(kOrderScores, 1) == rows),
                "ERR_ACCEL_SHAPE", "scores must be float32 [Hk, n], n the rows of kv");
  check.require(call->args[kOrderWindow].i >= 0 && call->args[kOrderWindow].i < rows, "ERR_ACCEL_ARGUMENT",
                "window must be smaller than the number of rows");
  check.tally(kOrderAttention, kOrderKv, "attention must be one of kv's tallies");
  check.tally(kOrderKey, kOrderKv, "order must be one of kv's tallies");
  check.require(call->args[kOrderKey].i != call->args[kOrderAttention].i, "ERR_ACCEL_ARGUMENT",
                "order and attention must be different tallies");
  check.size(kOrderSize);
  return check.result();
}

const accel_op ops[] = {
    {"cake_statistics", "indicator:tensor?, sums:tensor?, q:tensor, kv:kv, scale:float, gamma:float, window:int, "
     "sliding:int",
     statistics_check, statistics_cpu, statistics_cuda},
    {"cake_pool", "out:tensor, scores:tensor, prefix:int, size:int, rest:float", pool_check, pool_cpu, pool_cuda},
    {"cake_victim", "victims:tensor, kv:kv, attention:int, window:int, size:int", victim_check, victim_cpu,
     victim_cuda},
    {"cake_order", "victims:tensor?, scores:tensor?, kv:kv, attention:int, order:int, window:int, size:int",
     order_check, order_cpu, order_cuda},
};
const accel_op_library library = {ACCEL_OP_ABI, ACCEL_LIBRARY_NAME, ACCEL_LIBRARY_VERSION, 4, ops};

}  // namespace

extern "C" ACCEL_EXPORT const accel_op_library* accel_op_library_get(uint32_t) { return &library; }
