// attention_sm80: prefill attention with mma.sync and cp.async, for every GPU from sm_80 on.
//
// One block computes 128 query rows of one query head: FlashAttention-2 (Dao 2023, arXiv:2307.08691). 4 warps of 32
// rows, steps of 64 keys, online softmax in base 2 with the scale folded into one fused multiply-add.
//
//   shared  Q [128][D]  K [64][D]  V [64][D]  (16 bit, swizzled)  row addresses [2][64 K + 64 V]
//   S, O    fp32 C fragments in registers; S rounded in pairs is the A fragment of P V, so P never leaves registers.
//           Q fragments are read again each step: with 32 rows a warp, O and S leave no room for them, and 16 rows a
//           warp would double the reads of K and V (attention/tile_sm80.cuh).
//
// One K and one V buffer: V arrives behind S = Q K^T, the next K behind the softmax and P V, and two blocks a
// multiprocessor fill each other's gaps. Steps come from KeyTiles: all visible keys from the diagonal downwards, or the
// listed 128-key tiles, each two steps, upper half first. Masks are applied only in steps that cross an edge.
// Keys and values beyond the last row are zeros in shared memory: their weight is 0, and 0 times garbage may be NaN.
#include "cuda/attention/attention.h"
#include "cuda/attention/softmax_sm80.cuh"
#include "cuda/attention/tile_sm80.cuh"

namespace accel::cuda {
namespace {

struct Prefill {
  const void* q;
  void* out;
  float* lse;
  KvPages pages;
  KeyTiles tiles;
  const int32_t* query_begin;
  const int32_t* ranges;
  int query_heads;
  int group;
  float scale;
  int window;
  bool causal;
};

// What all threads need now and then: kept in shared memory, because accumulators want the registers.
struct BlockFacts {
  accel_kv_head head;
  VisibleRows rows;
};

template <int D>
struct Layout {
  static constexpr int q = 0, k = tile_bytes<D>(sm80_rows), v = k + tile_bytes<D>(sm80_step),
                       address = v + tile_bytes<D>(sm80_step), windows = address + 2 * 2 * sm80_step * 8,
                       facts = windows + sm80_rows * 4, bytes = facts + sizeof(BlockFacts);
};

// The steps of one (row block, query head), in order.
struct Steps {
  const int32_t* columns;                // null: dense
  int count;
  int top;                               // dense: index of the first, highest step

