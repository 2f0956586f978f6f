// What the kernels for column sums work on: signals_columns.cuh, signals_any.cuh, signals_sm90.cu.
#ifndef ACCEL_CUDA_COLUMNS_CUH
#define ACCEL_CUDA_COLUMNS_CUH

#include "accel/cuda.cuh"
#include "cuda/ops/head_reduce.cuh"

namespace accel::cuda {

struct Columns {
  const void* q;                         // [queries, query_heads, D]
  const float* lse;                      // [queries, query_heads], natural logarithm
  KvPages pages;
  float* out;                            // [query heads or kv heads, stride]
  int64_t stride;
  int begin, end;                        // columns that are asked for; the end may lie past the rows
  int queries;                           // the last rows of the cache
  int query_heads;
  int group;
  int block_heads;                       // query heads a block goes through: the group, or 1
  float scale;
  Reduce reduce;                         // none: a row of out per query head
  const uint32_t* mask;                  // or null; only pairs in these blocks count (cpu/ops/signals.cc)
  uint16_t mask_words;
  bool accumulate;                       // columns of rows before the queries' own are added to
  int window;                            // in positions; 0: none

  // Whether query i of a head sees the keys of the 128-block at `key`.
  __device__ bool visible(int i, int head, int key) const {
    if (mask == nullptr || key / 128 == (rows() - queries + i) / 128) return true;
    const uint32_t* words = mask + (static_cast<int64_t>(i / 128) * query_heads + head) * mask_words;
    return words[key / 128 / 32] >> (key / 128 % 32) & 1;
  }
  __device__ int rows() const { return pages.at(0, 0).rows; }
  // How many queries there are up to the first that is too far from row `key` of a head.
  __device__ int seen_until(const accel_kv_head& head, int key) const {
    return pages.window_end(head, key, window) - (head.rows - queries);
  }
  // Column `key` of a row of out; `last` is rows - queries.
  __device__ void put(int row, int key, int last, double x) const {
    float& at = out[row * stride + key];
    at = static_cast<float>(accumulate && key < last ? at + x : x);
  }
};

// With more, column_sums_sm80 takes up to 26 registers more and spills (nvcc 13.0), whatever the members are.
static_assert(sizeof(Columns) <= 128);

constexpr float log2e = 1.44269504f;

// On Hopper (signals_sm90.cu): 16 bits, d 64 or 128. A block of threads has `sm90_keys` columns and adds up its query
// heads, so block_heads is 1 unless reduce is mean or sum.
constexpr int sm90_keys = 256;
bool columns_sm90_supports(const accel_call* call, const Columns& p, const accel_kv& kv);
int run_columns_sm90(const accel_call* call, const Columns& p, const accel_kv& kv, int columns);

}  // namespace accel::cuda
#endif
