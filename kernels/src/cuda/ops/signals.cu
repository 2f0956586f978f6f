// observe_scores, column_sums on CUDA: how much attention each cached row received. Signatures and checks: cpu/ops/signals.cc.
//
//   column_sums     c[h, j] = sum over T queries of exp(logit - lse)      signals_columns.cuh, signals_any.cuh
//   observe_scores  the same over the last w queries, after their lse     signals_lse.cuh, or the reference attention
// reduce over the query heads of a kv head: 0 none, 1 mean, 2 max, 3 sum (of the sums over queries).
//
// The number of rows n is out's extent, which is part of what a captured graph is recognised by; rows themselves are
// found through the device's tables.
#include "cuda/attention/attention.h"
#include "cuda/kernels.h"
#include "cuda/ops/signals_any.cuh"
#include "cuda/ops/signals_columns.cuh"
#include "cuda/ops/signals_lse.cuh"

namespace accel::cuda {
namespace {

bool tensor_cores(const accel_call* call, const accel_tensor* q, const accel_kv& kv) {
  const auto aligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  return call->capability >= 80 && q->dtype.bits == 16 && (kv.head_dim == 64 || kv.head_dim == 128) &&
         aligned(data(q)) && aligned(kv.base) && kv.page_bytes % 16 == 0;
}

template <class T, int D>
void columns_sm80(const accel_call* call, const Columns& p, int kv_heads, int tiles) {
  constexpr int bytes = ColumnLayout<D>::bytes;
  cudaFuncSetAttribute(column_sums_sm80<T, D>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  // Early keys are seen by the most queries: ascending order is heaviest first.
  const dim3 grid(kv_heads * (p.group / p.block_heads), tiles);
  launch_pdl(call, column_sums_sm80<T, D>, grid, dim3(sm80_threads), bytes, p);
}

int sum_columns(const accel_call* call, const accel_tensor* q, const float* lse, const accel_kv& kv, double scale,
                Reduce reduce) {
  const accel_tensor* out = call->args[0].tensor;
  Columns p = {};
  p.q = data(q);
  p.lse = lse;
  p.pages = kv_pages(kv);
  p.n = static_cast<int>(out->shape[1]);
  p.queries = static_cast<int>(q->shape[0]);
  p.query_heads = static_cast<int>(q->shape[1]);
  p.group = p.query_heads / kv.heads;
  p.block_heads = p.group;
  p.scale = static_cast<float>(scale);
  p.reduce = reduce;
  if (p.n == 0) return ACCEL_OK;
  if (p.queries == 0) {
    cudaMemsetAsync(data(out), 0, elements(out) * sizeof(float), stream_of(call));
    return launched(call);
  }

  const bool fast = tensor_cores(call, q, kv);
  const int tiles = (p.n + sm80_rows - 1) / sm80_rows;
  // Few keys and many queries: a block per query head, so that there are blocks enough. Reading K again is cheap then.
  const bool alone = !fast || (p.queries > sm80_step && tiles * kv.heads < 4 * call->multiprocessors);
  const bool joins = alone && p.group > 1 && reduce != Reduce::none;
  float* result = data<float>(out);
  p.out = result;
  if (alone) {
    p.block_heads = 1;
    p.reduce = Reduce::none;             // with one head a group, every reduction is the sum itself
  }
  if (joins) p.out = static_cast<float*>(call->scratch(call, sizeof(float) * p.n * p.query_heads));

  const int status = with_float(q->dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    if (!fast) {
      const size_t bytes = any_bytes(kv.head_dim);
      const dim3 grid((p.n + any_keys - 1) / any_keys, p.query_heads);
      launch_pdl(call, column_sums_any<T>, grid, dim3(32 * any_warps), bytes, p, kv.head_dim);
    } else if constexpr (sizeof(T) == 2) {
      if (kv.head_dim == 64) {
        columns_sm80<T, 64>(call, p, kv.heads, tiles);
      } else {
        columns_sm80<T, 128>(call, p, kv.heads, tiles);
      }
    }
    return launched(call);
  });
  if (status != ACCEL_OK || !joins) return status;
  launch_pdl(call, join_heads, dim3((p.n + 255) / 256, kv.heads), dim3(256), 0, p.out, result, p.n, p.group, reduce);
  return launched(call);
}

template <class T, int D>
void lse_sm80(const accel_call* call, const LseParts& p, dim3 grid) {
  constexpr int bytes = LseLayout<D>::bytes;
  cudaFuncSetAttribute(lse_parts_sm80<T, D>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  launch_pdl(call, lse_parts_sm80<T, D>, grid, dim3(sm80_threads), bytes, p);
}

// lse of all queries, on tensor cores, keys split over blocks.
int lse_of_last(const accel_call* call, const accel_tensor* q, const accel_kv& kv, double scale, int n, float* lse) {
  LseParts p = {};
  p.q = data(q);
  p.pages = kv_pages(kv);
  p.n = n;
  p.queries = static_cast<int>(q->shape[0]);
  p.query_heads = static_cast<int>(q->shape[1]);
  p.group = p.query_heads / kv.heads;
  p.scale = static_cast<float>(scale);

  // About three blocks a multiprocessor at once, twice over; at least 512 keys a split.
  const int64_t row_blocks = (static_cast<int64_t>(p.group) * p.queries + sm80_rows - 1) / sm80_rows;
  const int64_t blocks = row_blocks * kv.heads, wanted = (6 * call->multiprocessors + blocks - 1) / blocks;
  const int steps = (n + sm80_step - 1) / sm80_step;
  p.split_steps = static_cast<int>(steps / wanted);
  if (p.split_steps < 8) p.split_steps = 8;
  const int splits = (steps + p.split_steps - 1) / p.split_steps;
  const int64_t rows = static_cast<int64_t>(p.queries) * p.query_heads;
  p.parts = static_cast<float2*>(call->scratch(call, sizeof(float2) * splits * rows));

  const dim3 grid(static_cast<unsigned>(row_blocks), kv.heads, splits);
  const int status = with_float(q->dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    if constexpr (sizeof(T) == 2) {
      if (kv.head_dim == 64) {
        lse_sm80<T, 64>(call, p, grid);
      } else {
        lse_sm80<T, 128>(call, p, grid);
      }
    }
    return launched(call);
  });
  if (status != ACCEL_OK) return status;
  launch_pdl(call, lse_join, dim3(static_cast<unsigned>((rows + 255) / 256)), dim3(256), 0, p.parts, lse, p.queries,
             p.query_heads, splits);
  return launched(call);
}

int lse_reference(const accel_call* call, const accel_tensor* q, const accel_kv& kv, double scale, float* lse) {
  const int32_t begin[2] = {0, static_cast<int32_t>(q->shape[0])};
  AttentionProblem problem = {};
  problem.call = call;
  problem.kv = &kv;
  problem.pages = kv_pages(kv);
  problem.dtype = q->dtype;
  problem.head_dim = kv.head_dim;
  problem.query_heads = static_cast<int>(q->shape[1]);
  problem.group = problem.query_heads / kv.heads;
  problem.q = data(q);
  problem.lse = lse;
  problem.lens = &begin[1];
  problem.query_begin = static_cast<const int32_t*>(call->upload(call, begin, sizeof begin));
  problem.queries = problem.max_len = begin[1];
  problem.scale = static_cast<float>(scale);
  problem.causal = true;
  return run_attention_reference(problem);
}

// out:tensor f32[Hs,n], q:tensor[w,Hq,d], kv:kv, scale:float, reduce:int
int observe_scores(const accel_call* call) {
  const accel_tensor* q = call->args[1].tensor;
  const accel_kv& kv = *call->args[2].kv;
  const double scale = call->args[3].f;
  const int n = static_cast<int>(call->args[0].tensor->shape[1]);
  float* lse = nullptr;
  if (q->shape[0] > 0) {
    lse = static_cast<float*>(call->scratch(call, sizeof(float) * q->shape[0] * q->shape[1]));
    const int status = tensor_cores(call, q, kv) && scale > 0 ? lse_of_last(call, q, kv, scale, n, lse)
                                                               : lse_reference(call, q, kv, scale, lse);
    if (status != ACCEL_OK) return status;
  }
  const int status = sum_columns(call, q, lse, kv, scale, static_cast<Reduce>(call->args[4].i));
  if (status == ACCEL_OK) call->ran(call, "observe_scores");
  return status;
}

// out:tensor f32[Hs,n], q:tensor[T,Hq,d], lse:tensor f32[T,Hq], kv:kv, scale:float, reduce:int
int column_sums(const accel_call* call) {
  const int status = sum_columns(call, call->args[1].tensor, data<float>(call->args[2].tensor), *call->args[3].kv,
                                 call->args[4].f, static_cast<Reduce>(call->args[5].i));
  if (status == ACCEL_OK) call->ran(call, "column_sums");
  return status;
}

const OpKernel kernels[] = {{"observe_scores", observe_scores}, {"column_sums", column_sums}};

}  // namespace

OpKernels signal_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