  __device__ int first_key(int i) const {
    return columns == nullptr ? (top - i) * sm80_step
                              : columns[i / 2] * list_tile + (i % 2 == 0 ? sm80_step : 0);
  }
};

__device__ Steps steps_of(const Prefill& p, const VisibleRows& rows, int first, int m, int block) {
  if (rows.rows == 0) return {nullptr, 0, 0};
  if (p.tiles.row_ptr == nullptr) {
    const int lo = rows.lo(first), hi = rows.hi(min(first + sm80_rows, m) - 1);
    if (hi <= lo) return {nullptr, 0, 0};
    const int top = (hi - 1) / sm80_step;
    return {nullptr, top - lo / sm80_step + 1, top};
  }
  int64_t number = block;                // in the numbering through the batch
  for (int b = 0; b < static_cast<int>(blockIdx.y); b++) {
    number += (p.query_begin[b + 1] - p.query_begin[b] + list_tile - 1) / list_tile;
  }
  const int32_t* at = p.tiles.row_ptr + number * p.query_heads + blockIdx.x;
  return {p.tiles.columns + at[0], 2 * (at[1] - at[0]), 0};
}

// Rows of a block that sees nothing.
template <class T, int D>
__device__ void store_nothing(const Prefill& p, int64_t token, int count) {
  for (int i = threadIdx.x; i < count * (D / 8); i += sm80_threads) {
    const int64_t row = (token + i / (D / 8)) * p.query_heads + blockIdx.x;
    reinterpret_cast<uint4*>(static_cast<T*>(p.out) + row * D)[i % (D / 8)] = make_uint4(0, 0, 0, 0);
  }
  if (p.lse == nullptr) return;
  for (int i = threadIdx.x; i < count; i += sm80_threads) p.lse[(token + i) * p.query_heads + blockIdx.x] = -INFINITY;
}

template <class T, int D>
__global__ void __launch_bounds__(sm80_threads, D == 128 ? 2 : 3) attention_sm80(const Prefill p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const int sequence = blockIdx.y, begin = p.query_begin[sequence], m = p.query_begin[sequence + 1] - begin;
  // Later rows see more keys: heaviest blocks first. Sequences have their own number of blocks.
  const int block = (m + sm80_rows - 1) / sm80_rows - 1 - static_cast<int>(blockIdx.z), first = block * sm80_rows;
  if (block < 0) return;

  using L = Layout<D>;
  const uint32_t base = shared_address(shared), q_tile = base + L::q, k_tile = base + L::k, v_tile = base + L::v;
  const uint8_t** address = reinterpret_cast<const uint8_t**>(shared + L::address);
  const accel_kv_head& source = p.pages.at(sequence, blockIdx.x / p.group);
  BlockFacts& facts = *reinterpret_cast<BlockFacts*>(shared + L::facts);
  int* windows = reinterpret_cast<int*>(shared + L::windows);
  static_assert(sm80_threads == sm80_rows);
  if (p.window > 0) {                    // rows behind the last query see what it sees
    const int query = min(first + static_cast<int>(threadIdx.x), m - 1);
    windows[threadIdx.x] = p.pages.window_begin(source, source.rows - m + query, p.window);
  }
  if (threadIdx.x == 0) {
    facts.head = source;
    facts.rows = {source.rows,
                  source.rows - m,
                  p.causal,
                  p.ranges == nullptr ? 0 : p.ranges[2 * sequence],
                  p.ranges == nullptr ? source.rows : min(source.rows, p.ranges[2 * sequence + 1]),
                  p.window > 0 ? windows : nullptr,
                  first};
  }
  __syncthreads();
  const VisibleRows& rows = facts.rows;
  const int count = min(sm80_rows, m - first);
  const Steps steps = steps_of(p, rows, first, m, block);
  if (steps.count == 0) return store_nothing<T, D>(p, begin + first, count);

  // Thread t finds row t % 64 of a step: of the keys in the first two warps, of the values in the others. A row that is
  // not there gets the address of the last one that is; it is not read. (source.rows > 0, or there would be no step.)
  const bool finds_values = threadIdx.x >= sm80_step;
  const auto place = [&](int step) {
    const int row = min(steps.first_key(step) + static_cast<int>(threadIdx.x) % sm80_step, rows.rows - 1);
    return row_place(p.pages, facts.head, finds_values ? facts.head.value_pages : facts.head.key_pages, row);
  };
  const int64_t query_stride = static_cast<int64_t>(p.query_heads) * D;
  copy_strided_rows<D, sm80_rows>(
      q_tile, reinterpret_cast<const uint8_t*>(static_cast<const T*>(p.q) + (begin + first) * query_stride + blockIdx.x * D),
      query_stride * 2, count);
  address[threadIdx.x] = row_address(p.pages, place(0));
  __syncthreads();
  copy_cache_rows<D, sm80_step>(k_tile, address, rows.rows - steps.first_key(0));
  cp_async_commit();

  Softmax softmax(p.scale);
  float o[2][D / 8][4] = {};
  const uint32_t v_lane = lane_b_trans<D>(v_tile);
  for (int i = 0; i < steps.count; i++) {
    const int key = steps.first_key(i);
    cp_async_wait<0>();
    __syncthreads();                     // Q and K have arrived, and all are done with the last V
    copy_cache_rows<D, sm80_step>(v_tile, address + (i % 2 * 2 + 1) * sm80_step, rows.rows - key);
    cp_async_commit();
    const bool more = i + 1 < steps.count;
    RowPlace next = {};
    if (more) next = place(i + 1);

    float s[2][8][4];
    multiply_abt<T, D>(s, q_tile, k_tile);
    if (rows.crosses(first, first + count - 1, key, key + sm80_step)) mask_step(s, rows, first, key);
    // The other half of the table: its last readers passed the barrier above.
    if (more) address[((i + 1) % 2) * 2 * sm80_step + threadIdx.x] = row_address(p.pages, next);
    cp_async_wait<0>();
    __syncthreads();                     // V has arrived, and all are done with K
    if (more) {
      copy_cache_rows<D, sm80_step>(k_tile, address + ((i + 1) % 2) * 2 * sm80_step,
                                    rows.rows - steps.first_key(i + 1));
      cp_async_commit();
    }

    softmax.step(s, o);
#pragma unroll
    for (int k = 0; k < sm80_step / 16; k++) {
      uint32_t probability[2][4];
#pragma unroll
      for (int mt = 0; mt < 2; mt++) {
#pragma unroll
        for (int half = 0; half < 4; half++) {
          const float* c = &s[mt][2 * k + half / 2][half % 2 * 2];
          probability[mt][half] = pack_pair<T>(c[0], c[1]);
        }
      }
#pragma unroll
      for (int n = 0; n < D / 16; n++) {
        uint32_t v[4];
        ldmatrix_x4_trans(v, (v_lane ^ (n * 32)) + k * 16 * D * 2);
#pragma unroll
        for (int mt = 0; mt < 2; mt++) {
          mma_m16n8k16<T>(o[mt][2 * n], probability[mt], v[0], v[1]);
          mma_m16n8k16<T>(o[mt][2 * n + 1], probability[mt], v[2], v[3]);
        }
      }
    }
  }

  // Through this warp's own rows of the Q tile, so that stores are whole rows.
  const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 32;
#pragma unroll
  for (int mt = 0; mt < 2; mt++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = warp_row + mt * 16 + half * 8 + lane / 4;
      float lse;
      const float factor = softmax.finish(mt, half, lse);
      if (p.lse != nullptr && row < count && lane % 4 == 0) {
        p.lse[(static_cast<int64_t>(begin) + first + row) * p.query_heads + blockIdx.x] = lse;
      }
#pragma unroll
      for (int n = 0; n < D / 8; n++) {
        *reinterpret_cast<uint32_t*>(shared + L::q + swizzle<D / 8>(row, n) + lane % 4 * 4) =
            pack_pair<T>(o[mt][n][2 * half] * factor, o[mt][n][2 * half + 1] * factor);
      }
    }
  }
  __syncwarp();
  T* out = static_cast<T*>(p.out) + (static_cast<int64_t>(begin) + first) * query_stride + blockIdx.x * D;
  for (int i = lane; i < 32 * (D / 8); i += 32) {
    const int row = warp_row + i / (D / 8), chunk = i % (D / 8);
    if (row < count) {
      reinterpret_cast<uint4*>(out + row * query_stride)[chunk] =
          *reinterpret_cast<const uint4*>(shared + L::q + swizzle<D / 8>(row, chunk));
    }
  }
}

template <class T, int D>
int run(const AttentionProblem& problem, const Prefill& p) {
  constexpr int bytes = Layout<D>::bytes;
  cudaFuncSetAttribute(attention_sm80<T, D>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  // Heads in the fastest dimension: the heads of a group read the same keys at the same time.
  const dim3 grid(problem.query_heads, problem.kv->sequences, (problem.max_len + sm80_rows - 1) / sm80_rows);
  attention_sm80<T, D><<<grid, sm80_threads, bytes, stream_of(problem.call)>>>(p);
  problem.call->ran(problem.call, "attention_sm80");
  return launched(problem.call);
}

}  // namespace

bool sm80_supports(const AttentionProblem& problem) {
  const auto aligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  return problem.call->capability >= 80 && problem.dtype.bits == 16 &&
         (problem.head_dim == 64 || problem.head_dim == 128) && problem.scale > 0 && problem.out != nullptr &&
         aligned(problem.q) && aligned(problem.out) && aligned(problem.kv->base) && problem.kv->page_bytes % 16 == 0 &&
         problem.kv->sequences <= 65535 && problem.max_len <= 65535 * sm80_rows;
}

int run_attention_sm80(const AttentionProblem& problem) {
  const Prefill p = {problem.q,         problem.out,         problem.lse,    problem.pages,
                     problem.tiles,     problem.query_begin, problem.ranges, problem.query_heads,
                     problem.group,     problem.scale,       problem.window, problem.causal};
  return with_float(problem.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    if constexpr (sizeof(T) == 2) {
      return problem.head_dim == 64 ? run<T, 64>(problem, p) : run<T, 128>(problem, p);
    } else {
      return problem.call->fail(problem.call, "ERR_ACCEL_INTERNAL", "attention_sm80 was chosen for fp32");
    }
  });
}

}  // namespace accel::cuda
