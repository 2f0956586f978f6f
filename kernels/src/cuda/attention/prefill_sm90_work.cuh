// Attention for Hopper: what the host hands the kernel, what the producer hands the consumers, and how work is cut.
//
// One item is (sequence, block of 128 queries, query head). Items are numbered so that the heavy ones come first and
// neighbours share keys: the sequences with most tiles first; in a sequence, sections of kv heads whose keys and values
// fit in L2 together; in a section, causal row blocks from the last (longest) to the first; in a block, the heads, so
// that the query heads of a group run side by side. Blocks of threads stay and take items from a counter.
//
// Keys of an item are cut into tiles of 128 rows; tiles are visited from the diagonal down, so only the first ones need
// a mask. Rows behind the last one of the cache may hold anything, NaN too, and 0 x NaN is not 0. They are therefore
// never loaded: TMA gives zeros for rows outside the page, so the last, partial box of rows is loaded `shift` rows too
// early and reaches over the page's start instead of the cache's end (prefill_sm90_producer.cuh). Its rows then stand
// `shift` places too far down in the tile, which the mask knows (KeyOrder).
#ifndef ACCEL_CUDA_ATTENTION_PREFILL_SM90_WORK_CUH
#define ACCEL_CUDA_ATTENTION_PREFILL_SM90_WORK_CUH

#include "accel/mbarrier.cuh"
#include "cuda/attention/attention.h"

namespace accel::cuda::prefill {

constexpr int kTile = 128;             // queries of an item, keys of a tile
constexpr int kGroups = 2;             // consumer warpgroups, 64 queries each
constexpr int kThreads = 128 * (1 + kGroups);
constexpr int kQueryStages = 2;        // the next item's queries are loaded during this one
constexpr int kProducerRegisters = 56, kConsumerRegisters = 224;  // 128 * 56 + 256 * 224 = 384 * 168, what the launch allots

// One sequence, in the order of work. Built on the host from lens; row counts are read on the device.
struct SequenceWork {
  int32_t first_item;
  int32_t sequence;
  int32_t query_begin;                 // first packed query
  int32_t len;
  int32_t blocks;
  int32_t block_base;                  // blocks of the sequences before it in the batch: rows of KeyTiles
  int32_t section;                     // query heads of a section
  int32_t reserved;
};

struct Problem {
  KvPages pages;
  KeyTiles tiles;
  const SequenceWork* work;
  int32_t* counter;                    // items taken so far beyond the first one of each block of threads
  void* out;
  float* lse;
  int32_t sequences;                   // entries of work
  int32_t items;
  int32_t query_heads;
  int32_t group;
  int32_t box_rows;                    // rows of one TMA copy: min(rows_per_page, 128)
  int32_t page_shift;                  // log2 rows_per_page
  float scale_log2;                    // scale * log2(e)
  bool causal;
};

// What consumers know about an item. Dense or sparse makes no difference to them.
struct Item {
  int32_t tiles;                       // -1: no more work
  int32_t masked;                      // how many of the first tiles need a mask
  int32_t masked_tile[2];              // and which ones these are
  int32_t rows;                        // rows of the cache
  int32_t visible;                     // query i of the block sees rows < min(rows, visible + i)
  int32_t query;                       // packed number of the block's first query
  int32_t queries;                     // of the block that belong to the sequence
  int32_t head;
};

// Where row numbers stand in the tiles: column c holds row `row(c)`; columns without a row give INT_MAX.
struct KeyOrder {
  int32_t box_begin;                   // first column of the partial box; = rows if there is none
  int32_t shift;
  __device__ KeyOrder(int rows, int box_rows) {
    const int in_box = rows & (box_rows - 1);
    box_begin = rows - in_box;
    shift = in_box == 0 ? 0 : box_rows - in_box;
  }
  __device__ int row(int column) const {
    if (column < box_begin) return column;
    const int row = column - shift;
    return row < box_begin ? INT32_MAX : row;
  }
};

template <int D>
struct Shared {
  static constexpr int kStages = D == 64 ? 4 : 2;
  static constexpr int kPanel = kTile * 128;          // bytes of 128 rows x 64 elements
  static constexpr int kTileBytes = kPanel * (D / 64);

  alignas(1024) uint8_t q[kQueryStages][kTileBytes];
  alignas(1024) uint8_t k[kStages][kTileBytes];
  alignas(1024) uint8_t v[kStages][kTileBytes];
  uint64_t q_full[kQueryStages], q_empty[kQueryStages];
  uint64_t k_full[kStages], k_empty[kStages];
  uint64_t v_full[kStages], v_empty[kStages];
  Item item[kQueryStages];                            // guarded by q_full and q_empty
  uint32_t never_written;

  __device__ void initialise() {
    // One producer thread fills; every consumer warp says for itself when it is done.
    for (int i = 0; i < kQueryStages; i++) {
      mbarrier_init(q_full + i, 1);
      mbarrier_init(q_empty + i, 4 * kGroups);
    }
    for (int i = 0; i < kStages; i++) {
      mbarrier_init(k_full + i, 1);
      mbarrier_init(k_empty + i, 4 * kGroups);
      mbarrier_init(v_full + i, 1);
      mbarrier_init(v_empty + i, 4 * kGroups);
    }
    mbarrier_init_fence();
  }
};

}  // namespace accel::cuda::prefill
#endif
