// observe_scores, column_sums on CUDA: how much attention each cached row received. Signatures and checks: cpu/ops/signals.cc.
//
//   column_sums     c[h, j] = sum over T queries of exp(logit - lse)      signals_{sm90.cu,columns.cuh,any.cuh}
//   observe_scores  the same over the last w queries, after their lse     signals_lse.cuh, or the reference attention
// reduce over the query heads of a kv head: 0 none, 1 mean, 2 max, 3 sum (of the sums over queries).
//
// column_sums has [begin, end) columns or all of them, written, or added to what out holds (accumulate: the prompt comes
// in chunks, whose own rows are new). It reads the number of rows on the device; out may be wider. That of observe_scores
// is out's extent, which is part of what a captured graph is recognised by.
#include <stdlib.h>

#include <string_view>

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
  const auto kernel = p.window > 0 ? column_sums_sm80<T, D, true> : column_sums_sm80<T, D, false>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  // Early keys are seen by the most queries: ascending order is heaviest first.
  const dim3 grid(kv_heads * (p.group / p.block_heads), tiles);
  launch_pdl(call, kernel, grid, dim3(sm80_threads), bytes, p);
}

// Kernels for column sums, the slowest first.
enum class Path { any, sm80, sm90 };

// The fastest that can do it, or an earlier one that ACCEL_CUDA_COLUMNS names (any | sm80 | sm90).
Path choose(const accel_call* call, const Columns& p, const accel_tensor* q, const accel_kv& kv) {
  constexpr int few = 128;               // queries that do not pay for filling the pipeline
  const char* name = getenv("ACCEL_CUDA_COLUMNS");
  const std::string_view wanted(name == nullptr ? "" : name);
  if (p.queries == 0 || !tensor_cores(call, q, kv) || wanted == "any") return Path::any;
  // Hopper's kernel has two columns of a mask in a tile, and no windows; with either the other one is fast enough.
  if (p.mask != nullptr && p.begin % sm80_rows != 0) return Path::any;
  if (p.mask != nullptr || p.window > 0 || !columns_sm90_supports(call, p, kv) || wanted == "sm80") return Path::sm80;
  return p.queries >= few || wanted == "sm90" ? Path::sm90 : Path::sm80;
}

// The sums of `columns` columns from p.begin on.
int launch_columns(const accel_call* call, const Columns& p, const accel_tensor* q, const accel_kv& kv, int columns,
                   Path path) {
  if (path == Path::sm90) return run_columns_sm90(call, p, kv, columns);
  return with_float(q->dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    if (path == Path::any) {
      const dim3 grid((columns + any_keys - 1) / any_keys, p.query_heads);
      launch_pdl(call, column_sums_any<T>, grid, dim3(32 * any_warps), any_bytes(kv.head_dim), p, kv.head_dim);
    } else if constexpr (sizeof(T) == 2) {
      const int tiles = (columns + sm80_rows - 1) / sm80_rows;
      if (kv.head_dim == 64) {
        columns_sm80<T, 64>(call, p, kv.heads, tiles);
      } else {
        columns_sm80<T, 128>(call, p, kv.heads, tiles);
      }
    }
    return launched(call);
  });
}

