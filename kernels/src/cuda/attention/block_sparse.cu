// The op block_sparse_attention on CUDA: turns a mask of bits into lists of tiles (KeyTiles) and runs the dense loops over
// them. Definition, signature and checks: cpu/ops/block_sparse.cc.
//
// Lists are made in three launches, with counts that never leave the device: tiles of each (row block, head), a warp each;
// their running sums, one block of threads; the columns, a warp each, in descending order. So the diagonal comes first, which
// is the tile with a mask, and the loops visit keys from the diagonal down as they do without a list.
#include <vector>

#include "cuda/attention/attention.h"
#include "cuda/kernels.h"

namespace accel::cuda {
namespace {

enum { kOut, kLse, kCounts, kQ, kKv, kLens, kMask, kScale, kWindow };

constexpr int kThreads = 256, kWarps = kThreads / 32, kScanThreads = 1024;

struct Lists {
  const uint32_t* mask;        // [row blocks, query heads, words]
  const int32_t* query_begin;  // [sequences + 1]
  KvPages pages;
  int32_t* row_ptr;            // [rows + 1]; first the number of tiles of each row, then their running sums
  int32_t* columns;
  int32_t* counts;             // [sequences, query heads] or null
  int64_t rows;                // row blocks * query heads
  int32_t words;
  int32_t query_heads;
  int32_t group;
  int32_t window;
};

// The sequence of a row block, the column in which its window begins, and that of its diagonal.
struct RowBlock {
  int sequence;
  int first;
  int diagonal;
};
__device__ RowBlock find_row_block(const Lists& p, int64_t row) {
  int64_t number = row / p.query_heads;
  int b = 0;
  for (;; b++) {
    const int blocks = (p.query_begin[b + 1] - p.query_begin[b] + list_tile - 1) / list_tile;
    if (number < blocks) break;
    number -= blocks;
  }
  const accel_kv_head& head = p.pages.at(b, static_cast<int>(row % p.query_heads) / p.group);
  const int own = head.rows - (p.query_begin[b + 1] - p.query_begin[b]) + static_cast<int>(number) * list_tile;
  return {b, p.pages.window_begin(head, own, p.window) / list_tile, own / list_tile};
}

// Word w of a row with the diagonal set and cleared the future and what lies before the window.
__device__ uint32_t visible_word(const uint32_t* row, int w, const RowBlock& block) {
  const int from = block.first - w * 32, at = block.diagonal - w * 32;
  if (at < 0 || from >= 32) return 0;
  const uint32_t word = from > 0 ? row[w] & ~0u << from : row[w];
  return at < 32 ? (word & ((2u << at) - 1)) | 1u << at : word;
}

__global__ void __launch_bounds__(kThreads) count_tiles(const Lists p) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= p.rows) return;
  const RowBlock block = find_row_block(p, row);
  const uint32_t* words = p.mask + row * p.words;
  int count = 0;
  for (int w = threadIdx.x % 32; w < p.words; w += 32) count += __popc(visible_word(words, w, block));
  count = __reduce_add_sync(~0u, count);
  if (threadIdx.x % 32 != 0) return;
  p.row_ptr[row + 1] = count;
  if (row == 0) p.row_ptr[0] = 0;
  // Integers: the order of the additions does not matter.
  if (p.counts != nullptr) atomicAdd(p.counts + block.sequence * p.query_heads + row % p.query_heads, count);
}

__global__ void __launch_bounds__(kScanThreads) sum_rows(int32_t* row_ptr, int64_t rows) {
  __shared__ int32_t warps[kScanThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int32_t before = 0;  // sum of the passes so far
  for (int64_t first = 0; first < rows; first += kScanThreads) {
    const int64_t i = first + threadIdx.x;
    int32_t sum = i < rows ? row_ptr[i + 1] : 0;
    for (int step = 1; step < 32; step *= 2) {
      const int32_t other = __shfl_up_sync(~0u, sum, step);
      if (lane >= step) sum += other;
    }
    if (lane == 31) warps[warp] = sum;
    __syncthreads();
    int32_t total = 0;
    for (int w = 0; w < kScanThreads / 32; w++) {
      if (w == warp) sum += total;
      total += warps[w];
    }
    if (i < rows) row_ptr[i + 1] = before + sum;
    before += total;
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kThreads) list_tiles(const Lists p) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= p.rows) return;
  const int lane = threadIdx.x % 32;
  const RowBlock block = find_row_block(p, row);
  const uint32_t* words = p.mask + row * p.words;
  int32_t* to = p.columns + p.row_ptr[row];
  for (int top = block.diagonal / 32; top >= block.first / 32; top -= 32) {
    const int w = top - lane;  // higher words in lower lanes
    uint32_t word = w >= 0 ? visible_word(words, w, block) : 0;
    const int own = __popc(word);
    int end = own;
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(~0u, end, step);
      if (lane >= step) end += other;
    }
    for (int32_t* at = to + end - own; word != 0;) {
      const int bit = 31 - __clz(word);
      *at++ = w * 32 + bit;
      word ^= 1u << bit;
    }
    to += __shfl_sync(~0u, end, 31);
  }
}

