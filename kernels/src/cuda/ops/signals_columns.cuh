// Column sums of the attention matrix on tensor cores: c[h, j] = sum over queries i of exp(scale q_i k_j - lse_i).
//
// The loop order of FlashAttention's dK (Dao 2023, arXiv:2307.08691): a block owns 128 keys of one kv head and streams
// the queries that see them, so there is no [T, n] matrix and no atomics. It computes the transpose, keys as the rows:
//
//   S^T [128 keys x 64 queries] = K Q^T    K: A fragments, 32 keys a warp, in registers for the whole block
//                                          Q: B fragments from shared memory, two stages of 64 queries
//   a thread's sums run along the rows of its C fragments; the four lanes of a row are joined once a head.
//
// exp never overflows because lse is at least the logit. Terms of one step are added in fp32, steps in fp64, as on the
// CPU, so that a hundred thousand small terms do not stop counting. With one query (decode) the block still reads its
// keys once for all heads of the group: the work is then 16 padded columns and the time is that of reading K.
//
// How many rows there are is read on the device; the grid covers as many columns as there may be.
#ifndef ACCEL_CUDA_SIGNALS_COLUMNS_CUH
#define ACCEL_CUDA_SIGNALS_COLUMNS_CUH

#include "cuda/attention/tile_sm80.cuh"
#include "cuda/ops/columns.cuh"

