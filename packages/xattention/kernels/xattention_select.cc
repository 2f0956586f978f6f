// xattention_select: rows of a mask from rows of block sums (xattention_rule.h has the rule).
//
//   mask       int32 [R, ceil(C / 32)]
//   recall     f32 [R]      share of a row's sums that its blocks hold
//   sums       f32 [R, C]   columns beyond the diagonal are not read
//   thresholds f64 [R]      double, because 0.8 rounded to fewer bits flips blocks
//   rules      int32 [R, 2] the diagonal column, and whether the row belongs to the published form's first chunk
#include "xattention_select.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "accel/host.h"
#include "xattention.h"
#include "xattention_rule.h"

namespace accel_xattention {

using namespace accel::host;

double select_row(const SelectRow& row) {
  const int d = row.diagonal;
  int64_t total = 0, kept = 0;
  int others = 0;
  for (int j = 0; j <= d; ++j) {
    const int64_t a = fixed_point(row.sums[j]);
    total += a;
    if (j == d || (j == 0 && !row.first_chunk)) {
      kept += a;
    } else {
      row.keys[others++] = key_of(a, j);
    }
  }
  std::sort(row.keys, row.keys + others, std::greater<>());
  int taken = 0;
  const auto take = [&] { kept += sum_of(row.keys[taken++]); };
  while (taken < others && below(kept, row.threshold, total)) take();
  if (row.first_chunk && taken < others && below(0, row.threshold, total)) take();

  std::fill(row.mask, row.mask + row.words, 0u);
  const auto set = [&](int j) { row.mask[j / 32] |= 1u << j % 32; };
  for (int k = 0; k < taken; ++k) set(column_of(row.keys[k]));
  set(d);
  if (row.first_chunk && (row.mask[0] & 1u) == 0) kept += fixed_point(row.sums[0]);  // elsewhere it was forced
  set(0);
  return static_cast<double>(kept) / static_cast<double>(total);
}

int select_check(const accel_call* call) {
  const accel_tensor *mask = call->args[kSelectMask].tensor, *recall = call->args[kSelectRecall].tensor;
  const accel_tensor *sums = call->args[kSelectSums].tensor, *thresholds = call->args[kSelectThresholds].tensor;
  const accel_tensor* rules = call->args[kSelectRules].tensor;
  const auto is_f64 = [](const accel_tensor* t) { return t->dtype.code == ACCEL_FLOAT && t->dtype.bits == 64; };
  if (!is_i32(mask) || !is_f32(recall) || !is_f32(sums) || !is_f64(thresholds) || !is_i32(rules)) {
    return call->fail(call, "ERR_ACCEL_DTYPE",
                      "xattention_select: mask and rules must be int32, recall and sums float32, thresholds float64.");
  }
  const int64_t rows = sums->ndim == 2 ? sums->shape[0] : -1, columns = rows < 0 ? 0 : sums->shape[1];
  if (columns < 1 || columns > kMostColumns || mask->ndim != 2 || mask->shape[0] != rows ||
      mask->shape[1] != ceil_div(columns, 32) || recall->ndim != 1 || recall->shape[0] != rows ||
      thresholds->ndim != 1 || thresholds->shape[0] != rows || rules->ndim != 2 || rules->shape[0] != rows ||
      rules->shape[1] != 2) {
    return call->fail(
        call, "ERR_ACCEL_SHAPE",
        "xattention_select: of sums [R, C], C from 1 to 65536, follow mask [R, ceil(C / 32)], recall [R], "
        "thresholds [R] and rules [R, 2].");
  }
  return ACCEL_OK;
}

int select_cpu(const accel_call* call) {
  const accel_tensor* sums = call->args[kSelectSums].tensor;
  const int64_t rows = sums->shape[0], columns = sums->shape[1], words = ceil_div(columns, 32);
  const int32_t* rules = data<int32_t>(call->args[kSelectRules].tensor);
  uint64_t* keys = static_cast<uint64_t*>(
      call->scratch(call, static_cast<size_t>(columns) * static_cast<size_t>(call->threads) * sizeof(uint64_t)));
  call->ran(call, "xattention_select");
  parallel(call, rows, 1, [&](int64_t begin, int64_t end, int32_t worker) {
    for (int64_t r = begin; r < end; ++r) {
      // The rules are data; a diagonal outside the row must not lead outside memory.
      const int diagonal = static_cast<int>(std::clamp<int64_t>(rules[2 * r], 0, columns - 1));
      const double recall =
          select_row({data<float>(sums) + r * columns, diagonal, rules[2 * r + 1] != 0,
                      data<double>(call->args[kSelectThresholds].tensor)[r],
                      data<uint32_t>(call->args[kSelectMask].tensor) + r * words, words, keys + worker * columns});
      data<float>(call->args[kSelectRecall].tensor)[r] = static_cast<float>(recall);
    }
  });
  return ACCEL_OK;
}

}  // namespace accel_xattention
