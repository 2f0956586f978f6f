// Where to cut a list of numbers in descending order: flexprefill_cut.h for a block of 1024 threads.
//
// The histograms are in shared memory. A sum has 64 bits in two words, because a 64-bit atomic there would be a loop. What a
// thread reads in a row with the same digit it adds up before it touches the histogram: where many numbers are alike, that
// leaves few collisions.
#ifndef ACCEL_FLEXPREFILL_CUT_CUH
#define ACCEL_FLEXPREFILL_CUT_CUH

#include "flexprefill_work.cuh"

namespace accel_flexprefill {

constexpr int kCutThreads = 1024, kCutWarps = kCutThreads / 32, kDigits = 2048;

// What is in: keys above `key`, and of those equal to it the ones up to index `last`.
struct Cut {
  uint32_t key;
  int64_t last;
  int64_t count;
  __device__ bool holds(uint32_t k, int64_t index) const { return k > key || (k == key && index <= last); }
};

struct CutShared {
  uint32_t count[kDigits], low[kDigits], high[kDigits];
  int64_t warp_sum[kCutWarps], warp_count[kCutWarps];
  // The digit at which the sum exceeds the goal, the sum and the count above it, the count at it.
  int32_t digit;
  int64_t above, counted, equal;
};

// Zero, -0 and what is no number come last and weigh nothing.
__device__ inline uint32_t key_of(float x) { return x > 0.0f ? __float_as_uint(x) : 0u; }
__device__ inline int64_t fixed_of(uint32_t key) {
  return __double2ll_rn(static_cast<double>(__uint_as_float(key)) * static_cast<double>(int64_t{1} << kFixedBits));
}

__device__ inline void add_digit(CutShared& s, uint32_t digit, uint32_t count, int64_t amount) {
  if (count == 0) return;
  atomicAdd(s.count + digit, count);
  const uint64_t sum = static_cast<uint64_t>(amount);
  const uint32_t low = static_cast<uint32_t>(sum), old = atomicAdd(s.low + digit, low);
  const uint32_t high = static_cast<uint32_t>(sum >> 32) + (old > ~low ? 1u : 0u);
  if (high != 0) atomicAdd(s.high + digit, high);
}

// An inclusive sum over the threads of a warp.
__device__ inline int64_t warp_inclusive(int64_t x) {
  for (int step = 1; step < 32; step *= 2) {
    const int64_t y = __shfl_up_sync(~0u, x, step);
    if (static_cast<int>(threadIdx.x % 32) >= step) x += y;
  }
  return x;
}

// Finds the digit at which `above` and the sums from the top exceed the goal; s.digit stays -1 when all of them do not.
// Thread t has the digits 2047 - 2t and 2046 - 2t.
__device__ inline void find_digit(CutShared& s, int64_t above, int64_t counted, int64_t goal) {
  const int warp = threadIdx.x / 32, top = kDigits - 1 - 2 * static_cast<int>(threadIdx.x);
  const auto sum_at = [&](int digit) {
    return static_cast<int64_t>(s.low[digit] + (static_cast<uint64_t>(s.high[digit]) << 32));
  };
  const int64_t sum[2] = {sum_at(top), sum_at(top - 1)};
  const int64_t count[2] = {s.count[top], s.count[top - 1]};
  const int64_t sums = warp_inclusive(sum[0] + sum[1]), counts = warp_inclusive(count[0] + count[1]);
  if (threadIdx.x % 32 == 31) {
    s.warp_sum[warp] = sums;
    s.warp_count[warp] = counts;
  }
  if (threadIdx.x == 0) s.digit = -1;
  __syncthreads();
  int64_t before = above + sums - sum[0] - sum[1], counted_before = counted + counts - count[0] - count[1];
  for (int i = 0; i < warp; i++) {
    before += s.warp_sum[i];
    counted_before += s.warp_count[i];
  }
  if (before <= goal && before + sum[0] + sum[1] > goal) {
    const int which = before + sum[0] > goal ? 0 : 1;
    s.digit = top - which;
    s.above = which == 0 ? before : before + sum[0];
    s.counted = which == 0 ? counted_before : counted_before + count[0];
    s.equal = count[which];
  }
  __syncthreads();
}

// Index of the `rank`-th key, from 1, that is equal to `key`. There are that many.
template <class Key>
__device__ int64_t index_of_equal(CutShared& s, int64_t n, uint32_t key, int64_t rank, const Key& key_at) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t seen = 0;
  for (int64_t base = 0; base < n; base += kCutThreads) {
    const int64_t i = base + threadIdx.x;
    const bool equal = i < n && key_at(i) == key;
    const unsigned ballot = __ballot_sync(~0u, equal);
    if (lane == 0) s.warp_count[warp] = __popc(ballot);
    __syncthreads();
    int64_t before = seen;
    for (int w = 0; w < kCutWarps; w++) {
      if (w < warp) before += s.warp_count[w];
      seen += s.warp_count[w];
    }
    if (equal && before + __popc(ballot & ((2u << lane) - 1)) == rank) s.above = i;
    __syncthreads();
    if (seen >= rank) break;
  }
  const int64_t index = s.above;
  __syncthreads();
  return index;
}

// Of n numbers, as many as can be added up, largest first, without exceeding the goal. key_at(i) is number i's key,
// weight(key) what it adds, 0 or more. All threads of the block get the result. Not kLast: `last` is not looked for.
template <bool kLast, class Key, class Weight>
__device__ Cut block_cut(CutShared& s, int64_t n, int64_t goal, const Key& key_at, const Weight& weight) {
  constexpr int kAhead = 4;
  uint32_t known = 0;
  int64_t above = 0, counted = 0;
  for (int level = 0; level < 3; level++) {
    const int shift = level == 0 ? 20 : level == 1 ? 10 : 0;
    const uint32_t mask = level == 0 ? 2047u : 1023u;
    for (int i = threadIdx.x; i < kDigits; i += kCutThreads) s.count[i] = s.low[i] = s.high[i] = 0;
    __syncthreads();
    uint32_t digit = 0, count = 0;
    int64_t sum = 0;
    for (int64_t base = threadIdx.x; base < n; base += kCutThreads * kAhead) {
      uint32_t key[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; a++) key[a] = base + a * kCutThreads < n ? key_at(base + a * kCutThreads) : 0u;
#pragma unroll
      for (int a = 0; a < kAhead; a++) {
        if (base + a * kCutThreads >= n || (level > 0 && key[a] >> (shift + 10) != known)) continue;
        const int64_t amount = weight(key[a]);
        if (amount == 0) continue;
        const uint32_t d = key[a] >> shift & mask;
        if (d != digit) {
          add_digit(s, digit, count, sum);
          digit = d;
          count = 0;
          sum = 0;
        }
        count++;
        sum += amount;
      }
    }
    add_digit(s, digit, count, sum);
    __syncthreads();
    find_digit(s, above, counted, goal);
    if (s.digit < 0) return {0u, INT64_MAX, n};  // everything together does not exceed it: of level 0 only
    known = known << (level == 0 ? 11 : 10) | static_cast<uint32_t>(s.digit);
    above = s.above;
    counted = s.counted;
    __syncthreads();
  }
  const int64_t more = (goal - above) / weight(known);
  Cut cut = {known, -1, counted + more};
  if (kLast && more > 0) cut.last = index_of_equal(s, n, known, more, key_at);
  return cut;
}

}  // namespace accel_flexprefill
#endif
