// The attention kernels that exist once per instruction set level, and what they work on.
#ifndef ACCEL_CPU_ATTENTION_KERNELS_H
#define ACCEL_CPU_ATTENTION_KERNELS_H

#include <stddef.h>

#include "cpu/isa.h"
#include "cpu/ops/kv_rows.h"

namespace accel::cpu {

// Queries of one (sequence, kv head) against rows [k0, k1) of that head. The `group` query heads that read the kv head
// are worked on together: packed row r is query r / group, head r % group of the group.
struct AttentionBlock {
  Type type;              // of q, keys, values and out
  int head_dim;
  int group;
  int queries;
  const void* q;          // first query, first head of the group; heads are head_dim elements apart
  int64_t q_stride;       // elements between queries
  float scale;            // softmax scale times log2(e): logits are kept in base 2
  KvRows keys, values;
  // Query i sees the rows of [begin, end) that are at most last + i (if causal) and at least window_begin[i] (if there is
  // a window; never falls with i).
  bool causal;
  int64_t last, begin, end;
  const int32_t* window_begin;
  int64_t k0, k1;
  // Blocks of `list_tile` rows that are visible, a bit each (null: all); the block of the last query's own row always is.
  const uint32_t* listed;
  // Finished rows, or, if partial is set, what `combine` needs: per packed row the running maximum (base 2), the sum,
  // and unless scores_only the head_dim channels of the unnormalised output.
  void* out;
  int64_t out_stride;     // elements between queries
  float* lse;             // may be null
  int64_t lse_stride;
  float* partial;
  bool scores_only;
};

constexpr int list_tile = 128;

// Whether rows [tile, tile + list_tile) are among those that the block's queries see.
inline bool is_listed(const AttentionBlock& b, int64_t tile) {
  if (b.listed == nullptr || tile + list_tile > b.last + b.queries - 1) return true;
  return b.listed[tile / list_tile / 32] >> (tile / list_tile % 32) & 1;
}

constexpr int64_t partial_stride(int head_dim, bool scores_only) { return scores_only ? 2 : head_dim + 2; }

// The rows query i of the block sees; hi <= lo if none.
struct RowSpan {
  int64_t lo, hi;
};
inline RowSpan visible(const AttentionBlock& b, int64_t i) {
  int64_t lo = b.begin > b.k0 ? b.begin : b.k0, hi = b.end < b.k1 ? b.end : b.k1;
  if (b.causal && b.last + i + 1 < hi) hi = b.last + i + 1;
  if (b.window_begin != nullptr && b.window_begin[i] > lo) lo = b.window_begin[i];
  return {lo, hi};
}

// Joins the partial results of one block's packed rows over `splits` parts of the keys.
struct AttentionJoin {
  Type type;
  int head_dim, group, queries, splits;
  bool scores_only;
  const float* partial;   // [splits][queries * group][partial_stride]
  void* out;
  int64_t out_stride;
  float* lse;
  int64_t lse_stride;
};

enum class Reduce : int { none, mean, max, sum };

// Sums over queries of exp(logit - lse) for the keys [k0, k1) of one head, causal.
struct ColumnBlock {
  Type type;
  int head_dim;
  int group;
  int64_t queries;
  const void* q;
  int64_t q_stride;
  float scale;            // softmax scale times log2(e)
  const float* lse;       // natural logarithm; first query, first head of the group
  int64_t lse_stride;
  KvRows keys;
  int64_t last;           // last visible row of query 0
  const int32_t* window_begin;  // first visible row of every query, never falling; null: 0
  int64_t k0, k1;         // at most column_tile keys
  Reduce reduce;
  // A bit for each block of list_tile keys, [blocks of list_tile queries, heads, listed_stride words], of the group's first head:
  // only pairs in blocks whose bit is set, or that are on the diagonal, count. Null: all do.
  const uint32_t* listed;
  int64_t listed_stride, listed_heads;
  // Of these only columns [begin, end) are written. Those below add_below are added to what `out` holds.
  int64_t begin, end, add_below;
  float* out;             // row of the group's first head (none) or of the kv head; column 0
  int64_t out_stride;     // between the rows of a group
};

constexpr int column_tile = 256;

// One query against rows [k0, k1) of a kv head: exp(logit - lse) of the heads of the group, as one number for each row.
struct StepBlock {
  Type type;
  int head_dim;
  int group;
  const void* q;          // first head of the group; heads are head_dim elements apart
  float scale;            // softmax scale times log2(e)
  const float* lse;       // natural logarithm
  KvRows keys;
  int64_t k0, k1;
  Reduce reduce;          // not none
  float* out;             // [k1 - k0]
};

struct AttentionKernels {
  // Many rows: key tiles are packed once and used by all rows of the block.
  void (*tiled)(const AttentionBlock& block, float* workspace);
  size_t (*tiled_floats)(int head_dim, int rows);
  // Few rows (at most stream_rows): reads keys and values once, in place.
  void (*streamed)(const AttentionBlock& block, float* workspace);
  size_t (*streamed_floats)(int head_dim);
  void (*join)(const AttentionJoin& join);
  void (*columns)(const ColumnBlock& block, float* workspace);
  size_t (*column_floats)(int head_dim, int group);
  void (*step)(const StepBlock& block, float* workspace);
  size_t (*step_floats)(int head_dim, int group);
};

constexpr int stream_rows = 16;

extern const AttentionKernels attention_base;
#if defined(__x86_64__)
extern const AttentionKernels attention_avx2;
extern const AttentionKernels attention_avx512;
#endif

const AttentionKernels& attention_kernels();

}  // namespace accel::cpu
#endif
