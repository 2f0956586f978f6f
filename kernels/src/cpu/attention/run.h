// Runs attention over a batch: cuts it into blocks, spreads them over the threads, joins the parts.
#ifndef ACCEL_CPU_ATTENTION_RUN_H
#define ACCEL_CPU_ATTENTION_RUN_H

#include "accel/op.h"
#include "cpu/attention/kernels.h"

namespace accel::cpu {

struct AttentionRequest {
  const char* op;          // for messages
  const accel_kv* kv;
  Type type;
  int query_heads;
  const void* q;           // [T, query_heads, head_dim]
  const int32_t* lens;     // queries per sequence
  double scale;
  bool causal;
  int64_t window;          // in positions; 0: none
  const int32_t* ranges;   // null, or [begin, end) per sequence
  void* out;               // null: only lse
  float* lse;              // [T, query_heads] or null
};

int run_attention(const accel_call* call, const AttentionRequest& request);

// Which blocks of list_tile queries see which blocks of list_tile rows (op block_sparse_attention).
struct BlockMask {
  const uint32_t* words;   // [row blocks of all sequences, query heads, stride]; bit j % 32 of word j / 32: column j
  int64_t stride;
  int32_t* counts;         // [sequences, query heads], added to; or null
};

// Causal attention over listed blocks, of them those in the window; `ranges` of the request are not used.
int run_block_sparse(const accel_call* call, const AttentionRequest& request, const BlockMask& mask);

}  // namespace accel::cpu
#endif
