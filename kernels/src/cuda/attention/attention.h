// What the attention kernels work on, and the ladder of kernels that attention.cu chooses from.
//
// Packed queries q [T, Hq, d]; query head h of sequence b reads kv head h / group. With n rows in that head and m
// queries in the sequence, query i sees row j if j <= n - m + i (causal: bottom-right), position(j) >
// position(n - m + i) - window (window > 0; ADR 0017) and begin <= j < end (ranges). out = softmax(scale q K^T) V; lse is
// the natural logarithm of the sum of exp of the scaled logits. Nothing visible: out 0, lse -inf.
#ifndef ACCEL_CUDA_ATTENTION_H
#define ACCEL_CUDA_ATTENTION_H

#include "accel/cuda.cuh"

namespace accel::cuda {

// Which key tiles a block of queries visits, in which order. Dense (row_ptr null): every tile with a visible row, the
// diagonal first, then downwards. Sparse prefill gives a list per (row block, head) instead, in compressed rows,
// diagonal first: the loops ask for the i-th tile and do not know the difference. A list names tiles of `list_tile`
// keys for blocks of `list_tile` queries. Row blocks start anew with each sequence and are numbered through the batch
// (ceil(lens[b] / list_tile) of sequence b); the tiles of head h in block r of that numbering are
//   columns[row_ptr[r * query_heads + h] .. row_ptr[r * query_heads + h + 1])
// each once, and the rows that a query sees are those of the listed tiles that it would see without a list.
struct KeyTiles {
  const int32_t* row_ptr;  // device [row blocks * query_heads + 1], or null: dense
  const int32_t* columns;  // device
};
constexpr int list_tile = 128;

struct AttentionProblem {
  const accel_call* call;
  const accel_kv* kv;        // host descriptor: geometry, host row counts, row_limit
  KvPages pages;             // device view
  accel_dtype dtype;         // of q, out and the cache
  int head_dim;
  int query_heads;
  int group;                 // query heads per kv head
  const void* q;
  void* out;
  float* lse;                // or null
  const int32_t* lens;       // host: queries of each sequence
  const int32_t* query_begin;  // device [sequences + 1]: first packed query of each sequence
  int64_t queries;           // total
  int max_len;               // longest entry of lens
  float scale;
  bool causal;
  int window;                // in positions; 0: none
  const int32_t* ranges;     // device [begin, end) per sequence, or null
  bool gaps;                 // some head has a gap (host view; a graph is replayed only while this holds)
  KeyTiles tiles;
};

// Each kernel says whether it can do a problem and runs it; `run_*` returns ACCEL_OK or fails the op, and calls
// call->ran with its name.
bool decode_supports(const AttentionProblem& problem);     // few queries a sequence: split keys, heads packed
int run_attention_decode(const AttentionProblem& problem);
bool sm90_supports(const AttentionProblem& problem);       // wgmma and TMA, warp specialised
int run_attention_sm90(const AttentionProblem& problem);
bool sm80_supports(const AttentionProblem& problem);       // mma.sync and cp.async
int run_attention_sm80(const AttentionProblem& problem);
int run_attention_reference(const AttentionProblem& problem);  // anything: one warp a query, fp32

// Runs the first of these that supports the problem, or the one that ACCEL_CUDA_ATTENTION names.
int run_attention(const AttentionProblem& problem);

}  // namespace accel::cuda
#endif
