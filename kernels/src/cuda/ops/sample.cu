// sample: the next token of every sequence of a batch (twin: cpu/ops/sample.cc, which defines the steps).
//
// Greedy rows need the largest key and the lowest index with it: one pass of a team of blocks (descent.cuh).
//
// The other rows are defined over the tokens in the order (logit descending, id ascending): top-k, top-p and min-p each
// keep a prefix of that order, and the draw takes the first token at which the running sum of weights, out of the sum of
// the kept ones, exceeds `uniform`. A prefix is known by its mass alone, so nothing is sorted:
//   top_k   descend by count to the k-th key; total = mass of the larger keys and of the ties still wanted
//   top_p   descend by mass to the first token whose running sum reaches top_p * total; total = the sum there
//   min_p   total = min(total, mass of all weights >= min_p): both are prefixes, and the shorter has less mass
//   draw    descend by mass to the first running sum above uniform * total; it lies in the kept prefix by itself
// Tokens with the same key weigh the same, so a place among ties follows by division, and the token itself is the t-th
// with that key in the order of ids.
//
// Arithmetic: weights exp((logit - largest) / temperature) in fp64 as in the twin, then rounded to integers, 2^s for the
// weight 1 with n 2^s <= 2^62. Sums are then exact whatever the order, and a run always repeats; the twin rounds fp64 sums
// instead. The results differ only when `uniform` or top_p falls within about n 2^-s (at n = 128256: 4e-9 at the very
// worst, 1e-11 as a rule) of a step of the distribution. The comparison with min_p takes the fp64 weight itself.
#include <math.h>

#include "cuda/kernels.h"
#include "cuda/ops/descent.cuh"

namespace accel::cuda {
namespace {

struct SampleArguments {
  int32_t* out;         // [B]
  const float* logits;  // [B, n]
  int64_t n;
  const float* temperature;
  const int32_t* top_k;
  const float* top_p;
  const float* min_p;
  const double* uniform;
  double unit;          // 2^s
  int32_t nan_check, setting_check;
  accel_device_error* error;
};

struct Settings {
  double temperature, top_p, min_p, uniform;
  int32_t top_k;

  // The number of the argument that is out of range, or 0.
  __device__ int wrong() const {
    if (!(temperature >= 0 && isfinite(temperature))) return 2;
    if (top_k < 0) return 3;
    if (!(top_p > 0 && top_p <= 1)) return 4;
    if (!(min_p >= 0 && min_p <= 1)) return 5;
    if (!(uniform >= 0 && uniform < 1)) return 6;
    return 0;
  }
};

// The largest key and its lowest index as key << 32 | ~index, so that the larger word is the better token.
struct Best {
  uint64_t word;
  bool nan;
};
struct Shared {
  Histograms histograms;
  uint64_t counts[team_warps];
  uint64_t block_best;
  uint32_t block_nan;
  uint64_t block_min_p;
};

__device__ inline uint64_t warp_max(uint64_t x) {
  for (int step = 16; step > 0; step /= 2) x = max(x, __shfl_xor_sync(~0u, x, step));
  return x;
}

__device__ Best best_of_row(const float* row, Part part, Shared& shared) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint64_t best = 0;
  bool nan = false;
  for_each_score(row, part, [&](float x, uint32_t i) {
    nan |= x != x;
    best = max(best, (uint64_t)key_of(x) << 32 | ~i);
  });
  best = warp_max(best);
  if (lane == 0) shared.counts[warp] = best;
  nan = __syncthreads_or(nan) != 0;
  if (warp == 0) {
    best = warp_max(shared.counts[lane]);
    if (lane == 0) shared.block_best = best;
    if (lane == 0) shared.block_nan = nan;
  }
  Team::sync();
  const int from = min(lane, Team::ranks() - 1);
  best = warp_max(Team::of(shared.block_best, from));
  return {best, __any_sync(~0u, Team::of(shared.block_nan, from) != 0) != 0};
}

class Draw {
 public:
  __device__ Draw(const SampleArguments& a, const float* row, Part part, const Settings& settings, float top,
                  Shared& shared)
      : row_(row), part_(part), n_(a.n), unit_(a.unit), s_(settings), top_(top), shared_(shared),
        descent_(shared.histograms) {
    // Weights below e^-44 round to 0.
    least_ = top_ - 44 * s_.temperature;
  }

