// cake_victim, cake_order: which row of a full cache leaves in a decode step.
//
// `attention` is the tally with what each row received from the token that was decoded last, averaged over the query
// heads of its kv head. Rows [0, m), m = n - window, are the past; the newest `window` rows stay in any case. The past is
// pooled as in cake_pool, and the least pooled value leaves, of equal ones the last in order.
//
// cake_victim   pools over neighbours in the order of positions, which is the order of rows.
//   victims i32 [Hk]
//
// cake_order    pools over neighbours in the order in which the original stores its past: by what the rows were worth the
//   last time, best first. `order` is the tally that says so, descending, of equal ones the older row first; a new row's
//   0 therefore puts it behind all others. The past is then ordered anew by its pooled values, and the tally becomes
//   m - place.
//   victims i32 [Hk]     the last in the new order
//   scores  f32 [Hk, n]  the new tally, +inf for the window: what a top-k needs when more than one row leaves
#include <algorithm>
#include <cmath>

#include "accel/host.h"
#include "cakekv.h"

namespace accel_cakekv {
namespace {

using accel::host::KvHead;
using accel::host::parallel;

// Average over `size` neighbours in a list of m values.
float pooled(const float* values, int64_t m, int64_t size, int64_t at) {
  const int64_t from = at > size / 2 ? at - size / 2 : 0, to = std::min(at + size / 2 + 1, m);
  float sum = 0;
  for (int64_t j = from; j < to; ++j) sum += values[j];
  return sum / static_cast<float>(size);
}

// Reads a tally of rows [0, m); false if one is NaN.
bool read_tally(const KvHead& head, int64_t m, int which, float* out) {
  bool good = true;
  for (int64_t r = 0; r < m; ++r) {
    out[r] = head.tally(r, which);
    good &= out[r] == out[r];
  }
  return good;
}

// Sorts places [0, m) by falling value, of equal values the lower place first.
void sort_places(int32_t* places, int64_t m, const float* values) {
  for (int64_t i = 0; i < m; ++i) places[i] = static_cast<int32_t>(i);
  std::sort(places, places + m,
            [&](int32_t a, int32_t b) { return values[a] > values[b] || (values[a] == values[b] && a < b); });
}

int refuse_nan(const accel_call* call, const char* op) {
  return call->fail(call, "ERR_ACCEL_NAN", "%s: the attention that rows received contains NaN", op);
}

}  // namespace

int victim_cpu(const accel_call* call) {
  const accel_kv& kv = *call->args[kVictimKv].kv;
  int32_t* victims = tensor_data<int32_t>(call->args[kVictims]);
  const int64_t size = call->args[kVictimSize].i, m = kv.head[0].rows - call->args[kVictimWindow].i;
  const int attention = static_cast<int>(call->args[kVictimAttention].i);
  float* values = static_cast<float*>(call->scratch(call, static_cast<size_t>(kv.heads * m) * sizeof(float)));
  bool* good = static_cast<bool*>(call->scratch(call, static_cast<size_t>(kv.heads)));
  parallel(call, kv.heads, 1, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t h = begin; h < end; ++h) {
      float* at = values + h * m;
      good[h] = read_tally(KvHead(kv, 0, static_cast<int>(h)), m, attention, at);
      float least = INFINITY;
      victims[h] = 0;
      for (int64_t r = 0; r < m; ++r) {
        const float x = pooled(at, m, size, r);
        if (x <= least) {
          least = x;
          victims[h] = static_cast<int32_t>(r);
        }
      }
    }
  });
  if (!std::all_of(good, good + kv.heads, [](bool x) { return x; })) return refuse_nan(call, "cake_victim");
  call->ran(call, "cake_victim");
  return ACCEL_OK;
}

int order_cpu(const accel_call* call) {
  const accel_kv& kv = *call->args[kOrderKv].kv;
  int32_t* victims = tensor_data<int32_t>(call->args[kOrderVictims]);
  float* scores = tensor_data<float>(call->args[kOrderScores]);
  const int64_t n = kv.head[0].rows, m = n - call->args[kOrderWindow].i, size = call->args[kOrderSize].i;
  const int attention = static_cast<int>(call->args[kOrderAttention].i);
  const int order = static_cast<int>(call->args[kOrderKey].i);
  float* floats = static_cast<float*>(call->scratch(call, static_cast<size_t>(kv.heads * m * 2) * sizeof(float)));
  int32_t* ints = static_cast<int32_t*>(call->scratch(call, static_cast<size_t>(kv.heads * m * 2) * sizeof(int32_t)));
  bool* good = static_cast<bool*>(call->scratch(call, static_cast<size_t>(kv.heads)));
  parallel(call, kv.heads, 1, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t h = begin; h < end; ++h) {
      const KvHead head(kv, 0, static_cast<int>(h));
      float *values = floats + h * m * 2, *stored = values + m;
      int32_t *rows = ints + h * m * 2, *places = rows + m;
      read_tally(head, m, order, values);
      sort_places(rows, m, values);
      good[h] = read_tally(head, m, attention, values);
      for (int64_t i = 0; i < m; ++i) stored[i] = values[rows[i]];
      for (int64_t i = 0; i < m; ++i) values[i] = pooled(stored, m, size, i);
      if (!good[h]) continue;
      sort_places(places, m, values);
      for (int64_t i = 0; i < m; ++i) {
        const int64_t row = rows[places[i]];
        const float key = static_cast<float>(m - i);
        head.set_tally(row, order, key);
        if (scores != nullptr) scores[h * n + row] = key;
        if (victims != nullptr && i == m - 1) victims[h] = static_cast<int32_t>(row);
      }
      if (scores != nullptr) std::fill(scores + h * n + m, scores + (h + 1) * n, INFINITY);
    }
  });
  if (!std::all_of(good, good + kv.heads, [](bool x) { return x; })) return refuse_nan(call, "cake_order");
  call->ran(call, "cake_order");
  return ACCEL_OK;
}

}  // namespace accel_cakekv
