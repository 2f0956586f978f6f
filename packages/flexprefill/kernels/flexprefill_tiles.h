// The inner loops of flexprefill_blocks on the CPU, once for each instruction set.
#ifndef ACCEL_FLEXPREFILL_TILES_H
#define ACCEL_FLEXPREFILL_TILES_H

#include "flexprefill.h"

namespace accel_flexprefill {

struct TileKernels {
  // out[r][c] = Σ_d a[r][d] b[d][c]: `rows` rows of `dim` and a tile of kTile columns. Rows of out are `pitch` apart.
  void (*product)(float* out, int64_t pitch, const float* a, const float* b, int rows, int dim);
  // A row's largest element times scale, and Σ 2^(scale x - that). Elements of -inf count nothing.
  void (*statistics)(const float* x, int64_t count, float scale, float* largest, float* sum);
  // x = 2^(scale x - largest) * factor
  void (*exponentials)(float* x, int64_t count, float scale, float largest, float factor);
  // Sums of a tile [rows][kTile] over its rows: of column c, and of diagonal e = c - r + rows - 1. r ascends in each.
  void (*sums)(const float* tile, int rows, float* column, float* diagonal);
};

extern const TileKernels tiles_base, tiles_avx2, tiles_avx512;

// A largest element that no logit reaches, for rows that see nothing: -inf - -inf would be NaN.
constexpr float kLowest = -1e30f;

}  // namespace accel_flexprefill
#endif
