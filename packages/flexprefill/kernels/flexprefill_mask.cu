// The words of the mask, and the figures.
//
//   write_mask     a warp for each row of blocks and head: a lane a column. Columns of the vertical set are that set's bits;
//                  slash block u = columns - 1 - (diagonal - j), so that for a row the slash set's bits are shifted
//   widen_mask     for blocks of 64: a block of 128 is computed if any of its four is
//   write_figures  a warp for each head
#include "flexprefill_cut.cuh"

namespace accel_flexprefill {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

// 32 bits from bit `at` on; bits behind the last word are 0.
__device__ inline uint32_t bits_at(const uint32_t* words, int count, int at) {
  const int word = at / 32;
  const uint32_t low = word < count ? words[word] : 0u, high = word + 1 < count ? words[word + 1] : 0u;
  return __funnelshift_r(low, high, at % 32);
}

__global__ void __launch_bounds__(kThreads) write_mask(const Work w) {
  const Problem& p = w.p;
  const int i = blockIdx.x * kWarps + threadIdx.x / 32, h = blockIdx.y, lane = threadIdx.x % 32;
  if (i >= p.row_blocks) return;
  const int diagonal = p.offset + i;
  const uint32_t *columns = w.set_of(h, 0), *slashes = w.set_of(h, 1);
  const bool aware = w.choices[h].aware != 0;
  const Cut cut = {w.choices[h].cut_key, w.choices[h].cut_last, 0};
  const float* entries = w.entries_of(h) + static_cast<int64_t>(i) * p.columns;
  int32_t* out = w.fine + (static_cast<int64_t>(i) * p.heads + h) * p.words;
  int extra = 0;
  for (int word = 0; word < p.words; word++) {
    const int rest = diagonal - word * 32;  // the last column of this row, within the word
    if (rest < 0) {
      if (lane == 0) out[word] = 0;
      continue;
    }
    const uint32_t visible = rest >= 31 ? ~0u : (2u << rest) - 1;
    uint32_t bits = (columns[word] | bits_at(slashes, p.words, word * 32 + p.columns - 1 - diagonal)) & visible;
    if (aware) {
      const bool in = lane <= rest &&
                      cut.holds(key_of(entries[word * 32 + lane]), static_cast<int64_t>(i) * p.columns + word * 32 + lane);
      const uint32_t added = __ballot_sync(~0u, in) & ~bits;
      extra += __popc(added);
      bits |= added;
    }
    if (lane == 0) out[word] = static_cast<int32_t>(bits);
  }
  if (lane == 0 && extra > 0) atomicAdd(&w.choices[h].extra, extra);
}

// Bits 0, 2, 4, .. of x next to each other.
__device__ inline uint32_t even_bits(uint32_t x) {
  x &= 0x55555555u;
  x = (x | x >> 1) & 0x33333333u;
  x = (x | x >> 2) & 0x0f0f0f0fu;
  x = (x | x >> 4) & 0x00ff00ffu;
  return (x | x >> 8) & 0x0000ffffu;
}

__global__ void __launch_bounds__(kThreads) widen_mask(const Work w, int rows, int words) {
  const Problem& p = w.p;
  const int64_t at = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (at >= static_cast<int64_t>(rows) * p.heads * words) return;
  const int word = static_cast<int>(at % words), h = static_cast<int>(at / words % p.heads);
  const int i = static_cast<int>(at / words / p.heads);
  uint32_t bits = 0;
  for (int part = 0; part < 2; part++) {
    const int from = 2 * word + part;
    uint32_t any = 0;
    for (int row = 2 * i; row < min(2 * i + 2, p.row_blocks) && from < p.words; row++) {
      any |= static_cast<uint32_t>(w.fine[(static_cast<int64_t>(row) * p.heads + h) * p.words + from]);
    }
    bits |= even_bits(any | any >> 1) << (16 * part);
  }
  p.mask[at] = static_cast<int32_t>(bits);
}

__global__ void __launch_bounds__(32) write_figures(const Work w, int rows, int words) {
  const Problem& p = w.p;
  const int h = blockIdx.x, ratio = kTile / p.block;
  const int32_t* row = p.mask + (static_cast<int64_t>(rows - 1) * p.heads + h) * words;
  const float* vertical = w.pooled_of(h, 0);
  float sum = 0.0f;
  for (int j = threadIdx.x; j < p.columns; j += 32) {
    const int wide = j / ratio;
    if (static_cast<uint32_t>(row[wide / 32]) >> (wide % 32) & 1u) sum += vertical[j];
  }
  sum = warp_tree_sum(sum);
  if (threadIdx.x != 0) return;
  const Choice& choice = w.choices[h];
  float* figures = p.figures + h * kFigureCount;
  figures[kRecall] = sum;
  figures[kQueryAware] = choice.aware != 0 ? 1.0f : 0.0f;
  figures[kDivergence] = choice.divergence;
  figures[kVerticalBlocks] = static_cast<float>(choice.numbers[0]);
  figures[kSlashBlocks] = static_cast<float>(choice.numbers[1]);
  if (p.counts == nullptr) return;
  int32_t* counts = p.counts + h * kCountCount;
  counts[kCountV] = choice.counts[0];
  counts[kCountW] = choice.counts[1];
  counts[kNumberV] = choice.numbers[0];
  counts[kNumberS] = choice.numbers[1];
  counts[kAware] = choice.aware;
  counts[kExtra] = choice.extra;
}

}  // namespace

int launch_mask(const accel_call* call, const Work& w) {
  const cudaStream_t stream = accel::cuda::stream_of(call);
  const Problem& p = w.p;
  const int rows = (p.m + kTile - 1) / kTile, words = (p.tiles + 31) / 32;
  write_mask<<<dim3((p.row_blocks + kWarps - 1) / kWarps, p.heads), kThreads, 0, stream>>>(w);
  if (accel::cuda::launched(call) != ACCEL_OK) return ACCEL_FAILED;
  if (p.block != kTile) {
    const int64_t all = static_cast<int64_t>(rows) * p.heads * words;
    widen_mask<<<static_cast<unsigned>((all + kThreads - 1) / kThreads), kThreads, 0, stream>>>(w, rows, words);
    if (accel::cuda::launched(call) != ACCEL_OK) return ACCEL_FAILED;
  } else if (p.fine != nullptr) {
    const size_t bytes = static_cast<size_t>(rows) * p.heads * words * sizeof(int32_t);
    cudaMemcpyAsync(p.fine, p.mask, bytes, cudaMemcpyDeviceToDevice, stream);
  }
  write_figures<<<p.heads, 32, 0, stream>>>(w, rows, words);
  return accel::cuda::launched(call);
}

}  // namespace accel_flexprefill
