// block_mass: how much of the attention lies in each 128 x 128 block, for whoever looks at it or judges a choice of blocks.
// Never holds an [Hq, m, n] matrix.
//
//   out[h, i, j] = mean over the queries t of row block i of  sum over the rows s <= o + t of block j of
//                  exp(scale q_t . k_s - lse[t, h]),         o = n - m rows before the queries
// where with a window only the rows count that `attention` shows query t through it.
//
// Row block i has queries [128 i, 128 i + 128), the last one maybe fewer; so has column block j rows. With the lse of
// causal attention over the same rows, each out[h, i] sums to 1. o is any number, though blocks are those that sparse
// prefills choose from only where it is a multiple of 128.
//
// The kernel is that of column_sums, given the queries of one row block at a time: sums over queries of every row, then
// added up to blocks in fp64, in the order of rows. Same bits whatever the number of threads.
#include <algorithm>
#include <atomic>

#include "cpu/attention/run.h"
#include "cpu/attention/window.h"
#include "cpu/builtin.h"

namespace accel::cpu {
namespace {

constexpr int64_t block = 128;

int64_t blocks_of(int64_t rows) { return (rows + block - 1) / block; }

// out:tensor f32[Hq,RB,C], q:tensor[m,Hq,d], kv:kv, lse:tensor f32[m,Hq], scale:float, window:int

int block_mass_check(const accel_call* call) {
  Checker check(call, "block_mass");
  check.kv(2, "kv", 1).same_rows(2, "kv");
  if (!check.ok()) return check.result();
  const accel_kv& kv = *call->args[2].kv;
  const int64_t n = kv.head[0].rows;
  check.kv_dtype(1, "q", 2, "kv").shape(1, "q", "[m,Hq,d]", {-1, -1, kv.head_dim});
  const int64_t m = check.dim(1, 0), heads = check.dim(1, 1);
  check.require(heads > 0 && heads % kv.heads == 0, "ERR_ACCEL_SHAPE",
                "q has %lld heads, which is not a multiple of kv's %d", (long long)heads, kv.heads);
  check.require(m <= n, "ERR_ACCEL_SHAPE", "q has %lld queries but kv only %lld rows", (long long)m, (long long)n);
  check.dtype(3, "lse", {Type::f32}).shape(3, "lse", "[m,Hq]", {m, heads});
  return check.dtype(0, "out", {Type::f32}).shape(0, "out", "[Hq,RB,C]", {heads, blocks_of(m), blocks_of(n)}).window(5).result();
}

int block_mass(const accel_call* call) {
  const accel_tensor* q = tensor(call, 1);
  const accel_kv& kv = *call->args[2].kv;
  const Type t = type_of(q->dtype);
  const float* lse = data<float>(tensor(call, 3));
  float* out = data<float>(tensor(call, 0));
  const int d = kv.head_dim, group = (int)(q->shape[1] / kv.heads);
  const int64_t m = q->shape[0], query_heads = q->shape[1], n = kv.head[0].rows;
  const int64_t row_blocks = blocks_of(m), columns = blocks_of(n), items = row_blocks * kv.heads;

  const AttentionKernels& kernels = attention_kernels();
  const size_t workspace = (kernels.column_floats(d, group) + 31) / 16 * 16, floats = workspace + (size_t)(group * n);
  float* scratch = static_cast<float*>(call->scratch(call, (floats * call->threads + 1) * sizeof(float)));
  if (scratch == nullptr) return call->fail(call, "ERR_ACCEL_OUT_OF_MEMORY", "block_mass: no memory for row sums");

  const int32_t lens = (int32_t)m;
  const WindowBegins window(call, kv, &lens, call->args[5].i);

  // Late row blocks see the most rows: descending order is heaviest first.
  std::atomic<int64_t> next{0};
  parallel(call, std::min<int64_t>(items, call->threads), 1, [&](int64_t, int64_t, int worker) {
    float* sums = scratch + worker * floats + workspace;         // [group][n]: over the queries of a row block
    for (int64_t item = next++; item < items; item = next++) {
      const int h = (int)(item % kv.heads);
      const int64_t i = row_blocks - 1 - item / kv.heads, first = i * block, queries = std::min(block, m - first);
      const int64_t seen = n - m + first + queries;              // rows that the last of these queries sees
      ColumnBlock b = {};
      b.type = t;
      b.head_dim = d;
      b.group = group;
      b.queries = queries;
      b.q = data<uint8_t>(q) + (first * query_heads + (int64_t)h * group) * d * type_bytes(t);
      b.q_stride = query_heads * d;
      b.scale = (float)(call->args[4].f * 1.44269504088896340736);
      b.lse = lse + first * query_heads + (int64_t)h * group;
      b.lse_stride = query_heads;
      b.keys = kv_keys(kv, 0, h);
      b.last = n - m + first;
      b.window_begin = window.of(h, first);
      b.reduce = Reduce::none;
      b.end = seen;
      b.out = sums;
      b.out_stride = n;
      const int64_t from = b.window_begin == nullptr ? 0 : *b.window_begin / column_tile * column_tile;
      for (b.k0 = from; b.k0 < seen; b.k0 += column_tile) {
        b.k1 = std::min<int64_t>(b.k0 + column_tile, seen);
        b.queries = window.before(h, first, queries, b.k1);
        kernels.columns(b, scratch + worker * floats);
      }
      for (int g = 0; g < group; ++g) {
        float* row = out + (((int64_t)h * group + g) * row_blocks + i) * columns;
        for (int64_t j = 0; j < columns; ++j) {
          double mass = 0;
          for (int64_t s = std::max(j * block, from); s < std::min((j + 1) * block, seen); ++s) mass += sums[g * n + s];
          row[j] = (float)(mass / queries);
        }
      }
    }
  });
  call->ran(call, "block_mass");
  return ACCEL_OK;
}

const accel_op ops[] = {{"block_mass", "out:tensor, q:tensor, kv:kv, lse:tensor, scale:float, window:int",
                         block_mass_check, block_mass, nullptr}};

}  // namespace

OpTable block_mass_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