namespace accel::cuda {

template <int D>
struct ColumnLayout {
  static constexpr int k = 0, q = tile_bytes<D>(sm80_rows), shift = q + 2 * tile_bytes<D>(sm80_step),
                       address = shift + 2 * sm80_step * 4, until = address + sm80_rows * 8,
                       bytes = until + sm80_rows * 4;
};

// Grid: (kv heads * group / block heads, tiles of 128 columns from p.begin on). Windowed: whether p.window is positive.
template <class T, int D, bool Windowed>
__global__ void __launch_bounds__(sm80_threads, 3) column_sums_sm80(const Columns p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  using L = ColumnLayout<D>;
  pdl_wait();
  const uint32_t base = shared_address(shared), k_tile = base + L::k;
  float* shift = reinterpret_cast<float*>(shared + L::shift);
  const uint8_t** address = reinterpret_cast<const uint8_t**>(shared + L::address);
  int* until = reinterpret_cast<int*>(shared + L::until);
  const int first_head = static_cast<int>(blockIdx.x) * p.block_heads;
  const int first_key = p.begin + static_cast<int>(blockIdx.y) * sm80_rows;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int rows = p.rows(), end = min(p.end, rows);
  if (first_key >= end) return;

  // Query i sees key j if j <= last + i. The first tile starts at a multiple of its size.
  const int last = rows - p.queries, first_tile = max(0, first_key - last) / sm80_step;
  int tiles = (p.queries + sm80_step - 1) / sm80_step - first_tile;

  const accel_kv_head& head = p.pages.at(0, first_head / p.group);
  const int own_key = min(first_key + static_cast<int>(threadIdx.x), rows - 1);
  address[threadIdx.x] = row_address(p.pages, row_place(p.pages, head, head.key_pages, own_key));
  if (Windowed) until[threadIdx.x] = p.seen_until(head, own_key);
  __syncthreads();

  // Only queries before until[j] do, which grows with j. There is a tile even if its queries see nothing: the sums are to be
  // written.
  if (Windowed) tiles = max(1, (until[sm80_rows - 1] + sm80_step - 1) / sm80_step - first_tile);
  const int steps = tiles * p.block_heads;
  copy_cache_rows<D, sm80_rows>(k_tile, address, rows - first_key);

  const int64_t stride = static_cast<int64_t>(p.query_heads) * D;
  const auto copy_queries = [&](int step) {
    const int h = first_head + step / tiles, i = (first_tile + step % tiles) * sm80_step, count = p.queries - i;
    const T* q = static_cast<const T*>(p.q) + i * stride + h * D;
    copy_strided_rows<D, sm80_step>(base + L::q + step % 2 * tile_bytes<D>(sm80_step), reinterpret_cast<const uint8_t*>(q),
                                    stride * 2, count, (count + 15) / 16 * 16);
    cp_async_commit();
  };
  // lse of this thread's query of a step, +inf for one that is not there, or sees nothing here: it adds 2^-inf. Fetched before
  // a step is computed and put in place after, so that nobody waits for the load.
  const auto fetch_lse = [&](int step) {
    const int i = (first_tile + step % tiles) * sm80_step + threadIdx.x, h = first_head + step / tiles;
    return i < p.queries && p.visible(i, h, first_key) ? p.lse[static_cast<int64_t>(i) * p.query_heads + h] : INFINITY;
  };
  const auto put_lse = [&](int step, float lse) {
    shift[step % 2 * sm80_step + threadIdx.x] = lse == -INFINITY ? INFINITY : lse * log2e;
  };
  const bool has_query = threadIdx.x < sm80_step;
  if (has_query) put_lse(0, fetch_lse(0));
  copy_queries(0);

  const float scale = p.scale * log2e;
  uint32_t keys[2][D / 16][4];
  double total[2][2] = {}, joined[2][2] = {};
  for (int step = 0; step < steps; step++) {
    float next_lse = INFINITY;
    if (step + 1 < steps) {
      copy_queries(step + 1);
      if (has_query) next_lse = fetch_lse(step + 1);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();
    if (step == 0) {
#pragma unroll
      for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int k = 0; k < D / 16; k++) ldmatrix_x4(keys[m][k], lane_a<D>(k_tile, warp * 32 + m * 16) ^ (k * 32));
      }
    }

    const int query = (first_tile + step % tiles) * sm80_step, pairs = (min(p.queries - query, sm80_step) + 15) / 16;
    const bool masked = last + query < first_key + sm80_rows - 1, far = Windowed && query + sm80_step > until[0];
    const uint32_t q_lane = lane_b<D>(base + L::q + step % 2 * tile_bytes<D>(sm80_step));
    float sum[2][2] = {};
#pragma unroll 2
    for (int pair = 0; pair < pairs; pair++) {
      float s[2][2][4] = {};
#pragma unroll
      for (int k = 0; k < D / 16; k++) {
        uint32_t b[4];
        ldmatrix_x4(b, (q_lane ^ (k * 32)) + pair * 16 * D * 2);
#pragma unroll
        for (int m = 0; m < 2; m++) {
          mma_m16n8k16<T>(s[m][0], keys[m][k], b[0], b[1]);
          mma_m16n8k16<T>(s[m][1], keys[m][k], b[2], b[3]);
        }
      }
#pragma unroll
      for (int n = 0; n < 2; n++) {
        const int column = pair * 16 + n * 8 + lane % 4 * 2;
        const float2 at = *reinterpret_cast<const float2*>(shift + step % 2 * sm80_step + column);
#pragma unroll
        for (int m = 0; m < 2; m++) {
#pragma unroll
          for (int e = 0; e < 4; e++) {
            float x = fmaf(s[m][n][e], scale, e % 2 == 0 ? -at.x : -at.y);
            // Key first_key + row is seen by queries from key - last on.
            const int row = warp * 32 + m * 16 + e / 2 * 8 + lane / 4;
            if (masked && first_key + row > last + query + column + e % 2) x = -INFINITY;
            if (Windowed && far && query + column + e % 2 >= until[row]) x = -INFINITY;
            sum[m][e / 2] += exp2_fast(x);
          }
        }
      }
    }
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) total[m][half] += sum[m][half];
    }

    if ((step + 1) % tiles == 0) {       // the head is done
      const int done = step / tiles;
#pragma unroll
      for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          double x = total[m][half];
          x += __shfl_xor_sync(~0u, x, 1);
          x += __shfl_xor_sync(~0u, x, 2);
          total[m][half] = 0;
          const int key = first_key + warp * 32 + m * 16 + half * 8 + lane / 4;
          if (p.reduce == Reduce::none) {
            if (lane % 4 == 0 && key < end) p.put(first_head + done, key, last, x);
            continue;
          }
          joined[m][half] = done == 0 ? x : join(p.reduce, joined[m][half], x);
          if (done + 1 == p.group && lane % 4 == 0 && key < end) {
            p.put(first_head / p.group, key, last, p.reduce == Reduce::mean ? joined[m][half] / p.group : joined[m][half]);
          }
        }
      }
    }
    if (has_query) put_lse(step + 1, next_lse);
    __syncthreads();                     // all are done with this stage
  }
}

// Joins rows of query heads, sums [query_heads, width], where blocks went through one head each.
// Grid: (blocks of 256 columns from p.begin on, kv heads).
static __global__ void __launch_bounds__(256) join_heads(const Columns p, const float* sums, int64_t width) {
  pdl_wait();
  const int rows = p.rows(), key = p.begin + static_cast<int>(blockIdx.x) * 256 + threadIdx.x;
  if (key >= min(p.end, rows)) return;
  const float* at = sums + static_cast<int64_t>(blockIdx.y) * p.group * width + key;
  double x = at[0];
  for (int h = 1; h < p.group; h++) x = join<double>(p.reduce, x, at[h * width]);
  p.put(blockIdx.y, key, rows - p.queries, p.reduce == Reduce::mean ? x / p.group : x);
}

}  // namespace accel::cuda
#endif