// Every list at its longest.
int64_t most_tiles(const accel_kv& kv, const accel_ints& lens, int query_heads) {
  int64_t tiles = 0;
  for (int64_t b = 0; b < lens.size; b++) {
    const int64_t blocks = (lens.data[b] + list_tile - 1) / list_tile;
    const int64_t past = (kv.head[b * kv.heads].rows - lens.data[b]) / list_tile;
    tiles += blocks * past + blocks * (blocks + 1) / 2;
  }
  return tiles * query_heads;
}

int block_sparse_attention(const accel_call* call) {
  const accel_tensor* q = call->args[kQ].tensor;
  const accel_tensor* mask = call->args[kMask].tensor;
  const accel_ints lens = call->args[kLens].ints;
  AttentionProblem problem = {};
  problem.call = call;
  problem.kv = call->args[kKv].kv;
  problem.pages = kv_pages(*problem.kv);
  problem.dtype = q->dtype;
  problem.head_dim = static_cast<int>(q->shape[2]);
  problem.query_heads = static_cast<int>(q->shape[1]);
  problem.group = problem.query_heads / problem.kv->heads;
  problem.q = data(q);
  problem.out = data(call->args[kOut].tensor);
  problem.lse = data<float>(call->args[kLse].tensor);
  problem.lens = lens.data;
  problem.queries = q->shape[0];
  problem.scale = static_cast<float>(call->args[kScale].f);
  problem.causal = true;
  problem.window = window_of(call->args[kWindow]);
  for (int i = 0; i < problem.kv->sequences * problem.kv->heads; i++) problem.gaps |= problem.kv->head[i].gap != 0;
  if (problem.queries == 0 || problem.head_dim == 0) return ACCEL_OK;

  std::vector<int32_t> begin(lens.size + 1, 0);
  for (int64_t b = 0; b < lens.size; b++) {
    begin[b + 1] = begin[b] + lens.data[b];
    if (lens.data[b] > problem.max_len) problem.max_len = lens.data[b];
  }
  problem.query_begin = static_cast<const int32_t*>(call->upload(call, begin.data(), begin.size() * sizeof(int32_t)));

  Lists lists = {};
  lists.mask = data<const uint32_t>(mask);
  lists.query_begin = problem.query_begin;
  lists.pages = problem.pages;
  lists.rows = mask->shape[0] * problem.query_heads;
  lists.row_ptr = static_cast<int32_t*>(call->scratch(call, (lists.rows + 1) * sizeof(int32_t)));
  lists.columns = static_cast<int32_t*>(
      call->scratch(call, most_tiles(*problem.kv, lens, problem.query_heads) * sizeof(int32_t)));
  lists.counts = data<int32_t>(call->args[kCounts].tensor);
  lists.words = static_cast<int32_t>(mask->shape[2]);
  lists.query_heads = problem.query_heads;
  lists.group = problem.group;
  lists.window = problem.window;
  const auto grid = static_cast<unsigned>((lists.rows + kWarps - 1) / kWarps);
  count_tiles<<<grid, kThreads, 0, stream_of(call)>>>(lists);
  sum_rows<<<1, kScanThreads, 0, stream_of(call)>>>(lists.row_ptr, lists.rows);
  list_tiles<<<grid, kThreads, 0, stream_of(call)>>>(lists);
  if (launched(call) != ACCEL_OK) return ACCEL_FAILED;
  problem.tiles = {lists.row_ptr, lists.columns};
  call->ran(call, "block_lists");
  return run_attention(problem);
}

const OpKernel kernels[] = {{"block_sparse_attention", block_sparse_attention}};

}  // namespace

OpKernels block_sparse_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
