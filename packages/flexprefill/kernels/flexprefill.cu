// flexprefill_blocks on CUDA. Nothing waits for the device: what a head decides (its pattern, its sets) stays there, and
// kernels that only query-aware heads need are launched for all heads and end at once for the others.
//
//   means of keys      per block of keys and kv head
//   statistics         logits of the observed queries: largest and sum of every row (flexprefill_mma.cu; in fp32 and for
//   profiles           other head dims flexprefill_profiles.cu), then again as probabilities: sums over columns, diagonals
//   choose             counts, pooled profiles, pattern, the two sets
//   means of queries   query-aware heads: block means, their products with the means of keys, softmax over a row, the cut
//   rows
//   mask               words, then figures
//
// Sums have a fixed order and no atomic adds a float, so a mask is the same in every run.
#include "flexprefill_work.cuh"

namespace accel_flexprefill {
namespace {

template <class E>
E* scratch(const accel_call* call, int64_t n) {
  return static_cast<E*>(call->scratch(call, static_cast<size_t>(n > 0 ? n : 1) * sizeof(E)));
}

Work work_of(const accel_call* call) {
  Work w = {};
  w.p = problem_of(call);
  const Problem& p = w.p;
  const int64_t heads = p.heads, padded = static_cast<int64_t>(p.tiles) * kTile;
  w.pages = accel::cuda::kv_pages(*call->args[kKv].kv);
  // Of the length alone, so that a row's sums are made in one order on every device: 32 splits and more, of 32 tiles at most.
  w.span = p.tiles <= 32 ? 1 : p.tiles >= 1024 ? 32 : p.tiles / 32;
  w.splits = (p.tiles + w.span - 1) / w.span;
  w.statistics = scratch<float2>(call, heads * w.splits * kTile);
  w.vertical = scratch<float>(call, heads * padded);
  w.diagonals = scratch<float>(call, heads * padded * 2);
  w.slash = scratch<float>(call, heads * padded);
  w.key_means = scratch<float>(call, static_cast<int64_t>(p.kv_heads) * p.columns * p.dim);
  w.query_means = scratch<float>(call, heads * p.row_blocks * p.dim);
  w.entries = scratch<float>(call, heads * p.row_blocks * p.columns);
  w.pooled = p.profiles != nullptr ? p.profiles : scratch<float>(call, heads * 3 * p.columns);
  w.sets = scratch<uint32_t>(call, heads * 2 * p.words);
  w.choices = scratch<Choice>(call, heads);
  w.fine = p.block == kTile ? p.mask
           : p.fine != nullptr ? p.fine
                               : scratch<int32_t>(call, heads * p.row_blocks * p.words);
  return w;
}

}  // namespace

int flexprefill_cuda(const accel_call* call) {
  const Work w = work_of(call);
  const bool mma = mma_supports(call, w);
  call->ran(call, "flexprefill_blocks");
  call->ran(call, mma ? "flexprefill_mma" : "flexprefill_plain");
  if (launch_means_of_keys(call, w) != ACCEL_OK) return ACCEL_FAILED;
  if ((mma ? launch_profiles_mma(call, w) : launch_profiles(call, w)) != ACCEL_OK) return ACCEL_FAILED;
  if (launch_choose(call, w) != ACCEL_OK) return ACCEL_FAILED;
  if (launch_means_of_queries(call, w) != ACCEL_OK) return ACCEL_FAILED;
  if (launch_rows(call, w) != ACCEL_OK) return ACCEL_FAILED;
  return launch_mask(call, w);
}

}  // namespace accel_flexprefill
