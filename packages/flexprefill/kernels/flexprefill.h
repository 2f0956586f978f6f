// flexprefill_blocks: which blocks of a prompt's attention FlexPrefill computes (Lai et al., ICLR 2025, arXiv
// 2502.20766, section 3). This file: the arguments, as all of its versions read them.
//
//   mask      i32 [⌈m/128⌉, Hq, ⌈⌈n/128⌉/32⌉]  bit j % 32 of word j / 32: block column j of 128 keys is computed
//   figures   f32 [Hq, 5]        share of the observed attention inside the mask's last row, query-aware (0, 1),
//                                divergence, vertical blocks, slash blocks
//   fine      i32 [⌈m/B⌉, Hq, ⌈⌈n/B⌉/32⌉]?     the same in blocks of B = `block`; `mask` computes what any of these does
//   counts    i32 [Hq, 6]?       tokens c(v), c(w); blocks nv, ns; query-aware; blocks that step 11 added (of B)
//   profiles  f32 [Hq, 3, ⌈n/B⌉]?  pooled vertical profile, pooled slash profile, pooled-key estimate
//   q         [m, Hq, D]         the last m of n positions; n - m is a multiple of 128
//   kv                           one sequence, all heads with n rows
//   min_budget, max_budget       in blocks of B, of vertical and of slash blocks each
//   compat                       1: an exact zero makes the divergence NaN, as in the original; 0: 0 ln 0 = 0
//
// Steps, for each query head; steps 1 to 4 look at the last R = min(B, m) queries only:
//   1  A[r, s] = softmax over s of scale q_r k_s, causal
//   2  v[s] = Σ_r A[r, s] / R,   w[t] = Σ_r A[r, t + r - (R - 1)] / R, so that t is the distance n - 1 - t
//   3  c(x) = 1 + number of entries, largest first, whose running sum does not exceed gamma;  n(x) = c(x) / 128 + 1
//   4  sums of v and w over blocks; a = softmax over blocks of scale mean(q) mean(k); query-aware iff JSD(a, v) < tau
//   5  vertical set: column 0 and the nv - 1 best; slash set: the diagonal and the ns - 1 best
//   6  query-aware heads: nv = ns = min_budget, and of E = softmax over blocks of scale mean(q_i) mean(k_j), causal, the
//      largest entries whose running sum does not exceed gamma times the rows
// Selection adds in fixed point (x 2^40, 64 bits): sums do not depend on their order. Equal values: lower index first.
#ifndef ACCEL_FLEXPREFILL_H
#define ACCEL_FLEXPREFILL_H

#include <math.h>

#include "accel/op.h"

namespace accel_flexprefill {

enum {
  kMask,
  kFigures,
  kFine,
  kCounts,
  kProfiles,
  kQ,
  kKv,
  kScale,
  kGamma,
  kTau,
  kMinBudget,
  kMaxBudget,
  kBlock,
  kCompat
};
enum { kRecall, kQueryAware, kDivergence, kVerticalBlocks, kSlashBlocks, kFigureCount };
enum { kCountV, kCountW, kNumberV, kNumberS, kAware, kExtra, kCountCount };

constexpr int kTile = 128;         // keys that are worked on together, and the edge of the mask's blocks
constexpr int kCountDivisor = 128; // of step 3, whatever B is, as in the original
constexpr int kFixedBits = 40;

struct Problem {
  int m, n, heads, kv_heads, group, dim;
  int block;       // B
  int rows;        // R
  int row_blocks;  // of the queries
  int columns;     // blocks of keys
  int words;       // of a row of `fine`
  int offset;      // block column of the first row's diagonal
  int tiles;       // of kTile keys
  float scale;     // times log2(e): logits are kept in base 2
  double tau;
  int64_t goal;    // gamma in fixed point
  int64_t goal_blocks;  // gamma times row_blocks
  int min_blocks, max_blocks;
  bool compat;
  int32_t *mask, *fine, *counts;
  float *figures, *profiles;
  const void* q;

  // The first of the observed queries, and the newest key that it sees.
  constexpr int first_query() const { return m - rows; }
  constexpr int first_visible() const { return n - rows; }
};

template <class T>
inline T* data_of(const accel_arg& arg) {
  return arg.tensor == nullptr ? nullptr
                               : reinterpret_cast<T*>(static_cast<uint8_t*>(arg.tensor->data) + arg.tensor->byte_offset);
}

inline Problem problem_of(const accel_call* call) {
  const accel_arg* a = call->args;
  const accel_tensor* q = a[kQ].tensor;
  const accel_kv& kv = *a[kKv].kv;
  Problem p = {};
  p.m = static_cast<int>(q->shape[0]);
  p.n = kv.head[0].rows;
  p.heads = static_cast<int>(q->shape[1]);
  p.kv_heads = kv.heads;
  p.group = p.heads / p.kv_heads;
  p.dim = kv.head_dim;
  p.block = static_cast<int>(a[kBlock].i);
  p.rows = p.m < p.block ? p.m : p.block;
  p.row_blocks = (p.m + p.block - 1) / p.block;
  p.columns = (p.n + p.block - 1) / p.block;
  p.words = (p.columns + 31) / 32;
  p.offset = (p.n - p.m) / p.block;
  p.tiles = (p.n + kTile - 1) / kTile;
  p.scale = static_cast<float>(a[kScale].f * 1.4426950408889634);
  p.tau = a[kTau].f;
  p.goal = static_cast<int64_t>(floor(ldexp(a[kGamma].f, kFixedBits)));
  p.goal_blocks = static_cast<int64_t>(floor(ldexp(a[kGamma].f * p.row_blocks, kFixedBits)));
  const int64_t most = a[kMaxBudget].i < p.columns ? a[kMaxBudget].i : p.columns;
  const int64_t least = a[kMinBudget].i < p.columns ? a[kMinBudget].i : p.columns;
  p.min_blocks = static_cast<int>(least);
  p.max_blocks = static_cast<int>(most);
  p.compat = a[kCompat].i != 0;
  p.mask = data_of<int32_t>(a[kMask]);
  p.fine = data_of<int32_t>(a[kFine]);
  p.counts = data_of<int32_t>(a[kCounts]);
  p.figures = data_of<float>(a[kFigures]);
  p.profiles = data_of<float>(a[kProfiles]);
  p.q = data_of<void>(a[kQ]);
  return p;
}

int flexprefill_cpu(const accel_call* call);   // flexprefill_cpu.cc
#if ACCEL_WITH_CUDA
int flexprefill_cuda(const accel_call* call);  // flexprefill.cu
#else
constexpr accel_op_fn flexprefill_cuda = nullptr;
#endif

}  // namespace accel_flexprefill
#endif
