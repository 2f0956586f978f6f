// What both versions of the profile kernels do with a tile of logits in shared memory or with the sums of a split.
#ifndef ACCEL_FLEXPREFILL_TILE_CUH
#define ACCEL_FLEXPREFILL_TILE_CUH

#include "accel/mma.cuh"
#include "flexprefill_work.cuh"

namespace accel_flexprefill {

using accel::cuda::exp2_fast;

// Elements between rows of a tile of probabilities: rows 8 banks apart, so that the eight rows that a store of mma
// fragments touches lie in different banks, and so do the columns of a row.
constexpr int kPitch = kTile + 8;

// The largest logit of row r over all splits, and 1 / Σ 2^(logit - largest). Rows that are not there have weight 0.
__device__ inline float2 join_statistics(const Work& w, int h, int r) {
  if (r >= w.p.rows) return {0.0f, 0.0f};
  const float2* from = w.statistics + static_cast<int64_t>(h) * w.splits * kTile + r;
  float most = kLowest, sum = 0.0f;
  for (int i = 0; i < w.splits; i++) most = fmaxf(most, from[i * kTile].x);
  for (int i = 0; i < w.splits; i++) sum += from[i * kTile].y * exp2f(from[i * kTile].x - most);
  return {most, 1.0f / sum};
}

// Sums of a tile of probabilities [rows][kPitch] over rows, in ascending order, by threads x = 0 .. kTile - 1: thread x has
// column x and the diagonals x and x + kTile. Of each row it needs one entry for the two diagonals: the column c = x + r
// - (rows - 1), which when it is negative stands for c + kTile on the second one.
__device__ inline void sum_tile(const Work& w, const float* tile, int h, int t, int x) {
  const int rows = w.p.rows;
  float column = 0.0f, own = 0.0f, next = 0.0f;
#pragma unroll 8
  for (int r = 0; r < rows; r++) {
    const int c = x + r - (rows - 1);
    const float y = tile[r * kPitch + (c & (kTile - 1))];
    column += tile[r * kPitch + x];
    own += c < 0 ? 0.0f : y;
    next += c < 0 ? y : 0.0f;
  }
  w.vertical[h * w.padded() + static_cast<int64_t>(t) * kTile + x] = column / static_cast<float>(rows);
  float* diagonals = w.diagonals + (static_cast<int64_t>(h) * w.p.tiles + t) * 2 * kTile;
  diagonals[x] = own;
  diagonals[kTile + x] = next;
}

}  // namespace accel_flexprefill
#endif
