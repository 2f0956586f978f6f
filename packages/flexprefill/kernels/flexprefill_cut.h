// Where to cut a list of numbers in descending order, without sorting it.
//
// A number that is not negative orders as its bits. Three levels fix 11 + 10 + 10 bits of the key at which a running sum,
// largest first, exceeds a goal: each adds up what the keys with the bits known so far contribute, per value of the
// next digit, then goes through the sums from the top (radix select: Alabi et al. 2012, "Fast k-selection algorithms for
// graphics processors"). Equal keys come in the order of their indices. Sums are integers, so their order is of no account,
// and the version for CUDA (flexprefill_cut.cuh) cuts the same.
#ifndef ACCEL_FLEXPREFILL_CUT_H
#define ACCEL_FLEXPREFILL_CUT_H

#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "flexprefill.h"

namespace accel_flexprefill {
namespace {

// What is in: keys above `key`, and of those equal to it the ones up to index `last`.
struct Cut {
  uint32_t key;
  int64_t last;
  int64_t count;
  bool holds(uint32_t k, int64_t index) const { return k > key || (k == key && index <= last); }
};

// Zero, -0 and what is no number come last and weigh nothing.
inline uint32_t key_of(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return x > 0 ? u : 0;
}
inline int64_t fixed_of(uint32_t key) {
  float x;
  memcpy(&x, &key, 4);
  return llrint(static_cast<double>(x) * static_cast<double>(int64_t{1} << kFixedBits));
}

// Of n numbers, as many as can be added up, largest first, without exceeding the goal. key(i) is number i's key,
// weight(key) what it adds.
template <class Key, class Weight>
Cut cut_at(int64_t n, int64_t goal, const Key& key, const Weight& weight) {
  constexpr int kDigits = 2048, kShift[3] = {20, 10, 0};
  static thread_local struct {
    int64_t sum[kDigits], count[kDigits];
  } h;
  uint32_t known = 0;
  int64_t above = 0, count = 0, equal = 0;
  for (int level = 0; level < 3; level++) {
    const int shift = kShift[level];
    const uint32_t mask = level == 0 ? 2047u : 1023u;
    memset(&h, 0, sizeof h);
    for (int64_t i = 0; i < n; i++) {
      const uint32_t k = key(i);
      if (level > 0 && k >> (shift + 10) != known) continue;
      h.sum[k >> shift & mask] += weight(k);
      h.count[k >> shift & mask]++;
    }
    int digit = static_cast<int>(mask);
    for (; digit >= 0 && above + h.sum[digit] <= goal; digit--) {
      above += h.sum[digit];
      count += h.count[digit];
    }
    if (digit < 0) return {0, INT64_MAX, n};  // everything together does not exceed it: of level 0 only
    known = known << (level == 0 ? 11 : 10) | static_cast<uint32_t>(digit);
    equal = h.count[digit];
  }
  const int64_t more = (goal - above) / weight(known);
  Cut cut = {known, -1, count + more};
  if (more == 0) return cut;
  int64_t seen = 0;
  for (int64_t i = 0; i < n && seen < more && equal > 0; i++) {
    if (key(i) == known && ++seen == more) cut.last = i;
  }
  return cut;
}

// The entries that make up a share of all mass, and the k largest ones.
template <class Key>
Cut cut_mass(int64_t n, int64_t goal, const Key& key) {
  return cut_at(n, goal, key, fixed_of);
}
template <class Key>
Cut cut_largest(int64_t n, int64_t k, const Key& key) {
  return cut_at(n, k, key, [](uint32_t) { return int64_t{1}; });
}

}  // namespace
}  // namespace accel_flexprefill
#endif
