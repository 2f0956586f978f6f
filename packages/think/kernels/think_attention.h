// What the CUDA attention kernels work on.
#ifndef ACCEL_THINK_ATTENTION_H
#define ACCEL_THINK_ATTENTION_H

#include "accel/op.h"

namespace accel_think {

struct AttentionProblem {
  const accel_call* call;
  const accel_kv* kv;
  const void* q;
  void* out;
  float* lse;                  // or null
  const int32_t* query_begin;  // device [sequences + 1]: first packed query of each sequence
  int64_t queries;             // in all
  int longest;                 // most of a sequence
  int query_heads, group, channels;
  int window;                  // in positions; 0: none
  float scale;
};

// Anything: one warp a query, fp32.
int run_attention_any(const AttentionProblem& problem);  // think_attention_any.cu

}  // namespace accel_think
#endif
