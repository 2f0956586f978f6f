// What every head decides from its profiles (steps 3 to 5 of flexprefill.h).
//
//   count_profiles  a block for each head and profile: w from the diagonals of two tiles, the count c, sums over blocks
//   choose          a block for each head: the estimate a, the divergence, the pattern, the two sets
//
// Sums over blocks and dot products are made by a warp, in the order of tree_sum on the CPU.
#include <climits>

#include "flexprefill_cut.cuh"
#include "flexprefill_tile.cuh"

namespace accel_flexprefill {
namespace {

__global__ void __launch_bounds__(kCutThreads) count_profiles(const Work w) {
  __shared__ CutShared cut_shared;
  const Problem& p = w.p;
  const int h = blockIdx.x, which = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const float* profile = w.vertical + h * w.padded();
  if (which == 1) {
    float* slash = w.slash + h * w.padded();
    const float* diagonals = w.diagonals + h * w.padded() * 2;
    for (int t = threadIdx.x; t < p.tiles * kTile; t += kCutThreads) {
      const float* own = diagonals + static_cast<int64_t>(t / kTile) * 2 * kTile + t % kTile;
      const float before = t < kTile ? 0.0f : own[-kTile];
      slash[t] = (before + own[0]) / static_cast<float>(p.rows);
    }
    __syncthreads();
    profile = slash;
  }
  float* pooled = w.pooled_of(h, which);
  for (int j = warp; j < p.columns; j += kCutWarps) {
    float sum = 0.0f;
    for (int i = lane; i < p.block; i += 32) {
      const int t = j * p.block + i;
      sum += t < p.n ? profile[t] : 0.0f;
    }
    sum = warp_tree_sum(sum);
    if (lane == 0) pooled[j] = sum;
  }
  const Cut cut = block_cut<false>(
      cut_shared, p.n, p.goal, [&](int64_t t) { return key_of(profile[t]); }, [](uint32_t k) { return fixed_of(k); });
  if (threadIdx.x == 0) {
    const int count = static_cast<int>(1 + cut.count);
    w.choices[h].counts[which] = count;
    w.choices[h].numbers[which] = min(max(count / kCountDivisor + 1, p.min_blocks), p.max_blocks);
  }
}

// A sum or a maximum over the block, the same for all threads and in the same order in every run. Threads without a
// number give 0, or what is no larger than any.
template <class T, class Join>
__device__ T block_reduce(T x, T (&scratch)[kCutWarps], const Join& join) {
  for (int step = 16; step > 0; step /= 2) x = join(x, __shfl_xor_sync(~0u, x, step));
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = scratch[threadIdx.x % 32];
  for (int step = 16; step > 0; step /= 2) x = join(x, __shfl_xor_sync(~0u, x, step));
  __syncthreads();
  return x;
}

struct ChooseShared {
  CutShared cut;
  float floats[kCutWarps];
  double doubles[kCutWarps];
};

// a: what the mean of the observed queries gives to the mean keys. `mean` has room for p.dim floats.
template <class T>
__device__ void estimate(const Work& w, ChooseShared& shared, float* mean, int h) {
  const Problem& p = w.p;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int d = threadIdx.x; d < p.dim; d += kCutThreads) {
    const int64_t stride = static_cast<int64_t>(p.heads) * p.dim;
    const T* q = static_cast<const T*>(p.q) + p.first_query() * stride + static_cast<int64_t>(h) * p.dim + d;
    float sum = 0.0f;
#pragma unroll 8
    for (int r = 0; r < p.rows; r++) sum += accel::cuda::to_float(q[r * stride]);
    mean[d] = sum / static_cast<float>(p.rows);
  }
  __syncthreads();
  float* out = w.pooled_of(h, 2);
  const float* keys = w.key_means + static_cast<int64_t>(h / p.group) * p.columns * p.dim;
  float most = kLowest;
  for (int j = warp; j < p.columns; j += kCutWarps) {
    float sum = 0.0f;
    for (int d = lane; d < p.dim; d += 32) sum = fmaf(mean[d], keys[static_cast<int64_t>(j) * p.dim + d], sum);
    sum = __shfl_sync(~0u, warp_tree_sum(sum), 0);
    if (lane == 0) out[j] = sum;
    most = fmaxf(most, sum * p.scale);
  }
  most = block_reduce(most, shared.floats, [](float a, float b) { return fmaxf(a, b); });
  float sum = 0.0f;
  for (int j = threadIdx.x; j < p.columns; j += kCutThreads) sum += exp2_fast(fmaf(out[j], p.scale, -most));
  sum = block_reduce(sum, shared.floats, [](float a, float b) { return a + b; });
  const float factor = 1.0f / sum;
  for (int j = threadIdx.x; j < p.columns; j += kCutThreads) out[j] = exp2_fast(fmaf(out[j], p.scale, -most)) * factor;
  __syncthreads();
}

// Square root of the Jensen-Shannon divergence of the estimate and the pooled vertical profile.
__device__ inline float divergence(const Work& w, ChooseShared& shared, int h) {
  const Problem& p = w.p;
  const float *a = w.pooled_of(h, 2), *v = w.pooled_of(h, 0);
  double sum = 0;
  int zeros = 0;
  for (int j = threadIdx.x; j < p.columns; j += kCutThreads) {
    const double x = a[j], y = v[j], mean = 0.5 * (x + y);
    if (!(x == 0)) sum += x * log(x / mean);
    if (!(y == 0)) sum += y * log(y / mean);
    zeros += x == 0 || y == 0;
  }
  sum = block_reduce(sum, shared.doubles, [](double a, double b) { return a + b; });
  if (__syncthreads_or(zeros) != 0 && p.compat) return NAN;
  // Rounding may leave less than nothing where the two agree.
  return static_cast<float>(sqrt(sum < 0 ? 0.0 : 0.5 * sum));
}

// The `number` best of a pooled profile, as bits; the forced one comes first.
__device__ void choose_set(const Work& w, ChooseShared& shared, int h, int which, int number) {
  const Problem& p = w.p;
  const float* profile = w.pooled_of(h, which);
  const int forced = which == 0 ? 0 : p.columns - 1;
  const auto key_at = [&](int64_t j) { return j == forced ? 0x7f800000u : key_of(profile[j]); };
  const Cut cut = block_cut<true>(shared.cut, p.columns, number, key_at, [](uint32_t) { return int64_t{1}; });
  uint32_t* bits = w.set_of(h, which);
  for (int word = threadIdx.x / 32; word < p.words; word += kCutWarps) {
    const int j = word * 32 + threadIdx.x % 32;
    const unsigned ballot = __ballot_sync(~0u, j < p.columns && cut.holds(key_at(j), j));
    if (threadIdx.x % 32 == 0) bits[word] = ballot;
  }
}

template <class T>
__global__ void __launch_bounds__(kCutThreads) choose(const Work w) {
  __shared__ ChooseShared shared;
  extern __shared__ float mean[];
  const Problem& p = w.p;
  const int h = blockIdx.x;
  Choice& choice = w.choices[h];
  estimate<T>(w, shared, mean, h);
  const float distance = divergence(w, shared, h);
  const bool aware = distance < p.tau;
  const int numbers[2] = {aware ? p.min_blocks : choice.numbers[0], aware ? p.min_blocks : choice.numbers[1]};
  __syncthreads();  // all have read them
  if (threadIdx.x == 0) {
    choice.aware = aware ? 1 : 0;
    choice.divergence = distance;
    choice.numbers[0] = numbers[0];
    choice.numbers[1] = numbers[1];
    choice.extra = 0;
  }
  for (int which = 0; which < 2; which++) choose_set(w, shared, h, which, numbers[which]);
}

}  // namespace

int launch_choose(const accel_call* call, const Work& w) {
  const cudaStream_t stream = accel::cuda::stream_of(call);
  count_profiles<<<dim3(w.p.heads, 2), kCutThreads, 0, stream>>>(w);
  if (accel::cuda::launched(call) != ACCEL_OK) return ACCEL_FAILED;
  return accel::cuda::with_float(call->args[kKv].kv->dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    choose<T><<<w.p.heads, kCutThreads, w.p.dim * sizeof(float), stream>>>(w);
    return accel::cuda::launched(call);
  });
}

}  // namespace accel_flexprefill