int sum_columns(const accel_call* call, const accel_tensor* q, const float* lse, const accel_kv& kv, double scale,
                Reduce reduce, int window, bool accumulate = false, accel_ints range = {}, const accel_tensor* mask = nullptr,
                Path* ran = nullptr) {
  const accel_tensor* out = call->args[0].tensor;
  Columns p = {};
  p.q = data(q);
  p.lse = lse;
  p.pages = kv_pages(kv);
  p.out = data<float>(out);
  p.stride = out->shape[1];
  p.queries = static_cast<int>(q->shape[0]);
  p.query_heads = static_cast<int>(q->shape[1]);
  p.group = p.query_heads / kv.heads;
  p.block_heads = p.group;
  p.scale = static_cast<float>(scale);
  p.reduce = reduce;
  p.window = window;
  p.accumulate = accumulate;
  if (mask != nullptr) {
    p.mask = data<const uint32_t>(mask);
    if (mask->shape[2] > UINT16_MAX) {
      return call->fail(call, "ERR_ACCEL_SHAPE", "column_sums: a mask of %lld words is too wide; %d are enough for %lld rows",
                        static_cast<long long>(mask->shape[2]), UINT16_MAX, UINT16_MAX * 32ll * 128);
    }
    p.mask_words = static_cast<uint16_t>(mask->shape[2]);
  }
  // As many rows as there may be when this is replayed: out has room for them.
  const int most = static_cast<int>(p.stride < kv.row_limit ? p.stride : kv.row_limit);
  p.end = most;
  if (range.size == 2) {
    p.begin = range.data[0] > 0 ? range.data[0] : 0;
    p.end = range.data[1] < most ? range.data[1] : most;
  }
  const int columns = p.end - p.begin;
  if (columns <= 0) return ACCEL_OK;

  const Path path = choose(call, p, q, kv);
  if (ran != nullptr) *ran = path;
  // Few keys and many queries: a block per query head, so that there are blocks enough. Reading K again is cheap then.
  const int keys = path == Path::sm90 ? sm90_keys : sm80_rows, blocks = (columns + keys - 1) / keys * kv.heads;
  const bool alone = path == Path::any || (p.queries > sm80_step && blocks < 4 * call->multiprocessors) ||
                     (path == Path::sm90 && reduce != Reduce::mean && reduce != Reduce::sum);
  if (!alone || p.group == 1 || reduce == Reduce::none) {
    if (alone) {
      p.block_heads = 1;
      p.reduce = Reduce::none;           // with one head a group, every reduction is the sum itself
    }
    return launch_columns(call, p, q, kv, columns, path);
  }
  Columns heads = p;                     // sums of every query head, to be joined
  heads.out = static_cast<float*>(call->scratch(call, sizeof(float) * most * p.query_heads));
  heads.stride = most;
  heads.block_heads = 1;
  heads.reduce = Reduce::none;
  heads.accumulate = false;
  if (launch_columns(call, heads, q, kv, columns, path) != ACCEL_OK) return ACCEL_FAILED;
  launch_pdl(call, join_heads, dim3((columns + 255) / 256, kv.heads), dim3(256), 0, p, heads.out, heads.stride);
  return launched(call);
}

template <class T, int D>
void lse_sm80(const accel_call* call, const LseParts& p, dim3 grid) {
  constexpr int bytes = LseLayout<D>::bytes;
  cudaFuncSetAttribute(lse_parts_sm80<T, D>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  launch_pdl(call, lse_parts_sm80<T, D>, grid, dim3(sm80_threads), bytes, p);
}

// lse of all queries, on tensor cores, keys split over blocks.
int lse_of_last(const accel_call* call, const accel_tensor* q, const accel_kv& kv, double scale, int window, int n,
                float* lse) {
  LseParts p = {};
  p.q = data(q);
  p.pages = kv_pages(kv);
  p.n = n;
  p.queries = static_cast<int>(q->shape[0]);
  p.query_heads = static_cast<int>(q->shape[1]);
  p.group = p.query_heads / kv.heads;
  p.window = window;
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

int lse_reference(const accel_call* call, const accel_tensor* q, const accel_kv& kv, double scale, int window,
                  float* lse) {
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
  problem.window = window;
  return run_attention_reference(problem);
}

// out:tensor f32[Hs,n], q:tensor[w,Hq,d], kv:kv, scale:float, reduce:int, window:int
int observe_scores(const accel_call* call) {
  const accel_tensor* q = call->args[1].tensor;
  const accel_kv& kv = *call->args[2].kv;
  const double scale = call->args[3].f;
  const int window = window_of(call->args[5]);
  const int n = static_cast<int>(call->args[0].tensor->shape[1]);
  float* lse = nullptr;
  if (q->shape[0] > 0) {
    lse = static_cast<float*>(call->scratch(call, sizeof(float) * q->shape[0] * q->shape[1]));
    const int status = tensor_cores(call, q, kv) && scale > 0 ? lse_of_last(call, q, kv, scale, window, n, lse)
                                                               : lse_reference(call, q, kv, scale, window, lse);
    if (status != ACCEL_OK) return status;
  }
  const int status = sum_columns(call, q, lse, kv, scale, static_cast<Reduce>(call->args[4].i), window);
  if (status == ACCEL_OK) call->ran(call, "observe_scores");
  return status;
}

// out:tensor f32[Hs,m], q:tensor[T,Hq,d], lse:tensor f32[T,Hq], kv:kv, scale:float, reduce:int, accumulate:int, ranges:ints,
// mask:tensor? i32[R,Hq,W], window:int
int column_sums(const accel_call* call) {
  Path path = Path::any;
  const int status = sum_columns(call, call->args[1].tensor, data<float>(call->args[2].tensor), *call->args[3].kv,
                                 call->args[4].f, static_cast<Reduce>(call->args[5].i), window_of(call->args[9]),
                                 call->args[6].i != 0, call->args[7].ints, call->args[8].tensor, &path);
  if (status == ACCEL_OK) call->ran(call, path == Path::sm90 ? "column_sums_sm90" : "column_sums");
  return status;
}

const OpKernel kernels[] = {{"observe_scores", observe_scores}, {"column_sums", column_sums}};

}  // namespace

OpKernels signal_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
