// The score product in fp32, for every dtype and head dimension (xattention_score.cuh). A block of threads makes 16
// rows x 128 columns, a thread one column; 32 channels of both sides are in shared memory at a time.
#include "xattention_score.cuh"

namespace accel_xattention {
namespace {

using namespace accel::cuda;

constexpr int kRows = 16, kChannels = 32;

template <class T>
__global__ void __launch_bounds__(kTile) score_tiles_plain(const Score p) {
  __shared__ float q[kChannels][kRows];
  __shared__ float k[kTile][kChannels + 1];
  __shared__ float scores[kRows][kTile + 1];
  const int tile = blockIdx.x, first = blockIdx.y * kRows, head = blockIdx.z, column = threadIdx.x;
  if (tile * kTile > p.last_row(first / kTile)) return;
  const int d = p.head_dim;
  const int64_t key_rows = static_cast<int64_t>(p.tiles) * kTile;

  float sum[kRows] = {};
  for (int slice = 0; slice < p.stride; slice++) {
    const T* from_q =
        static_cast<const T*>(p.q) + ((static_cast<int64_t>(head) * p.stride + slice) * p.slab_rows + first) * d;
    const T* from_k =
        static_cast<const T*>(p.k) +
        ((static_cast<int64_t>(head / p.group) * p.stride + slice) * key_rows + static_cast<int64_t>(tile) * kTile) * d;
    for (int begin = 0; begin < d; begin += kChannels) {
      const int channels = min(kChannels, d - begin);
      __syncthreads();
      for (int i = threadIdx.x; i < kRows * channels; i += kTile) {
        q[i % channels][i / channels] = to_float(from_q[i / channels * static_cast<int64_t>(d) + begin + i % channels]);
      }
      for (int i = threadIdx.x; i < kTile * channels; i += kTile) {
        k[i / channels][i % channels] = to_float(from_k[i / channels * static_cast<int64_t>(d) + begin + i % channels]);
      }
      __syncthreads();
      for (int c = 0; c < channels; c++) {
        const float key = k[column][c];
#pragma unroll
        for (int r = 0; r < kRows; r++) sum[r] = fmaf(q[c][r], key, sum[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; r++) scores[r][column] = sum[r];
  __syncthreads();

  const int lane = threadIdx.x % 32, g = kBlock / p.stride;
  for (int r = threadIdx.x / 32; r < kRows; r += kTile / 32) {
    const int row = first + r, visible = p.first_row + row - tile * kTile + 1;
    const int64_t at = (static_cast<int64_t>(head) * p.slab_rows + row) * p.tiles + tile;
    float top = -INFINITY;
    for (int c = lane; c < kTile; c += 32) {
      if (c < visible) top = fmaxf(top, scores[r][c]);
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
    top *= p.scale;
    if (lane == 0) p.tops[at] = top;
    const float shift = top == -INFINITY ? 0.f : -top;
    for (int c = lane; c < kTile; c += 32) {
      scores[r][c] = c < visible ? exp2_fast(fmaf(scores[r][c], p.scale, shift)) : 0.f;
    }
    __syncwarp();
    for (int b = lane; b < p.stride; b += 32) {
      float terms = 0;
      for (int c = 0; c < g; c++) terms += scores[r][b * g + c];
      p.sums[at * p.stride + b] = terms;
    }
  }
}

}  // namespace

int score_plain(const accel_call* call, const Score& p, accel_dtype dtype) {
  return with_float(dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    const dim3 grid(p.tiles, p.slab_rows / kRows, p.heads);
    score_tiles_plain<T><<<grid, kTile, 0, stream_of(call)>>>(p);
    return launched(call);
  });
}

}  // namespace accel_xattention
