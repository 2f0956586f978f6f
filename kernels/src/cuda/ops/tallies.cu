// tally_add, tally_step, tally_read, tally_write: the numbers that follow a cached row in its record (ADR 0013).
//
// A record is 1 + tallies words of 4 bytes: position, tallies. New rows begin at 0 (kv_append, rope_append); what is
// counted is the attention that rows receive, as in H2O (Zhang et al. 2023, arXiv:2306.14048).
//   tally_add    tally += column sums of a prompt, reduced over the query heads of a kv head where they are apart
//   tally_step   the same for one query per sequence, straight from the keys: tallies.cuh
//   tally_read, tally_write   to and from a tensor
// All but tally_step have one thread a row. Rows are counted on the device, grids come from the row limit.
#include "cuda/kernels.h"
#include "cuda/ops/tallies.cuh"
#include "cuda/ops/vectors.cuh"

namespace accel::cuda {
namespace {

constexpr int threads = 256;

// ---- tally_add  kv:kv, sums:tensor f32[Hs,m], tally:int, reduce:int

// `group`: rows of sums for a kv head; `counted`: how many of them count.
__global__ void __launch_bounds__(threads)
    add_sums(const __grid_constant__ KvPages kv, const float* sums, int64_t width, int group, int counted, int tally,
             Reduce reduce) {
  pdl_release();
  pdl_wait();
  const accel_kv_head& head = kv.at(0, blockIdx.y);
  const int row = static_cast<int>(blockIdx.x) * threads + static_cast<int>(threadIdx.x);
  if (row >= head.rows || row >= width) return;
  const float* at = sums + static_cast<int64_t>(blockIdx.y) * group * width + row;
  double x = at[0];
  for (int h = 1; h < counted; h++) x = join<double>(reduce, x, at[h * width]);
  float* to = kv.tally(head, row, tally);
  *to += static_cast<float>(reduce == Reduce::mean ? x / counted : x);
}

int tally_add(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  const int64_t heads = dim(call, 1, 0), width = dim(call, 1, 1);
  const Reduce reduce = static_cast<Reduce>(call->args[3].i);
  const int group = static_cast<int>(heads / kv.heads);
  const int64_t most = width < kv.row_limit ? width : kv.row_limit;
  call->ran(call, "tally_add");
  if (most == 0) return ACCEL_OK;
  launch_pdl(call, add_sums, dim3(static_cast<unsigned>(divide_up(most, threads)), static_cast<unsigned>(kv.heads)),
             dim3(threads), 0, kv_pages(kv), data<float>(tensor(call, 1)), width, group,
             reduce == Reduce::first ? 1 : group, static_cast<int>(call->args[2].i), reduce);
  return launched(call);
}

// ---- tally_step  kv:kv, q:tensor[B,Hq,d], lse:tensor f32[B,Hq], scale:float, tally:int, reduce:int, accumulate:int,
//                  ranges:ints, window:int

// Blocks for each (sequence, kv head): a tile a warp while that leaves no multiprocessor with more than 4 blocks, then
// more tiles a warp, 32 at most so that one long sequence in a batch is still spread out.
dim3 step_grid(const accel_call* call, const accel_kv& kv, int rows_a_block) {
  const int64_t pairs = static_cast<int64_t>(kv.sequences) * kv.heads, need = divide_up(kv.row_limit, rows_a_block);
  const int64_t fit = divide_up(4ll * call->multiprocessors, pairs), least = divide_up(need, 32);
  const int64_t most = fit > least ? fit : least;
  return dim3(static_cast<unsigned>(need < most ? need : most), static_cast<unsigned>(pairs));
}

bool tensor_cores(const accel_call* call, const accel_tensor* q, const accel_kv& kv) {
  return call->capability >= 80 && q->dtype.bits == 16 && (kv.head_dim == 64 || kv.head_dim == 128) &&
         aligned({data(q), kv.base}, {kv.page_bytes}, 16);
}

int tally_step(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  const accel_tensor* q = tensor(call, 1);
  const accel_ints ranges = call->args[7].ints;
  TallyStep a = {};
  a.pages = kv_pages(kv);
  a.q = data(q);
  a.lse = data<float>(tensor(call, 2));
  a.query_heads = static_cast<int>(q->shape[1]);
  a.group = a.query_heads / kv.heads;
  a.scale = static_cast<float>(call->args[3].f);
  a.tally = static_cast<int>(call->args[4].i);
  a.reduce = static_cast<Reduce>(call->args[5].i);
  a.counted = a.reduce == Reduce::first ? 1 : a.group;
  if (a.reduce == Reduce::first) a.reduce = Reduce::sum;  // of one
  a.accumulate = call->args[6].i != 0;
  a.window = window_of(call->args[8]);
  call->ran(call, "tally_step");
  if (kv.sequences == 0 || kv.row_limit == 0) return ACCEL_OK;
  if (ranges.size > 0) {
    a.ranges = static_cast<const int32_t*>(
        call->upload(call, ranges.data, static_cast<size_t>(ranges.size) * sizeof(int32_t)));
  }
  a.settled = tables_settled(call) && a.window == 0;

  const bool fast = tensor_cores(call, q, kv);
  return with_float(q->dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    const dim3 block(32 * tally_warps);
    if (!fast) {
      launch_pdl(call, tally_step_any<T>, step_grid(call, kv, tally_warps), block, 0, a, kv.head_dim);
    } else if constexpr (sizeof(T) == 2) {
      const auto kernel = kv.head_dim == 64 ? tally_step_mma<T, 64> : tally_step_mma<T, 128>;
      launch_pdl(call, kernel, step_grid(call, kv, tally_warps * tally_tile), block, 0, a);
    }
    return launched(call);
  });
}

// ---- tally_read  out:tensor f32[Hk,n], kv:kv, tally:int, first:int, last:int

__global__ void __launch_bounds__(threads)
    read_tallies(float* out, const __grid_constant__ KvPages kv, int64_t n, int tally, int64_t first, int64_t last) {
  pdl_release();
  pdl_wait();
  const accel_kv_head& head = kv.at(0, blockIdx.y);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (row >= n || row >= head.rows) return;
  out[blockIdx.y * n + row] =
      row < first || row >= n - last ? INFINITY : *kv.tally(head, static_cast<int>(row), tally);
}

int tally_read(const accel_call* call) {
  const accel_kv& kv = *call->args[1].kv;
  const int64_t n = dim(call, 0, 1);
  call->ran(call, "tally_read");
  if (n == 0) return ACCEL_OK;
  launch_pdl(call, read_tallies, dim3(static_cast<unsigned>(divide_up(n, threads)), static_cast<unsigned>(kv.heads)),
             dim3(threads), 0, data<float>(tensor(call, 0)), kv_pages(kv), n, static_cast<int>(call->args[2].i),
             call->args[3].i, call->args[4].i);
  return launched(call);
}

// ---- tally_write  kv:kv, values:tensor f32[Hk,n], tally:int

__global__ void __launch_bounds__(threads)
    write_tallies(const __grid_constant__ KvPages kv, const float* values, int64_t n, int tally) {
  pdl_release();
  pdl_wait();
  const accel_kv_head& head = kv.at(0, blockIdx.y);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (row < n && row < head.rows) *kv.tally(head, static_cast<int>(row), tally) = values[blockIdx.y * n + row];
}

int tally_write(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  const int64_t n = dim(call, 1, 1);
  call->ran(call, "tally_write");
  if (n == 0) return ACCEL_OK;
  launch_pdl(call, write_tallies, dim3(static_cast<unsigned>(divide_up(n, threads)), static_cast<unsigned>(kv.heads)),
             dim3(threads), 0, kv_pages(kv), data<float>(tensor(call, 1)), n, static_cast<int>(call->args[2].i));
  return launched(call);
}

const OpKernel kernels[] = {{"tally_add", tally_add},
                            {"tally_step", tally_step},
                            {"tally_read", tally_read},
                            {"tally_write", tally_write}};

}  // namespace

OpKernels tally_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
