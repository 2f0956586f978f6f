// cam_merge: before a row of each head leaves, its value may be folded into the rows after it.
//
//   p        f32 [Hk]     the probabilities; optional
//   merged   i32 [Hk]     1 where the value was folded; optional
//   kv       one sequence; values of the targets change in place, so no page may be shared
//   rows     i32 [Hk]     the row of each head that leaves; absent: row number `row` of every head
//   uniforms f32 [Hk]     random numbers; absent: from seed, layer, head and the position of the row that leaves
//   gate     0 never, 1 always, 2 with probability p
//   tally    which number of a row's record is the attention A it received
//   targets  m: rows e+1 .. e+m take the value of row e, as far as they exist and are among the newest `recent`
//   divisor  of the value; 0: the number of targets there are
//
// p = clamp(A_e / mean(A of the targets), 0, 1), and for each target V_t += V_e / divisor, once rounded. Sums run in row
// order with IEEE division, so the CUDA version gives the same bits. Nothing is folded where there is no target.
#include <type_traits>

#include "cam_args.h"

namespace accel_cam {

using namespace accel::host;
using namespace merge;

int merge_check(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  if (check_kv(call, "cam_merge", kv) != ACCEL_OK || check_floats(call, "cam_merge", kP, "p", -1, kKv) != ACCEL_OK ||
      check_ints(call, "cam_merge", kMerged, "merged", -1, kKv) != ACCEL_OK ||
      check_ints(call, "cam_merge", kRows, "rows", -1, kKv) != ACCEL_OK ||
      check_floats(call, "cam_merge", kUniforms, "uniforms", -1, kKv) != ACCEL_OK ||
      check_gate(call, "cam_merge", kGate, kSeed, kLayer) != ACCEL_OK) {
    return ACCEL_FAILED;
  }
  const int64_t tally = call->args[kTally].i, row = call->args[kRow].i;
  if (tally < 0 || tally >= kv.tallies) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "cam_merge: tally %lld is not one of the %d of kv.", (long long)tally,
                      kv.tallies);
  }
  if (call->args[kTargets].i < 1 || call->args[kRecent].i < 0 || call->args[kDivisor].i < 0) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT",
                      "cam_merge: targets must be at least 1, recent and divisor not negative; got %lld, %lld, %lld.",
                      (long long)call->args[kTargets].i, (long long)call->args[kRecent].i,
                      (long long)call->args[kDivisor].i);
  }
  for (int h = 0; call->args[kRows].tensor == nullptr && h < kv.heads; ++h) {
    if (row >= 0 && row < kv.head[h].rows) continue;
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "cam_merge: row %lld is not one of the %d of head %d.", (long long)row,
                      kv.head[h].rows, h);
  }
  return ACCEL_OK;
}

namespace {

struct Merge {
  const accel_kv& kv;
  Gate gate;
  int tally;
  int64_t targets, recent, divisor;
  const float* uniforms;
  float* p;
  int32_t* merged;
};

template <class T>
void merge_head(const Merge& merge, int h, int64_t from) {
  const KvHead head(merge.kv, 0, h);
  const int64_t n = head.rows();
  int64_t first = from + 1, end = from + 1 + merge.targets;
  if (first < n - merge.recent) first = n - merge.recent;
  if (end > n) end = n;
  const int64_t count = end > first ? end - first : 0;
  float sum = 0;
  for (int64_t r = first; r < end; ++r) sum += head.tally(r, merge.tally);
  const float mean = sum / static_cast<float>(count);
  const float p = count == 0 ? 0.f : probability(head.tally(from, merge.tally) / mean);
  const float u = merge.uniforms != nullptr ? merge.uniforms[h] : uniform(merge.gate, h, head.record(from)[0]);
  const bool open = count > 0 && opens(merge.gate, u, p);
  if (merge.p != nullptr) merge.p[h] = p;
  if (merge.merged != nullptr) merge.merged[h] = open ? 1 : 0;
  if (!open) return;
  const float divisor = static_cast<float>(merge.divisor > 0 ? merge.divisor : count);
  const T* value = head.value<T>(from);
  for (int64_t r = first; r < end; ++r) {
    T* target = head.value<T>(r);
    for (int c = 0; c < merge.kv.head_dim; ++c) narrow(widen(target[c]) + widen(value[c]) / divisor, target + c);
  }
}

}  // namespace

int merge_cpu(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int32_t* rows = data<int32_t>(call->args[kRows].tensor);
  const Merge merge = {kv,
                       gate_of(call, kGate, kSeed, kLayer),
                       static_cast<int>(call->args[kTally].i),
                       call->args[kTargets].i,
                       call->args[kRecent].i,
                       call->args[kDivisor].i,
                       data<float>(call->args[kUniforms].tensor),
                       data<float>(call->args[kP].tensor),
                       data<int32_t>(call->args[kMerged].tensor)};
  for (int h = 0; rows != nullptr && h < kv.heads; ++h) {
    if (rows[h] >= 0 && rows[h] < kv.head[h].rows) continue;
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "cam_merge: rows[%d] is %d, which is not a row of that head", h, rows[h]);
  }
  call->ran(call, "cam_merge");
  parallel(call, kv.heads, 1 + 16384 / (merge.targets * kv.head_dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t h = begin; h < end; ++h) {
      const int64_t from = rows != nullptr ? rows[h] : call->args[kRow].i;
      with_float(kv.dtype, [&](auto* e) {
        merge_head<std::remove_pointer_t<decltype(e)>>(merge, static_cast<int>(h), from);
      });
    }
  });
  return ACCEL_OK;
}

}  // namespace accel_cam
