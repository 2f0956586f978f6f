// Query-aware heads (step 6 of flexprefill.h): E = softmax over block columns of scale mean(q_i) mean(k_j), and its cut.
//
//   multiply_means  64 x 64 dot products a block of 256 threads, 4 x 4 a thread, channels in ascending order; fp32
//   normalise       a block for each row; columns beyond the diagonal become 0
//   cut_rows        a block for each head, over all of its entries
//
// All are launched for all heads and leave at once where a head is not query-aware.
#include "flexprefill_cut.cuh"
#include "flexprefill_tile.cuh"

namespace accel_flexprefill {
namespace {

constexpr int kThreads = 256, kEdge = 64, kChannels = 16, kSide = 4;

__global__ void __launch_bounds__(kThreads) multiply_means(const Work w) {
  __shared__ float q[kChannels][kEdge + 4], k[kChannels][kEdge + 4];
  const Problem& p = w.p;
  const int h = blockIdx.z, row = blockIdx.y * kEdge, column = blockIdx.x * kEdge;
  // Nothing to do beyond the last row's diagonal.
  if (!w.choices[h].aware || column > p.offset + min(row + kEdge, p.row_blocks) - 1) return;
  const float* queries = w.query_means + static_cast<int64_t>(h) * p.row_blocks * p.dim;
  const float* keys = w.key_means + static_cast<int64_t>(h / p.group) * p.columns * p.dim;
  const int channel = threadIdx.x % kChannels;
  float s[kSide][kSide] = {};
  for (int d = 0; d < p.dim; d += kChannels) {
    for (int i = threadIdx.x / kChannels; i < kEdge; i += kThreads / kChannels) {
      const bool there = d + channel < p.dim;
      q[channel][i] = there && row + i < p.row_blocks ? queries[static_cast<int64_t>(row + i) * p.dim + d + channel] : 0.0f;
      k[channel][i] = there && column + i < p.columns ? keys[static_cast<int64_t>(column + i) * p.dim + d + channel] : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int c = 0; c < kChannels; c++) {
      float a[kSide], b[kSide];
#pragma unroll
      for (int i = 0; i < kSide; i++) a[i] = q[c][threadIdx.x / 16 * kSide + i];
#pragma unroll
      for (int j = 0; j < kSide; j++) b[j] = k[c][threadIdx.x % 16 * kSide + j];
#pragma unroll
      for (int i = 0; i < kSide; i++) {
#pragma unroll
        for (int j = 0; j < kSide; j++) s[i][j] = fmaf(a[i], b[j], s[i][j]);
      }
    }
    __syncthreads();
  }
  float* out = w.entries + static_cast<int64_t>(h) * p.row_blocks * p.columns;
  for (int i = 0; i < kSide; i++) {
    const int r = row + threadIdx.x / 16 * kSide + i;
    for (int j = 0; j < kSide; j++) {
      const int c = column + threadIdx.x % 16 * kSide + j;
      if (r < p.row_blocks && c < p.columns) out[static_cast<int64_t>(r) * p.columns + c] = s[i][j];
    }
  }
}

constexpr int kRowThreads = 128, kRowWarps = kRowThreads / 32;

template <class Join>
__device__ float reduce_row(float x, float (&scratch)[kRowWarps], const Join& join) {
  for (int step = 16; step > 0; step /= 2) x = join(x, __shfl_xor_sync(~0u, x, step));
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = scratch[0];
  for (int i = 1; i < kRowWarps; i++) x = join(x, scratch[i]);
  __syncthreads();
  return x;
}

__global__ void __launch_bounds__(kRowThreads) normalise(const Work w) {
  __shared__ float scratch[kRowWarps];
  const Problem& p = w.p;
  const int i = blockIdx.x, h = blockIdx.y, seen = p.offset + i + 1;
  if (!w.choices[h].aware) return;
  float* row = w.entries + (static_cast<int64_t>(h) * p.row_blocks + i) * p.columns;
  float most = kLowest, sum = 0.0f;
  for (int j = threadIdx.x; j < seen; j += kRowThreads) most = fmaxf(most, row[j] * p.scale);
  most = reduce_row(most, scratch, [](float a, float b) { return fmaxf(a, b); });
  for (int j = threadIdx.x; j < seen; j += kRowThreads) sum += exp2_fast(fmaf(row[j], p.scale, -most));
  sum = reduce_row(sum, scratch, [](float a, float b) { return a + b; });
  const float factor = 1.0f / sum;
  for (int j = threadIdx.x; j < p.columns; j += kRowThreads) {
    row[j] = j < seen ? exp2_fast(fmaf(row[j], p.scale, -most)) * factor : 0.0f;
  }
}

__global__ void __launch_bounds__(kCutThreads) cut_rows(const Work w) {
  __shared__ CutShared shared;
  const Problem& p = w.p;
  const int h = blockIdx.x;
  if (!w.choices[h].aware) return;
  const float* entries = w.entries_of(h);
  const Cut cut = block_cut<true>(
      shared, static_cast<int64_t>(p.row_blocks) * p.columns, p.goal_blocks,
      [&](int64_t at) { return key_of(entries[at]); }, [](uint32_t k) { return fixed_of(k); });
  if (threadIdx.x == 0) {
    w.choices[h].cut_key = cut.key;
    w.choices[h].cut_last = cut.last;
  }
}

}  // namespace

int launch_rows(const accel_call* call, const Work& w) {
  const cudaStream_t stream = accel::cuda::stream_of(call);
  const Problem& p = w.p;
  const dim3 tiles((p.columns + kEdge - 1) / kEdge, (p.row_blocks + kEdge - 1) / kEdge, p.heads);
  multiply_means<<<tiles, kThreads, 0, stream>>>(w);
  if (accel::cuda::launched(call) != ACCEL_OK) return ACCEL_FAILED;
  normalise<<<dim3(p.row_blocks, p.heads), kRowThreads, 0, stream>>>(w);
  if (accel::cuda::launched(call) != ACCEL_OK) return ACCEL_FAILED;
  cut_rows<<<p.heads, kCutThreads, 0, stream>>>(w);
  return accel::cuda::launched(call);
}

}  // namespace accel_flexprefill
