// Split-KV decoding: how the keys of a batch are cut into equal shares for a fixed number of blocks.
//
// The queries of a sequence times the query heads of one kv head are packed rows: row r is query r / group, query head
// r % group of the kv head (GQA packing: a key is read once for all of them). A unit is (sequence, kv head, block of R
// packed rows). Its visible keys, from the first key any of its rows sees to the last, are cut into tiles. The
// tiles of all units, one unit after the other, form a line; block b of B takes tiles [T b / B, T (b + 1) / B) of its T,
// whatever units these belong to (the work-centric decomposition of "stream-K", Osama et al. 2023, arXiv:2301.03598). So
// a batch of unequal lengths is as balanced as one long sequence, and the grid does not depend on the lengths, which are
// read on the device: a captured launch stays right while the cache grows. Of equal lengths, blocks that are a multiple of the
// units have one unit each.
//
// A segment is what a block does of one unit. Along the line every new segment raises block or unit, so block + unit
// numbers the segments uniquely, below blocks + units, and the segments of a unit are neighbours.
#ifndef ACCEL_DECODE_PLAN_CUH
#define ACCEL_DECODE_PLAN_CUH

#include "accel/cuda.cuh"

namespace accel::cuda {

struct DecodeArguments {
  KvPages pages;
  const void* q;
  void* out;
  float* lse;                  // or null
  const int32_t* query_begin;  // [sequences + 1]
  const int32_t* ranges;       // [begin, end) per sequence, or null
  const int32_t* window_begin;  // [queries, kv heads] first rows in the window (accel/window.cuh), or null
  int query_heads, group;
  int row_blocks;              // blocks of R packed rows, of the longest sequence
  int units;                   // sequences * kv heads * row_blocks
  int tile;                    // keys of a tile
  int align;                   // the first tile of a unit begins at a multiple of so many rows, a power of two
  bool causal;
  bool settled;                // see plan_settled
  float scale;                 // times log2(e): the softmax is in base 2
  // Scratch. Segment s, row r: state {maximum, sum} at states[s * R + r], weighted values at values[(s * R + r) * D].
  float2* states;
  float* values;
  int2* cover;                 // [units] {first segment, segments}
};

struct DecodeUnit {
  int sequence, head;
  int token;                   // first packed query of the sequence
  int queries, keys;           // of the sequence; of the head
  int row, rows;               // packed rows [row, row + rows)
  int first, end;              // keys that some row sees

  __device__ int start(const DecodeArguments& a) const { return first & -a.align; }
  __device__ int tiles(const DecodeArguments& a) const {
    return first < end ? (end - start(a) + a.tile - 1) / a.tile : 0;
  }
};

// Whether what the plan is made from is older than the kernel before this one, which finds the windows if there are any.
inline bool plan_settled(const accel_call* call, const DecodeArguments& a) {
  return tables_settled(call) && a.window_begin == nullptr;
}

// The keys [x, y) that query i sees.
__device__ inline int2 decode_visible(const DecodeArguments& a, const DecodeUnit& u, int i) {
  const int last = u.keys - u.queries + i;
  int2 span = {0, a.causal ? last + 1 : u.keys};
  if (a.window_begin != nullptr) span.x = a.window_begin[(u.token + i) * a.pages.heads + u.head];
  if (a.ranges != nullptr) {
    span.x = max(span.x, a.ranges[2 * u.sequence]);
    span.y = min(span.y, a.ranges[2 * u.sequence + 1]);
  }
  return span;
}

template <int R>
__device__ inline DecodeUnit decode_unit(const DecodeArguments& a, int unit) {
  DecodeUnit u;
  const int pair = unit / a.row_blocks;
  u.row = (unit - pair * a.row_blocks) * R;
  u.sequence = pair / a.pages.heads;
  u.head = pair - u.sequence * a.pages.heads;
  u.token = a.query_begin[u.sequence];
  u.queries = a.query_begin[u.sequence + 1] - u.token;
  u.keys = a.pages.at(u.sequence, u.head).rows;
  u.rows = min(R, max(0, u.queries * a.group - u.row));
  u.first = u.end = 0;
  if (u.rows > 0) {  // both bounds grow with the query
    u.first = decode_visible(a, u, u.row / a.group).x;
    u.end = decode_visible(a, u, (u.row + u.rows - 1) / a.group).y;
  }
  return u;
}

__device__ inline int warp_inclusive_sum(int x) {
  const int lane = threadIdx.x % 32;
  for (int step = 1; step < 32; step *= 2) {
    const int y = __shfl_up_sync(~0u, x, step);
    if (lane >= step) x += y;
  }
  return x;
}

// Calls work(unit, first tile, end tile, segment) for every segment of this block. Every warp does the sums for itself,
// 32 units at a time, so no barrier is needed, and all warps of the block make the same calls. Writes `cover`, after `work`, which waits
// for earlier kernels.
template <int R, class Work>
__device__ inline void decode_segments(const DecodeArguments& a, Work&& work) {
  const int lane = threadIdx.x % 32, block = blockIdx.x, blocks = gridDim.x;
  int total = 0, tiles_of_first_32 = 0;
  for (int base = 0; base < a.units; base += 32) {
    const int unit = base + lane;
    const int tiles = unit < a.units ? decode_unit<R>(a, unit).tiles(a) : 0;
    if (base == 0) tiles_of_first_32 = tiles;
    total += __reduce_add_sync(~0u, tiles);
    if (threadIdx.x < 32 && unit < a.units && tiles == 0 && unit % blocks == block) {
      pdl_wait();
      a.cover[unit] = {0, 0};
    }
  }
  const int used = min(blocks, total);  // no block among them is without a tile
  const int per = total / max(used, 1), more = total - per * used;
  const auto start_of = [&](int b) { return b * per + b * more / used; };  // T b / B, in 32 bits
  const int begin = block < used ? start_of(block) : total, end = block < used ? start_of(block + 1) : total;
  int before = 0;  // tiles of the units before this group of 32
  for (int base = 0; base < a.units && before < end; base += 32) {
    int tiles = tiles_of_first_32;
    if (base > 0) tiles = base + lane < a.units ? decode_unit<R>(a, base + lane).tiles(a) : 0;
    const int stop = before + warp_inclusive_sum(tiles), start = stop - tiles;
    unsigned mine = __ballot_sync(~0u, max(start, begin) < min(stop, end));
    while (mine != 0) {
      const int source = __ffs(mine) - 1, unit = base + source;
      mine &= mine - 1;
      const int unit_start = __shfl_sync(~0u, start, source), unit_stop = __shfl_sync(~0u, stop, source);
      work(unit, max(begin, unit_start) - unit_start, min(end, unit_stop) - unit_start, block + unit);
      if (threadIdx.x == 0 && unit_start >= begin) {
        const int last = static_cast<int>((static_cast<int64_t>(unit_stop) * used - 1) / total);  // has the unit's last tile
        a.cover[unit] = {block + unit, last - block + 1};
      }
    }
    before = __shfl_sync(~0u, stop, 31);
  }
}

}  // namespace accel::cuda
#endif