  // Returns the id in one lane of one warp of the team, -1 elsewhere.
  __device__ int32_t run() {
    uint32_t floor = 0;         // keys below it are not kept
    uint64_t unwanted = 0;      // of the ties at `floor`
    if (s_.top_k > 0 && s_.top_k < n_) {
      const Crossing at = descend_by_count(s_.top_k);
      floor = at.key;
      unwanted = at.inside - (s_.top_k - at.above);
    }
    // The first level of all descents by mass.
    descent_.begin();
    uint64_t above_min_p = 0;
    for_each_score<4>(row_, part_, [&](float x, uint32_t) {
      const uint32_t key = key_of(x);
      if (key < floor || x < least_) return;
      const double w = weight(x);
      const uint64_t amount = fixed(w);
      if (amount == 0) return;
      descent_.add(digit_of(key, 0), amount);
      if (w >= s_.min_p) above_min_p += amount;
    });
    if (s_.min_p > 0) {
      above_min_p = block_sum(above_min_p, shared_.histograms.warps);
      if (threadIdx.x == 0) shared_.block_min_p = above_min_p;
    }
    const DigitSums first = descent_.sums();
    uint64_t total = block_sum(first.first + first.second, shared_.histograms.warps);
    if (unwanted != 0) total -= unwanted * fixed(weight(score_of(floor)));
    if (s_.top_p < 1) {
      const uint64_t goal = min(total, max(uint64_t{1}, (uint64_t)ceil(s_.top_p * (double)total)));
      const Crossing at = descend_by_mass(first, goal);
      const uint64_t each = fixed(weight(score_of(at.key)));
      total = at.above + ties(at, goal, each) * each;
    }
    if (s_.min_p > 0) {
      uint64_t mass = 0;
      for (int rank = 0; rank < Team::ranks(); rank++) mass += Team::of(shared_.block_min_p, rank);
      total = min(total, mass);
    }
    const uint64_t goal = min(total, (uint64_t)floor_of(s_.uniform * (double)total) + 1);
    const Crossing at = descend_by_mass(first, goal);
    return nth_with_key(at.key, ties(at, goal, fixed(weight(score_of(at.key)))));
  }

 private:
  __device__ static double floor_of(double x) { return ::floor(x); }
  __device__ double weight(float x) const { return exp(((double)x - top_) / s_.temperature); }
  __device__ uint64_t fixed(double w) const { return __double2ull_rn(w * unit_); }
  // How many of the ties at a crossing it takes to reach the goal.
  __device__ static uint64_t ties(const Crossing& at, uint64_t goal, uint64_t each) {
    return (goal - at.above + each - 1) / each;
  }

  __device__ Crossing descend_by_count(uint64_t goal) {
    Crossing at = {0, 0, 0};
    for (int level = 0; level < 3; level++) {
      descent_.begin();
      for_each_score<4>(row_, part_, [&](float x, uint32_t) {
        const uint32_t key = key_of(x);
        if ((key & known_mask(level)) == at.key) descent_.count(digit_of(key, level));
      });
      at = descent_.cross(descent_.sums(), at.above, goal, at.key, digit_shift(level));
    }
    return at;
  }
  __device__ Crossing descend_by_mass(DigitSums first, uint64_t goal) {
    Crossing at = descent_.cross(first, 0, goal, 0, digit_shift(0));
    for (int level = 1; level < 3; level++) {
      descent_.begin();
      for_each_score<4>(row_, part_, [&](float x, uint32_t) {
        const uint32_t key = key_of(x);
        if ((key & known_mask(level)) == at.key) descent_.add(digit_of(key, level), fixed(weight(x)));
      });
      at = descent_.cross(descent_.sums(), at.above, goal, at.key, digit_shift(level));
    }
    return at;
  }
  __device__ int32_t nth_with_key(uint32_t key, uint64_t wanted) {
    const int lane = threadIdx.x % 32;
    uint64_t mine = 0;
    for_each_score<4>(row_, part_, [&](float x, uint32_t) { mine += key_of(x) == key ? 1 : 0; });
    for (int step = 16; step > 0; step /= 2) mine += __shfl_xor_sync(~0u, mine, step);
    uint64_t before = team_exclusive_sum(mine, shared_.counts);
    int32_t id = -1;
    if (wanted <= before || wanted > before + mine) return id;
    for (uint32_t base = part_.begin; base < part_.end; base += 32) {
      const uint32_t i = base + lane;
      const unsigned equal = __ballot_sync(~0u, i < part_.end && key_of(row_[i]) == key);
      const uint64_t rank = before + __popc(equal & ((1u << lane) - 1)) + 1;
      before += __popc(equal);
      if ((equal >> lane & 1) != 0 && rank == wanted) id = (int32_t)i;
      if (before >= wanted) break;
    }
    return id;
  }

