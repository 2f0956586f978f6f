// The inner loops of xattention_blocks on the CPU, once for each instruction set.
#ifndef ACCEL_XATTENTION_TILES_H
#define ACCEL_XATTENTION_TILES_H

#include <stdint.h>

namespace accel_xattention {

constexpr int kTileRows = 32;   // reduced rows that are worked on together: whole blocks for every stride from 4 on
constexpr int kQueryLanes = 8;  // of these, rows side by side in memory
constexpr int kPanel = 32;      // reduced columns side by side in memory

// 32 reduced rows of one head against all reduced columns that any of them sees.
//
//   q     [4][depth][8]             packed queries, depth = stride * head_dim; tokens of a row in reversed order
//   keys  [columns / 32][depth][32] packed keys, in order, zeros behind the last
//   tops  [32][tiles]               by row and column tile: the largest visible logit, -inf if none is visible
//   sums  [32][tiles * stride]      by row and block: sum of 2^(logit - the tile's top)
//
// Logits have log2(e) in them. Row r is reduced row first_row + r of the sequence and sees columns up to its own
// number; rows from `rows` on are left out.
struct RowTile {
  const float* q;
  const float* keys;
  int64_t depth, first_row, rows, tiles;
  int stride;
  float scale;
  float* tops;
  float* sums;
  float* room;  // [32][128]
};

using ScoreRows = void (*)(const RowTile& tile);
extern const ScoreRows score_rows_base, score_rows_avx2, score_rows_avx512;

}  // namespace accel_xattention
#endif
