// kv_remove: one row leaves every head, in place. Semantics: cpu/ops/kv_remove.cc.
//
// In a head of n rows, rows victim + 1 .. n - 1 - keep move down by one: key, value and record. What a row is written
// over was read by the same block before, so nothing is kept elsewhere:
//
//   block (slice, head)   32 bytes (one sector) of all keys, or of all values, or of all records of the head
//   tile                  1024 rows: each thread takes 4 neighbouring rows, 16 bytes of each, into registers
//   loop                  load tile i + 1; barrier; store tile i one row further down
//
// Tile i is written onto its own rows and the last row of tile i - 1. Both were read before the barrier, and no later tile
// reads them. 8 heads of 256-byte rows are 136 blocks. The bound is a pass over the moved rows, most often in L2, as
// attention has just read them.
#include "cuda/kernels.h"
#include "cuda/ops/vectors.cuh"

namespace accel::cuda {
namespace {

constexpr int threads = 512, slice_bytes = 32, each = 4;

// Keys, values or records of a head.
struct List {
  uint8_t* base;
  int64_t page_bytes;
  const int32_t* pages;
  int per_page, row_bytes;
};

// Goes through the rows of a list, upwards.
class Walk {
 public:
  __device__ Walk(const List& list, const accel_kv_head& head, int row) : list_(list), head_(head), row_(row) { seek(); }
  __device__ uint8_t* at() const { return at_; }
  __device__ void next() {               // the row after must be there
    row_++;
    if (row_ == head_.gap_at) return seek();
    at_ += list_.row_bytes;
    if (++within_ == list_.per_page) {
      within_ = 0;
      at_ = list_.base + list_.pages[++page_] * list_.page_bytes;
    }
  }

 private:
  __device__ void seek() {
    const int slot = KvPages::slot(head_, row_);
    page_ = slot / list_.per_page;
    within_ = slot - page_ * list_.per_page;
    at_ = list_.base + list_.pages[page_] * list_.page_bytes + within_ * static_cast<int64_t>(list_.row_bytes);
  }

  const List& list_;
  const accel_kv_head& head_;
  int row_, page_, within_;
  uint8_t* at_;
};

// A column of a slice, of which a thread takes four rows at a time.
template <class Word>
struct Column {
  const List& list;
  const accel_kv_head& head;
  int end;                               // rows below it exist
  int column;

  __device__ void load(Word (&word)[each], int row) const {
    if (row >= end) return;
    Walk walk(list, head, row);
#pragma unroll
    for (int i = 0; i < each && row + i < end; i++) {
      if (i > 0) walk.next();
      word[i] = reinterpret_cast<const Word*>(walk.at())[column];
    }
  }
  // Row by row to the one before. Its place is looked up again: that is in L1, and registers are scarce.
  __device__ void store(const Word (&word)[each], int row) const {
    if (row >= end) return;
    Walk walk(list, head, row - 1);
#pragma unroll
    for (int i = 0; i < each && row + i < end; i++) {
      if (i > 0) walk.next();
      reinterpret_cast<Word*>(walk.at())[column] = word[i];
    }
  }
};

// Moves rows [first, end) of one slice: columns [slice * lanes, (slice + 1) * lanes) of the `words` that a row has.
template <class Word>
__device__ inline void shift_rows(const List& list, const accel_kv_head& head, int first, int end, int slice, int lanes,
                                  int words) {
  const int strands = threads / lanes, tile_rows = strands * each;
  const int strand = static_cast<int>(threadIdx.x) / lanes;
  const int column = slice * lanes + static_cast<int>(threadIdx.x) - strand * lanes;
  // A thread without rows or words takes part in the barriers only.
  const Column<Word> mine = {list, head, strand < strands && column < words ? end : first, column};
  int row = first + strand * each;
  Word even[each], odd[each];            // tiles; never moved, which would wait for the loads
  mine.load(even, row);
  for (int at = first; at < end; at += 2 * tile_rows, row += 2 * tile_rows) {
    mine.load(odd, row + tile_rows);
    __syncthreads();
    mine.store(even, row);
    if (at + tile_rows >= end) return;
    mine.load(even, row + 2 * tile_rows);
    __syncthreads();
    mine.store(odd, row + tile_rows);
  }
}

constexpr int lanes_of(int word_bytes) { return slice_bytes / word_bytes; }

// Grid: (slices of keys, of values, of records; heads). `words`: of a key or value.
template <class Word>
__global__ void __launch_bounds__(threads, 2)
    remove_rows(const __grid_constant__ KvPages kv, const int32_t* victims, int keep, int words, int slices,
                accel_device_error* error, int32_t check) {
  pdl_release();
  pdl_wait();
  const int part = blockIdx.x;
  const accel_kv_head head = kv.at(0, blockIdx.y);
  const int victim = victims[blockIdx.y], end = head.rows - keep;
  if (victim < 0 || victim >= end) {
    if (part == 0 && threadIdx.x == 0) accel_report(error, check, blockIdx.y, victim);
    return;
  }
  if (victim + 1 == end) return;
  if (part < 2 * slices) {
    const bool key = part < slices;
    const List list = {kv.base, kv.page_bytes, key ? head.key_pages : head.value_pages, kv.rows_per_page, kv.row_bytes};
    shift_rows<Word>(list, head, victim + 1, end, key ? part : part - slices, lanes_of(sizeof(Word)), words);
  } else {
    const List list = {kv.base, kv.page_bytes, head.record_pages, kv.records_per_page, 4 * kv.record_words};
    shift_rows<int32_t>(list, head, victim + 1, end, part - 2 * slices, min(kv.record_words, lanes_of(4)),
                        kv.record_words);
  }
}

// kv:kv, rows:tensor i32[Hk], keep:int
int kv_remove(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  const int64_t bytes = static_cast<int64_t>(kv.head_dim) * (kv.dtype.bits / 8);
  const int32_t check = call->device_check(
      call, "ERR_ACCEL_ARGUMENT",
      "kv_remove: the row of head %lld is %lld; it must be one of the head's rows before the newest ones that stay");
  call->ran(call, "kv_remove");
  return with_word<uint16_t>({kv.base}, {bytes, kv.page_bytes}, [&](auto* e) {
    using Word = std::remove_pointer_t<decltype(e)>;
    const int64_t slices = divide_up(bytes, slice_bytes), records = divide_up(4 * (1 + kv.tallies), slice_bytes);
    const dim3 grid(static_cast<unsigned>(2 * slices + records), static_cast<unsigned>(kv.heads));
    launch_pdl(call, remove_rows<Word>, grid, dim3(threads), 0, kv_pages(kv), data<int32_t>(tensor(call, 1)),
               static_cast<int>(call->args[2].i), static_cast<int>(bytes / static_cast<int64_t>(sizeof(Word))),
               static_cast<int>(slices), call->device_error, check);
    return launched(call);
  });
}

const OpKernel kernels[] = {{"kv_remove", kv_remove}};

}  // namespace

OpKernels kv_remove_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
