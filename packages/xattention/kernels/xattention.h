// What the ops of XAttention share: their arguments and the sizes of a call.
//
//   xattention_blocks   estimates the attention of every 128 x 128 block and chooses blocks (xattention_blocks.cc)
//   xattention_select   the choice alone, from estimates that are given (xattention_select.cc)
//
// Words: `stride` S tokens make a reduced row (of queries) or reduced column (of keys); a block has g = 128 / S of
// them.
#ifndef ACCEL_XATTENTION_H
#define ACCEL_XATTENTION_H

#include "accel/op.h"

namespace accel_xattention {

constexpr int kBlock = 128;  // tokens of a block
constexpr int kTile = 128;   // reduced columns that share one maximum; stride of them are blocks
constexpr int kFigures = 2;  // recall: mean over row blocks, and minimum
constexpr int64_t kMostColumns = 65536;

enum BlocksArgument { kMask, kFigureTable, kSums, kQ, kKv, kThresholds, kStride, kScale, kFirst };
enum SelectArgument { kSelectMask, kSelectRecall, kSelectSums, kSelectThresholds, kSelectRules };

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Sizes of a call; `o` is the prefix, n - m.
struct Sizes {
  int64_t m, n, o, heads, kv_heads, head_dim, stride;
  int64_t group;       // query heads of a kv head
  int64_t g;           // reduced rows of a block
  int64_t row_blocks;  // of the queries
  int64_t columns;     // blocks of keys
  int64_t words;       // of a mask row
  int64_t rows;        // reduced rows of the queries, the last one may be partial
  int64_t first_row;   // reduced row of the sequence where the queries begin
  int64_t tiles;       // column tiles

  explicit Sizes(const accel_call* call) {
    const accel_kv& kv = *call->args[kKv].kv;
    const accel_tensor& q = *call->args[kQ].tensor;
    m = q.shape[0];
    heads = q.shape[1];
    n = kv.head[0].rows;
    o = n - m;
    kv_heads = kv.heads;
    head_dim = kv.head_dim;
    stride = call->args[kStride].i;
    group = heads / kv_heads;
    g = kBlock / stride;
    row_blocks = ceil_div(m, kBlock);
    columns = ceil_div(n, kBlock);
    words = ceil_div(columns, 32);
    rows = ceil_div(m, stride);
    first_row = o / stride;
    tiles = ceil_div(ceil_div(n, stride), kTile);
  }
};

int blocks_check(const accel_call* call);
int blocks_cpu(const accel_call* call);
int select_check(const accel_call* call);
int select_cpu(const accel_call* call);

#if ACCEL_WITH_CUDA
int blocks_cuda(const accel_call* call);
int select_cuda(const accel_call* call);
#else
constexpr accel_op_fn blocks_cuda = nullptr;
constexpr accel_op_fn select_cuda = nullptr;
#endif

}  // namespace accel_xattention
#endif
