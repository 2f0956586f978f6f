// The choice of blocks on CUDA, of many rows at a time.
#ifndef ACCEL_XATTENTION_SELECT_CUH
#define ACCEL_XATTENTION_SELECT_CUH

#include "accel/cuda.cuh"
#include "xattention.h"

namespace accel_xattention {

// Row r of a call has columns [0, columns) at sums + r * columns.
struct SelectRows {
  const float* sums;
  const double* thresholds;
  int columns, words;

  // Rows of xattention_select: a rule each. Null: the rows below.
  const int32_t* rules;  // [rows][2]
  float* recall32;       // [rows]

  // Rows of xattention_blocks: blocks [first_block, first_block + blocks) of each head. Their sums are
  // [heads][sum_blocks][columns] from block `sums_first` on.
  int heads, blocks, first_block, row_blocks;
  int sum_blocks, sums_first;
  int offset;       // diagonal of block 0
  int first_chunk;  // diagonals below follow the published rule for the first chunk
  double* recall;   // [heads][row_blocks]

  uint32_t* mask;  // [row blocks][heads][words], or [rows][words]
};

int select_rows(const accel_call* call, const SelectRows& rows, int64_t count);

}  // namespace accel_xattention
#endif