  const float* row_;
  Part part_;
  int64_t n_;
  double unit_;
  Settings s_;
  double top_, least_;
  Shared& shared_;
  Descent descent_;
};

__global__ void __launch_bounds__(team_threads) sample_kernel(const __grid_constant__ SampleArguments a) {
  __shared__ Shared shared;
  pdl_release();
  pdl_wait();
  const int64_t b = blockIdx.x / Team::ranks();
  const bool speaker = Team::rank() == 0 && threadIdx.x == 0;
  const Settings s = {a.temperature[b], a.top_p[b], a.min_p[b], a.uniform[b], a.top_k[b]};
  if (s.wrong() != 0) {
    if (speaker) accel_report(a.error, a.setting_check, b, s.wrong());
    if (speaker) a.out[b] = -1;
    return;  // the whole team
  }
  const float* row = a.logits + b * a.n;
  const Part part = part_of_warp(a.n);
  const Best best = best_of_row(row, part, shared);
  const float top = score_of((uint32_t)(best.word >> 32));
  if (best.nan || !isfinite(top)) {
    if (speaker) accel_report(a.error, a.nan_check, b, 0);
    if (speaker) a.out[b] = -1;
  } else if (s.temperature == 0) {
    if (speaker) a.out[b] = (int32_t) ~(uint32_t)best.word;
  } else {
    const int32_t id = Draw(a, row, part, s, top, shared).run();
    if (id >= 0) a.out[b] = id;
  }
  Team::sync();  // the others may still read this block's shared memory
}

// out:tensor i32[B], logits:tensor f32[B,V], temperature:tensor f32[B], top_k:tensor i32[B], top_p:tensor f32[B],
// min_p:tensor f32[B], uniform:tensor f64[B]
int sample(const accel_call* call) {
  const accel_tensor* logits = call->args[1].tensor;
  const int64_t batch = logits->shape[0];
  call->ran(call, "sample");
  if (batch == 0) return ACCEL_OK;
  SampleArguments a = {};
  a.out = data<int32_t>(call->args[0].tensor);
  a.logits = data<float>(logits);
  a.n = logits->shape[1];
  a.temperature = data<float>(call->args[2].tensor);
  a.top_k = data<int32_t>(call->args[3].tensor);
  a.top_p = data<float>(call->args[4].tensor);
  a.min_p = data<float>(call->args[5].tensor);
  a.uniform = data<double>(call->args[6].tensor);
  int bits = 0;
  while ((int64_t{1} << bits) < a.n) bits++;
  a.unit = ldexp(1.0, 62 - bits);
  a.nan_check = call->device_check(call, "ERR_ACCEL_NAN", "sample: the logits of row %lld contain NaN or infinity");
  a.setting_check = call->device_check(
      call, "ERR_ACCEL_ARGUMENT",
      "sample: row %lld is out of range in argument %lld (2: temperature >= 0, 3: top_k >= 0, 4: top_p in (0, 1], 5: "
      "min_p in [0, 1], 6: uniform in [0, 1))");
  a.error = call->device_error;
  launch_teams(call, sample_kernel, batch, team_blocks(call, batch, a.n), a);
  return launched(call);
}

const OpKernel kernels[] = {{"sample", sample}};

}  // namespace

OpKernels sample_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
