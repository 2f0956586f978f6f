// Attention for Hopper: the producer warp. It takes items, finds their tiles and pages and keeps TMA busy.
//
// Loads are issued in the order in which consumers use them: Q K0 | K1 V0 | K2 V1 | ... | Vlast. A tile of 128 rows is
// one TMA copy per page (16 rows as a rule) and 64 channels, at most 32 copies: lane l issues copy l. The pool is a
// tensor [page, row in page, channel] to TMA.
#ifndef ACCEL_CUDA_ATTENTION_PREFILL_SM90_PRODUCER_CUH
#define ACCEL_CUDA_ATTENTION_PREFILL_SM90_PRODUCER_CUH

#include "accel/tma.cuh"
#include "cuda/attention/prefill_sm90_work.cuh"

namespace accel::cuda::prefill {

// The visible tiles of one item in the order of the visit.
struct TileList {
  const int32_t* columns;  // sparse: the list, diagonal first; dense: null
  int32_t last;            // dense: the tile on the diagonal
  __device__ int at(int i) const { return columns == nullptr ? last - i : columns[i]; }
};

// What the item with this number is. Every lane computes the same.
__device__ inline Item find_item(const Problem& p, int number, TileList* tiles, const accel_kv_head** cache) {
  int low = 0, high = p.sequences;  // the last entry with first_item <= number
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (p.work[middle].first_item <= number ? low : high) = middle;
  }
  const SequenceWork w = p.work[low];
  const int r = number - w.first_item;
  const int section = r / (w.section * w.blocks) * w.section;  // its first head
  const int heads = min(w.section, p.query_heads - section);   // the last section may be smaller
  const int in_section = r - section * w.blocks;
  const int block = w.blocks - 1 - in_section / heads;
  Item item;
  item.head = section + in_section % heads;
  item.query = w.query_begin + block * kTile;
  item.queries = min(kTile, w.len - block * kTile);
  *cache = &p.pages.at(w.sequence, item.head / p.group);
  item.rows = (*cache)->rows;
  item.visible = p.causal ? item.rows - w.len + block * kTile + 1 : item.rows;
  const int end = min(item.rows, p.causal ? item.visible + item.queries - 1 : item.rows);  // no query sees more

  tiles->columns = nullptr;
  tiles->last = (end + kTile - 1) / kTile - 1;
  item.tiles = end > 0 ? tiles->last + 1 : 0;
  if (p.tiles.row_ptr != nullptr) {
    const int32_t* row = p.tiles.row_ptr + static_cast<int64_t>(w.block_base + block) * p.query_heads + item.head;
    tiles->columns = p.tiles.columns + row[0];
    item.tiles = end > 0 ? row[1] - row[0] : 0;
  }
  item.masked = 0;
  const int everyone = min(item.rows, item.visible);  // rows below this are seen by every query
#pragma unroll
  for (int i = 0; i < 2; i++) {
    item.masked_tile[i] = i < item.tiles ? tiles->at(i) : 0;
    if (i < item.tiles && (item.masked_tile[i] + 1) * kTile > everyone) item.masked = i + 1;
  }
  return item;
}

template <int D>
__device__ void produce(const Problem& p, Shared<D>& shared, const CUtensorMap* queries, const CUtensorMap* pool) {
  constexpr int kPanels = D / 64;
  const int lane = threadIdx.x % 32;
  const int box = lane / kPanels * p.box_rows;  // first row of this lane's copy in the tile
  const int panel = lane % kPanels;
  const uint32_t place = panel * Shared<D>::kPanel + box * 128;
  const uint64_t keep = keep_in_l2(), once = read_once();
  RingPosition<kQueryStages> q;
  RingPosition<Shared<D>::kStages> k, v;

  for (int number = blockIdx.x;; q.use++) {
    int next = 0;
    if (lane == 0 && number < p.items) next = gridDim.x + atomicAdd(p.counter, 1);
    TileList tiles;
    const accel_kv_head* cache = nullptr;
    Item item;
    item.tiles = -1;
    if (number < p.items) item = find_item(p, number, &tiles, &cache);

    mbarrier_wait(shared.q_empty + q.stage(), q.parity() ^ 1);
    if (lane == 0) {
      shared.item[q.stage()] = item;
      uint64_t* full = shared.q_full + q.stage();
      if (item.tiles <= 0) {
        mbarrier_arrive(full);
      } else {
        mbarrier_arrive_expect(full, Shared<D>::kTileBytes);
        for (int i = 0; i < kPanels; i++) {
          tma_load(shared.q[q.stage()] + i * Shared<D>::kPanel, queries, full, i * 64, item.head, item.query, once);
        }
      }
    }
    if (item.tiles < 0) return;

    // This lane's box of a tile: page and first row in it. Boxes behind the cache's end lie outside the tensor (page
    // -1: zeros); the one that the end cuts starts so much earlier that the last row of the cache is its last row.
    int key_page = -1, value_page = -1, row = 0;
    const auto locate = [&](int i) {
      const int first = tiles.at(i) * kTile + box;
      const int over = first + p.box_rows - item.rows;
      key_page = value_page = -1;
      row = 0;
      if (box < kTile && over < p.box_rows) {
        key_page = cache->key_pages[first >> p.page_shift];
        value_page = cache->value_pages[first >> p.page_shift];
        row = (first & ((1 << p.page_shift) - 1)) - max(over, 0);
      }
    };
    const auto load = [&](auto& ring, uint64_t* full, uint64_t* empty, uint8_t (*stages)[Shared<D>::kTileBytes],
                          int at_row, int page) {
      const int s = ring.stage();
      mbarrier_wait(empty + s, ring.parity() ^ 1);
      if (lane == 0) mbarrier_arrive_expect(full + s, Shared<D>::kTileBytes);
      __syncwarp();
      if (box < kTile) tma_load(stages[s] + place, pool, full + s, panel * 64, at_row, page, keep);
      ring.use++;
    };

    if (item.tiles > 0) {
      locate(0);
      load(k, shared.k_full, shared.k_empty, shared.k, row, key_page);
    }
#pragma unroll 1
    for (int i = 0; i < item.tiles; i++) {
      const int v_page = value_page, v_row = row;
      if (i + 1 < item.tiles) {
        locate(i + 1);  // the page numbers arrive while the warp waits for the stage
        load(k, shared.k_full, shared.k_empty, shared.k, row, key_page);
      }
      load(v, shared.v_full, shared.v_empty, shared.v, v_row, v_page);
    }
    number = __shfl_sync(~0u, next, 0);
  }
}

}  // namespace accel::cuda::prefill
#endif
