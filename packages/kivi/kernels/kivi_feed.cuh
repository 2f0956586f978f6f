// Tiles of encoded rows on their way from a head's pages into shared memory. Some warps of a block bring them, keys and values
// apart, and others read them, from a ring of stages each: so the keys of a tile can come while values of the one
// before are still in use (the producers and consumers of CUTLASS's Hopper kernels). A tile is whole items, so it is one range
// of the stream, which pages cut into pieces.
//
// Two barriers a stage: `full` counts the bytes, `empty` the consumer warps that are done. On sm_90 a piece is one bulk copy;
// before it two warps a ring copy 16 bytes a lane, which is tested, but was not tuned.
#ifndef ACCEL_KIVI_FEED_CUH
#define ACCEL_KIVI_FEED_CUH

#include "accel/mbarrier.cuh"
#include "kivi_arguments.cuh"

namespace accel_kivi {

// A range touches fewer pages than a warp has lanes; see `supports`.
constexpr int kLeastPageBytes = 2048;
// Warps that bring into one ring.
#if __CUDA_ARCH__ >= 900
constexpr int kBringers = 1;
#else
constexpr int kBringers = 2;
#endif

template <int stages>
struct KiviBarriers {
  uint64_t full[stages], empty[stages];

  // By one thread; the block needs a __syncthreads() besides.
  __device__ void init(int consumers) {
    for (int s = 0; s < stages; s++) {
#if __CUDA_ARCH__ >= 900
      mbarrier_init(full + s, 1);
#else
      mbarrier_init(full + s, 32 * kBringers);
#endif
      mbarrier_init(empty + s, consumers);
    }
  }
};

template <int stages>
class KiviRing {
 public:
  // `memory`: address of the stages in shared memory.
  __device__ KiviRing(KiviBarriers<stages>& barriers, uint32_t memory, int stage_bytes)
      : full_(shared_address(barriers.full)), empty_(shared_address(barriers.empty)), memory_(memory),
        stage_bytes_(stage_bytes) {}

  // For producers, all lanes: bytes [at, at + bytes) of a stream into the next stage, once it is free; of these the share of
  // warp `own` of kBringers.
  __device__ void bring(const KvPages& kv, int page_shift, const int32_t* pages, uint32_t at, uint32_t bytes, int own) {
    const int lane = threadIdx.x % 32;
    const uint32_t last = (at + bytes - 1) >> page_shift, number = (at >> page_shift) + lane;
    const uint32_t begin = max(at, number << page_shift), end = min(at + bytes, (number + 1) << page_shift);
    const uint64_t page = pages[min(number, last)];  // looked up while the stage may still be in use
    const uint32_t to = memory_ + stage_ * stage_bytes_, full = full_ + 8 * stage_;
    mbarrier_wait(empty_ + 8 * stage_, parity_ ^ 1);
#if __CUDA_ARCH__ >= 900
    if (lane == 0) mbarrier_arrive_expect(full, bytes);
    if (begin < end) {
      bulk_copy(to + begin - at, kv.base + (page << page_shift) + (begin - (number << page_shift)), end - begin, full);
    }
#else
#pragma unroll 4
    for (uint32_t i = (own * 32 + lane) * 16; i < bytes; i += 512 * kBringers) {
      const uint32_t byte = at + i, its = byte >> page_shift;
      cp_async16(to + i, kv.base + (static_cast<uint64_t>(pages[its]) << page_shift) + (byte - (its << page_shift)));
    }
    cp_async_arrive(full);
#endif
    next();
  }

  // For a consumer warp: where the oldest stage it has not left is, filled. It leaves every stage it was given.
  __device__ uint32_t wait() const {
    mbarrier_wait(full_ + 8 * stage_, parity_);
    return stage_ * stage_bytes_;
  }
  __device__ void leave() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(empty_ + 8 * stage_);
    next();
  }

 private:
  __device__ void next() {
    stage_ = stage_ + 1 == stages ? 0 : stage_ + 1;
    parity_ ^= stage_ == 0 ? 1 : 0;
  }

  uint32_t full_, empty_, memory_;
  int stage_bytes_;
  int stage_ = 0;
  uint32_t parity_ = 0;
};

// A share of a unit: rows [all, full) are in both forms encoded and every query sees them, and they begin with a whole item;
// rows [begin, all), if there is a window, and [full, stop) are not, or not all, or only some see them.
struct KiviSegment {
  DecodeUnit unit;
  accel_kv_head head;
  int begin, all, full, stop;

  template <int R>
  __device__ static KiviSegment of(const DecodeArguments& a, int unit, int first_tile, int end_tile) {
    KiviSegment s;
    s.unit = decode_unit<R>(a, unit);
    s.head = a.pages.at(s.unit.sequence, s.unit.head);
    const int start = s.unit.start(a), first = start + first_tile * a.tile;
    s.stop = min(s.unit.end, start + end_tile * a.tile);
    s.begin = max(first, s.unit.first & -kBlockRows);
    // The first row sees fewest of the new rows, the last one fewest of the old ones.
    const int seen = decode_visible(a, s.unit, s.unit.row / a.group).y;
    const int hidden = decode_visible(a, s.unit, (s.unit.row + s.unit.rows - 1) / a.group).x;
    s.all = min(max(first, (hidden + a.align - 1) & -a.align), s.stop);
    s.full = max(s.all, min(min(s.head.encoded_keys, s.head.encoded_values), min(seen, s.stop)) & ~31);
    return s;
  }
};

// Brings the tiles of a segment, or a warp's share of them. All lanes of the warp.
template <int stages>
__device__ void bring_keys(const KiviArguments& k, const KiviSegment& s, KiviRing<stages>& ring, int own) {
  const KiviPlaces& p = k.places;
  for (int row = s.all; row < s.full; row += k.decode.tile) {
    const int group = row >> p.group_shift;
    const int end = (min(row + k.decode.tile, s.full) + (1 << p.group_shift) - 1) >> p.group_shift;
    ring.bring(k.decode.pages, k.page_shift, s.head.encoded_key_pages, p.header + group * p.key_item,
               (end - group) * p.key_item, own);
  }
}
template <int stages>
__device__ void bring_values(const KiviArguments& k, const KiviSegment& s, KiviRing<stages>& ring, int own) {
  for (int row = s.all; row < s.full; row += k.decode.tile) {
    const int first = row / kBlockRows, end = min(row + k.decode.tile, s.full) / kBlockRows;
    ring.bring(k.decode.pages, k.page_shift, s.head.encoded_value_pages, first * k.places.value_item,
               (end - first) * k.places.value_item, own);
  }
}

}  // namespace accel_kivi
#endif
