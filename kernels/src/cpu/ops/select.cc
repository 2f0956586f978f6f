// topk, take_columns: the k best rows of every head's scores, as ascending row numbers, and numbers looked up by row.
//
// Each fp32 score becomes a uint32 whose unsigned order is the wanted order (sign flip; -0 counts as +0). Three histogram
// passes (11 + 11 + 10 bits) find the k-th largest key; one scan in row order then takes every key above it and the
// first rows equal to it until k are found. So equal scores go to the lower row, and the result is sorted and does not
// depend on the number of threads. A NaN score is an error.
#include <atomic>

#include "cpu/builtin.h"
#include "cpu/ops/args.h"

namespace accel::cpu {
namespace {

// ---- topk  out:tensor i32[H,k], scores:tensor f32[H,n], k:int, largest:int

int topk_check(const accel_call* call) {
  Checker check(call, "topk");
  check.dtype(0, "out", {Type::i32}).dtype(1, "scores", {Type::f32}).shape(1, "scores", "[H,n]", {-1, -1});
  const int64_t k = call->args[2].i, n = check.dim(1, 1);
  check.require(k >= 0 && k <= n, "ERR_ACCEL_ARGUMENT", "k must be from 0 to the %lld scores of a head, got %lld",
                (long long)n, (long long)k);
  check.require(call->args[3].i == 0 || call->args[3].i == 1, "ERR_ACCEL_ARGUMENT", "largest must be 0 or 1, got %lld",
                (long long)call->args[3].i);
  return check.shape(0, "out", "[H,k]", {check.dim(1, 0), k}).result();
}

inline uint32_t key_of(float score, uint32_t flip) {
  uint32_t u;
  score += 0.f;                                     // -0 becomes +0
  memcpy(&u, &score, 4);
  return (u ^ ((u >> 31) != 0 ? 0xffffffffu : 0x80000000u)) ^ flip;
}

// Writes the k chosen rows of one head. Returns false if a score is NaN.
bool select_head(int32_t* out, const float* scores, int64_t n, int64_t k, bool largest) {
  const uint32_t flip = largest ? 0 : 0xffffffffu;
  bool nan = false;
  for (int64_t i = 0; i < n; ++i) nan |= scores[i] != scores[i];
  if (nan) return false;
  if (k == 0) return true;
  if (k == n) {
    for (int64_t i = 0; i < n; ++i) out[i] = (int32_t)i;
    return true;
  }
  const int shifts[] = {21, 10, 0}, widths[] = {11, 11, 10};
  uint32_t threshold = 0, mask = 0;                 // bits of the k-th key known so far
  int64_t need = k;                                 // how many keys with those bits are still to be taken
  for (int pass = 0; pass < 3; ++pass) {
    int32_t count[2048] = {};
    const int shift = shifts[pass];
    const uint32_t digits = (1u << widths[pass]) - 1;
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t key = key_of(scores[i], flip);
      if ((key & mask) == threshold) ++count[(key >> shift) & digits];
    }
    uint32_t digit = digits;
    while (count[digit] < need) need -= count[digit--];
    threshold |= digit << shift;
    mask |= digits << shift;
  }
  int64_t found = 0;
  for (int64_t i = 0; found < k; ++i) {
    const uint32_t key = key_of(scores[i], flip);
    if (key > threshold) {
      out[found++] = (int32_t)i;
    } else if (key == threshold && need > 0) {
      out[found++] = (int32_t)i;
      --need;
    }
  }
  return true;
}

int topk(const accel_call* call) {
  const int64_t heads = dim(call, 1, 0), n = dim(call, 1, 1), k = call->args[2].i;
  const bool largest = call->args[3].i != 0;
  int32_t* out = data<int32_t>(tensor(call, 0));
  const float* scores = data<float>(tensor(call, 1));
  std::atomic<int64_t> bad{-1};
  parallel(call, heads, grain_for(n * 4), [&](int64_t begin, int64_t end, int) {
    for (int64_t h = begin; h < end; ++h) {
      if (!select_head(out + h * k, scores + h * n, n, k, largest)) bad = h;
    }
  });
  if (bad >= 0) {
    return call->fail(call, "ERR_ACCEL_NAN", "topk: the scores of head %lld contain NaN", (long long)bad);
  }
  call->ran(call, "topk");
  return ACCEL_OK;
}

// ---- take_columns  out:tensor f32[H,k], x:tensor f32[H,n], index:tensor i32[H,k]
// out[h, i] = x[h, index[h, i]]

int take_columns_check(const accel_call* call) {
  Checker check(call, "take_columns");
  check.dtype(0, "out", {Type::f32}).dtype(1, "x", {Type::f32}).dtype(2, "index", {Type::i32});
  check.shape(1, "x", "[H,n]", {-1, -1}).shape(2, "index", "[H,k]", {check.dim(1, 0), -1});
  return check.shape(0, "out", "[H,k]", {check.dim(1, 0), check.dim(2, 1)}).result();
}

int take_columns(const accel_call* call) {
  const int64_t heads = dim(call, 1, 0), n = dim(call, 1, 1), k = dim(call, 2, 1);
  float* out = data<float>(tensor(call, 0));
  const float* x = data<float>(tensor(call, 1));
  const int32_t* index = data<int32_t>(tensor(call, 2));
  for (int64_t i = 0; i < heads * k; ++i) {
    if (index[i] < 0 || index[i] >= n) {
      return call->fail(call, "ERR_ACCEL_ARGUMENT", "take_columns: index[%lld] is %d; x has %lld columns", (long long)i,
                        index[i], (long long)n);
    }
  }
  parallel(call, heads * k, grain_for(4), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) out[i] = x[i / k * n + index[i]];
  });
  call->ran(call, "take_columns");
  return ACCEL_OK;
}

const accel_op ops[] = {
    {"topk", "out:tensor, scores:tensor, k:int, largest:int", topk_check, topk, nullptr},
    {"take_columns", "out:tensor, x:tensor, index:tensor", take_columns_check, take_columns, nullptr},
};

}  // namespace

OpTable select_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
