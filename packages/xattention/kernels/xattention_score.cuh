// The score product on CUDA: what its three kernels share.
//
// A slab is a number of reduced rows that are worked on at a time, a multiple of 128. Queries and keys are packed first
// (xattention_blocks.cu), so that the antidiagonal sums are a plain product of depth stride * D:
//
//   q  [heads][stride][slab rows][D]            row r of slice t: the slab's token r S + S - 1 - t, zeros behind the last
//   k  [kv heads][stride][tiles * 128][D]       row c of slice t: token c S + t, zeros behind the last
//   T[r, c] = sum over t of q[h][t][r] . k[h / group][t][c]
//
// T is never stored. Of each tile of 128 columns a row leaves its largest visible logit, -inf if none is visible, and
// for each block of g = 128 / S columns the sum of 2^(logit - that maximum):
//
//   tops  [heads][slab rows][tiles]
//   sums  [heads][slab rows][tiles * S]
//
// Logits have log2(e) in them. Row r sees columns up to its own number in the sequence, first_row + r. Tiles that no
// row of a 128-row tile sees are neither computed nor written.
#ifndef ACCEL_XATTENTION_SCORE_CUH
#define ACCEL_XATTENTION_SCORE_CUH

#include "accel/mma.cuh"
#include "xattention.h"

namespace accel_xattention {

struct Score {
  const void* q;
  const void* k;
  float* tops;
  float* sums;
  int heads, group, stride, head_dim;
  int slab_rows, row_tiles;  // row_tiles = slab_rows / 128
  int tiles;                 // of columns
  int first_row;             // of the slab, in the sequence
  float scale;               // with log2(e)

  __host__ __device__ int last_row(int row_tile) const { return first_row + row_tile * kTile + kTile - 1; }
  // Items of `width` column tiles that a row tile sees.
  __host__ __device__ int items(int row_tile, int width) const {
    const int all = (tiles + width - 1) / width, seen = last_row(row_tile) / (width * kTile) + 1;
    return all < seen ? all : seen;
  }
  // Items of all heads of a group.
  __host__ __device__ int group_items(int width) const {
    int n = 0;
    for (int r = 0; r < row_tiles; r++) n += items(r, width);
    return n * group;
  }
};

struct Item {
  int head, kv_head, row_tile, column_tile;  // the first of its column tiles
};

// Items run group by group, row tile by row tile, column by column; the heads of a group are neighbours, because they
// read the same keys. All cost the same.
__device__ inline Item item_of(const Score& p, int number, int group_items, int width) {
  Item item;
  item.kv_head = number / group_items;
  int rest = number - item.kv_head * group_items;
  item.row_tile = 0;
  for (int n; rest >= (n = p.items(item.row_tile, width) * p.group); item.row_tile++) rest -= n;
  item.column_tile = rest / p.group * width;
  item.head = item.kv_head * p.group + rest % p.group;
  return item;
}

// Finishes two rows, `row` and `row` + 8 of the slab, of a tile of 128 columns. Register 4 c + 2 h + e of a lane is T
// of row + 8 h and column 8 c + 2 (lane % 4) + e: the accumulators of mma.m16n8k16 and of wgmma. The four lanes of a
// row work together.
__device__ inline void finish_tile(const Score& p, const float (&t)[64], int head, int row, int tile, int lane) {
  using namespace accel::cuda;
  const int quarter = lane % 4, stride = p.stride, g = kBlock / stride;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const int64_t at = (static_cast<int64_t>(head) * p.slab_rows + row + 8 * h) * p.tiles + tile;
    // Columns of this lane below `visible` are seen; in terms of its own first column.
    const int visible = p.first_row + row + 8 * h - tile * kTile + 1 - 2 * quarter;
    float top = -INFINITY;
#pragma unroll
    for (int i = 0; i < 32; i++) {
      const int column = i / 2 * 8 + i % 2;
      if (column < visible) top = fmaxf(top, t[i / 2 * 4 + 2 * h + i % 2]);
    }
    top = quad_max(top) * p.scale;
    if (quarter == 0) p.tops[at] = top;
    const float shift = top == -INFINITY ? 0.f : -top;
    const auto pair = [&](int c) {
      float sum = 0;
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const float x = exp2_fast(fmaf(t[4 * c + 2 * h + e], p.scale, shift));
        sum += 8 * c + e < visible ? x : 0.f;
      }
      return sum;
    };
    float* out = p.sums + at * stride;
    if (g >= 8) {
      // A block is 1, 2 or 4 column groups; four blocks in a row are stored by the four lanes.
      const int groups = g / 8;
      float sum = 0, mine = 0;
      int block = 0;
#pragma unroll
      for (int c = 0; c < 16; c++) {
        sum += pair(c);
        if (((c + 1) & (groups - 1)) != 0) continue;
        const float all = quad_sum(sum);
        sum = 0;
        if (block % 4 == quarter) mine = all;
        if (block % 4 == 3) out[block - 3 + quarter] = mine;
        block++;
      }
    } else {
#pragma unroll
      for (int c = 0; c < 16; c++) {
        float sum = pair(c);
        if (g == 4) {
          sum += __shfl_xor_sync(~0u, sum, 1);
          if (quarter % 2 == 0) out[2 * c + quarter / 2] = sum;
        } else {
          out[4 * c + quarter] = sum;
        }
      }
    }
  }
}

// T: __nv_bfloat16 or __half, D 64 or 128. The plain one takes float and any D too.
int score_sm90(const accel_call* call, const Score& p, bool bfloat);
int score_sm80(const accel_call* call, const Score& p, bool bfloat);
int score_plain(const accel_call* call, const Score& p, accel_dtype dtype);
bool sm90_available();

}  // namespace accel_xattention
#endif
