// The inner loops of kivi_attention on the CPU, once for each instruction set.
#ifndef ACCEL_KIVI_TILES_H
#define ACCEL_KIVI_TILES_H

#include "accel/op.h"
#include "kivi_layout.h"

namespace accel_kivi {

// Queries of one (sequence, kv head) against rows [begin, end) of that head. The heads that read the kv head are worked on
// together: packed row r is query r / group, head r % group of them.
struct AttendBlock {
  const accel_kv* kv;
  KiviLayout layout;
  int sequence, head, group, queries;
  const void* q;      // first query, first head of the group; heads are head_dim elements apart
  int64_t q_stride;   // elements between queries
  float scale;        // softmax scale times log2(e): logits are kept in base 2
  int64_t last;       // newest row that the first query sees
  const int32_t* windows;  // oldest row that each query sees; null: all
  int64_t begin, end;
  float* partial;     // by packed row: largest logit, sum of 2^(logit - largest), and head_dim channels weighted so
};

inline int64_t partial_floats(int head_dim) { return head_dim + 2; }

struct TileKernels {
  void (*attend)(const AttendBlock& block, float* workspace);
  int64_t (*workspace_floats)(const KiviLayout& layout, int rows);
};

extern const TileKernels tiles_base, tiles_avx2, tiles_avx512;

}  // namespace accel_kivi
#endif
