// topk: the k best rows of every head's scores, as ascending row numbers (twin: cpu/ops/select.cc). take_columns reads the
// scores of such rows.
//
// Radix descent (descent.cuh) to the k-th best key by counting, then two passes in index order: each warp counts the
// keys above and equal to it in its part of the row, the sums over earlier warps say where its output begins, and the
// warp writes every key above and the first equal ones until k are found. Ties go to the lower row; NaN is an error.
// Five passes: the first reads memory, the others caches. A team of 8 multiprocessors takes 16 K scores each at 131072
// columns, which stay in L1.
#include "cuda/kernels.h"
#include "cuda/ops/descent.cuh"
#include "cuda/ops/vectors.cuh"

namespace accel::cuda {
namespace {

struct TopkArguments {
  int32_t* out;         // [H, k]
  const float* scores;  // [H, n]
  int64_t n, k;
  uint32_t flip;        // xor on keys: all ones for the smallest
  int32_t nan_check;
  accel_device_error* error;
};

__global__ void __launch_bounds__(team_threads) topk_kernel(const __grid_constant__ TopkArguments a) {
  __shared__ Histograms histograms;
  __shared__ uint64_t counts[team_warps];
  pdl_release();
  pdl_wait();
  const int64_t head = blockIdx.x / Team::ranks();
  const float* scores = a.scores + head * a.n;
  const Part part = part_of_warp(a.n);
  const int lane = threadIdx.x % 32;

  Descent descent(histograms);
  descent.begin();
  bool nan = false;
  for_each_score(scores, part, [&](float x, uint32_t) {
    nan |= x != x;
    descent.count(digit_of(key_of(x) ^ a.flip, 0));
  });
  if (nan) accel_report(a.error, a.nan_check, head, 0);
  if (a.k == 0) return;
  Crossing at = descent.cross(descent.sums(), 0, a.k, 0, digit_shift(0));
#pragma unroll
  for (int level = 1; level < 3; level++) {
    descent.begin();
    for_each_score(scores, part, [&](float x, uint32_t) {
      const uint32_t key = key_of(x) ^ a.flip;
      if ((key & known_mask(level)) == at.key) descent.count(digit_of(key, level));
    });
    at = descent.cross(descent.sums(), at.above, a.k, at.key, digit_shift(level));
  }

  // Keys above the k-th are all taken, `need` of the keys equal to it. Counts of both in one word.
  const int64_t need = a.k - (int64_t)at.above;
  uint64_t mine = 0;
  for_each_score(scores, part, [&](float x, uint32_t) {
    const uint32_t key = key_of(x) ^ a.flip;
    mine += key > at.key ? 1ull << 32 : key == at.key ? 1ull : 0ull;
  });
  for (int step = 16; step > 0; step /= 2) mine += __shfl_xor_sync(~0u, mine, step);
  const uint64_t before = team_exclusive_sum(mine, counts);
  int64_t above = (int64_t)(before >> 32), equal = (int64_t)(before & 0xffffffffu);
  if (mine != 0) {
    int32_t* out = a.out + head * a.k;
    const unsigned lower = (1u << lane) - 1;
    for (uint32_t base = part.begin; base < part.end; base += 32) {
      const uint32_t i = base + lane;
      const bool valid = i < part.end;
      const uint32_t key = valid ? key_of(scores[i]) ^ a.flip : 0;
      const unsigned is_above = __ballot_sync(~0u, valid && key > at.key);
      const unsigned is_equal = __ballot_sync(~0u, valid && key == at.key);
      const int64_t rank_equal = equal + __popc(is_equal & lower);
      const bool take = (is_above >> lane & 1) != 0 || ((is_equal >> lane & 1) != 0 && rank_equal < need);
      if (take) out[above + __popc(is_above & lower) + min(rank_equal, need)] = (int32_t)i;
      above += __popc(is_above);
      equal += __popc(is_equal);
    }
  }
  Team::sync();  // the others may still read this block's shared memory
}

// out:tensor i32[H,k], scores:tensor f32[H,n], k:int, largest:int
int topk(const accel_call* call) {
  const accel_tensor* scores = call->args[1].tensor;
  const int64_t heads = scores->shape[0], n = scores->shape[1];
  call->ran(call, "topk");
  if (heads == 0 || n == 0) return ACCEL_OK;
  TopkArguments a = {};
  a.out = data<int32_t>(call->args[0].tensor);
  a.scores = data<float>(scores);
  a.n = n;
  a.k = call->args[2].i;
  a.flip = call->args[3].i != 0 ? 0 : 0xffffffffu;
  a.nan_check = call->device_check(call, "ERR_ACCEL_NAN", "topk: the scores of head %lld contain NaN");
  a.error = call->device_error;
  launch_teams(call, topk_kernel, heads, team_blocks(call, heads, n), a);
  return launched(call);
}

// ---- take_columns  out:tensor f32[H,k], x:tensor f32[H,n], index:tensor i32[H,k]: one thread an element

__global__ void __launch_bounds__(256) take(float* out, const float* x, const int32_t* index, int64_t k, int64_t n,
                                            accel_device_error* error, int32_t check) {
  pdl_release();
  pdl_wait();
  const int64_t i = blockIdx.x * 256ll + threadIdx.x;
  if (i >= k) return;
  const int64_t at = blockIdx.y * k + i;
  const int32_t column = index[at];
  if (column < 0 || column >= n) {
    accel_report(error, check, at, column);
    return;
  }
  out[at] = x[blockIdx.y * n + column];
}

int take_columns(const accel_call* call) {
  const int64_t heads = dim(call, 0, 0), k = dim(call, 0, 1);
  const int32_t check =
      call->device_check(call, "ERR_ACCEL_ARGUMENT",
                         "take_columns: index, element %lld of the list, is %lld, which is not a column of x");
  call->ran(call, "take_columns");
  if (heads == 0 || k == 0) return ACCEL_OK;
  launch_pdl(call, take, dim3(static_cast<unsigned>(divide_up(k, 256)), static_cast<unsigned>(heads)), dim3(256), 0,
             data<float>(tensor(call, 0)), data<float>(tensor(call, 1)), data<int32_t>(tensor(call, 2)), k, dim(call, 1, 1),
             call->device_error, check);
  return launched(call);
}

const OpKernel kernels[] = {{"topk", topk}, {"take_columns", take_columns}};

}  // namespace

OpKernels select_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
