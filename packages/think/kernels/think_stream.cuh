// Split-KV decoding over pruned and plain keys, one segment: R = 16 M packed query rows against the keys of some tiles.
//
// Each warp takes 16 keys of every tile for itself, with a pipeline and a softmax state of its own, so
// the loop has no block barrier. A step of a warp is 16 keys in one of two forms, and their values:
//   an item     [kept channel][16 rows]: ldmatrix.trans makes the B fragment of S = Q K^T of 16 channels. Q is a copy
//               gathered at the head's kept channels; where the last 16 are not full, both have zeros
//   plain rows  [16 rows][D], and Q as it is
// Where the pruned rows end inside an item the warp makes two steps of these 16 keys, one in each form, and in each hides
// the rows of the other. So bytes are read as they are stored, 16 a lane at a time, and nothing is unpacked.
//
// Pages come by cp.async, `stages` steps deep; which pages these are is looked up one step before. Rows that no query sees
// are zeros: the memory behind them may hold NaN. There is no shuffle in the loop, as each of them would wait for all lanes.
//
// Shared memory: for each warp, stages x (keys, values), each 16 rows of D elements, of which an item takes the first
// 32 kept bytes; then Q and the gathered Q, R rows each. Chunks of 16 bytes are swizzled: those of rows as in
// accel/mma.cuh, those of an item so that eight channels of a fragment's column fall into eight bank groups.
#ifndef ACCEL_THINK_STREAM_CUH
#define ACCEL_THINK_STREAM_CUH

#include <limits.h>

#include <type_traits>

#include "think_arguments.cuh"
#include "think_layout.h"
#include "think_softmax.cuh"

namespace accel_think {

template <class T, int D, int M>
class ThinkStream {
 public:
  static constexpr int R = 16 * M;
  static constexpr int row_bytes = D * 2, chunks = D / 8;
  static constexpr int tile_bytes = kItemRows * row_bytes, stage_bytes = 2 * tile_bytes;
  static constexpr int stages = D == 128 ? 2 : 4;
  static constexpr int warp_bytes = stages * stage_bytes;
  static constexpr int shared_bytes = kStreamWarps * warp_bytes + 2 * R * row_bytes;
  using State = SoftmaxState<T, D, M>;
  static_assert(State::join_bytes <= warp_bytes, "the values of a warp take the place of its stages");

  // What the warps share besides.
  struct Notes {
    float2 states[kStreamWarps][R];
    int begins[R];  // the first key that a row sees
  };

  // `notes`: in shared memory.
  __device__ ThinkStream(const ThinkArguments& a, uint8_t* shared, Notes& notes)
      : t_(a), a_(a.decode), shared_(shared), notes_(notes), lane_(threadIdx.x % 32), warp_(threadIdx.x / 32) {
    stage_address_ = shared_address(shared + warp_ * warp_bytes);
    query_address_ = shared_address(shared + kStreamWarps * warp_bytes);
  }

  __device__ void segment(int unit, int first_tile, int end_tile, int segment) {
    unit_ = decode_unit<R>(a_, unit);
    head_ = a_.pages.at(unit_.sequence, unit_.head);
    const int first = unit_.start(a_) + first_tile * kStreamTile;
    stop_ = min(unit_.end, unit_.start(a_) + end_tile * kStreamTile);
    base_ = first + warp_ * kItemRows;
    const int steps = count_steps();

    Place ahead[stages - 1];
#pragma unroll
    for (int s = 0; s < stages - 1; s++) ahead[s] = locate(s);
    pdl_wait();  // up to here only what the plan is made from was read
    const bool gathers = first < head_.encoded_keys;
    const int channel = gathers ? channel_of(threadIdx.x % D) : -1;
    load_queries();
#pragma unroll
    for (int s = 0; s < stages - 1; s++) issue(s, s, ahead[s]);
    Place next = locate(stages - 1);
    state_.reset();
    cp_async_wait<stages - 1>();
    __syncthreads();  // Q is there; a warp without keys in this segment comes along
    if (gathers) {
      gather_queries(channel);
      __syncthreads();
    }
    int stage = 0;
    for (int s = 0; s < steps; s++) {
      cp_async_wait<stages - 2>();
      __syncwarp();  // this step has arrived for all lanes, and all are done with the step before: its place is free
      const Place now = next;
      next = locate(s + stages);
      issue(stage == 0 ? stages - 1 : stage - 1, s + stages - 1, now);
      step(stage_address_ + stage * stage_bytes, piece_of(s));
      stage = stage == stages - 1 ? 0 : stage + 1;
    }
    cp_async_wait<0>();
    __syncwarp();
    state_.join(a_, segment, unit_.rows, notes_.states, shared_, warp_bytes);
  }

 private:
  // The keys of a step: 16 from `key` on, of which those in [low, high) count.
  struct Piece {
    int key;
    bool pruned;
    int low, high;
  };
  // The pages of a step, the same in all lanes.
  struct Place {
    int keys;       // of the keys, or the first of the item
    int more_keys;  // the last of the item
    int values;
  };

  // Finds the step that is made of both forms, if this warp has it, and counts steps.
  __device__ int count_steps() {
    const int tiles = base_ < stop_ ? (stop_ - base_ + kStreamTile - 1) / kStreamTile : 0;
    const int rest = head_.encoded_keys % kItemRows, offset = head_.encoded_keys - rest - base_;
    const bool mine = rest != 0 && head_.encoded_keys < stop_ && offset >= 0 && offset % kStreamTile == 0;
    split_ = mine ? offset / kStreamTile : INT_MAX - 1;
    return tiles + (mine ? 1 : 0);
  }

  __device__ Piece piece_of(int s) const {
    const int key = base_ + (s > split_ ? s - 1 : s) * kStreamTile, encoded = head_.encoded_keys;
    return s <= split_ && key < encoded ? Piece{key, true, 0, encoded} : Piece{key, false, encoded, INT_MAX};
  }

  // Straight-line code with loads whose results nothing waits for: beyond the last key it looks up some page that exists,
  // and `issue` leaves it alone.
  __device__ Place locate(int s) const {
    const Piece piece = piece_of(s);
    const int page = t_.rows_per_page.quotient(min(piece.key, stop_ - 1));
    const int first = t_.page_bytes.quotient(item_begin(piece.key));
    const int last = t_.page_bytes.quotient(item_begin(piece.key) + t_.item_bytes - 1);
    const int32_t* keys = piece.pruned ? head_.encoded_key_pages : head_.key_pages;
    return {keys[piece.pruned ? first : page], keys[piece.pruned ? last : page], head_.value_pages[page]};
  }

  __device__ unsigned item_begin(int key) const { return t_.header_bytes + key / kItemRows * t_.item_bytes; }
  __device__ const uint8_t* page(int number) const { return a_.pages.base + number * a_.pages.page_bytes; }

  __device__ void issue(int stage, int s, const Place& place) const {
    const Piece piece = piece_of(s);
    const uint32_t to = stage_address_ + stage * stage_bytes;
    const int row = piece.key - t_.rows_per_page.quotient(piece.key) * t_.rows_per_page.value;
    if (piece.pruned) {
      with_steps([&](auto steps) { copy_item<steps()>(to, piece.key, page(place.keys), page(place.more_keys)); });
    } else {
      copy_rows(to, piece, page(place.keys) + row * row_bytes);
    }
    copy_rows(to + tile_bytes, piece, page(place.values) + row * row_bytes);
    cp_async_commit();
  }

  // Calls f with the number of steps of 16 channels as a constant, so that its loops have no branches.
  template <int low = 1, int high = D / 16, class F>
  __device__ void with_steps(const F& f) const {
    if constexpr (low == high) {
      f(std::integral_constant<int, low>());
    } else {
      constexpr int middle = (low + high) / 2;
      if (t_.channels <= middle * 16) with_steps<low, middle>(f);
      else with_steps<middle + 1, high>(f);
    }
  }

  // A lane copies chunk lane % chunks of every (32 / chunks)th of the 16 rows from `from` on.
  __device__ void copy_rows(uint32_t to, const Piece& piece, const uint8_t* from) const {
    const int chunk = lane_ % chunks, first = lane_ / chunks, low = piece.low - piece.key;
    const unsigned count = max(0, min(piece.high, stop_) - max(piece.low, piece.key)), skip = max(0, low);
    const uint8_t* mine = from + first * row_bytes + chunk * 16;
#pragma unroll
    for (int i = 0; i < kItemRows; i += 32 / chunks) {
      const bool valid = first + i - skip < count;
      cp_async16(to + swizzle<chunks>(first + i, chunk), valid ? mine + i * row_bytes : a_.pages.base, valid);
    }
  }

  // An item's chunks as they come, two a channel, then zeros up to whole steps of 16 channels.
  template <int steps>
  __device__ void copy_item(uint32_t to, int key, const uint8_t* first, const uint8_t* last) const {
    const unsigned begin = item_begin(key), page_bytes = t_.page_bytes.value;
    const unsigned within = begin - t_.page_bytes.quotient(begin) * page_bytes + 16 * lane_;
    const unsigned chunks_there = key < stop_ ? 2 * t_.channels : 0;
#pragma unroll
    for (int k = 0; k < steps; k++) {
      const unsigned i = k * 32 + lane_, at = within + 512 * k;
      const uint8_t* from = at < page_bytes ? first + at : last + (at - page_bytes);
      const bool valid = i < chunks_there;
      cp_async16(to + (i ^ (i / 8 % 2)) * 16, valid ? from : a_.pages.base, valid);
    }
  }

  __device__ int64_t packed_row(int row) const {  // of q, in rows of D
    const int i = row / a_.group;
    return static_cast<int64_t>(unit_.token + i) * a_.query_heads + unit_.head * a_.group + (row - i * a_.group);
  }

  // Q, with zeros behind the last row; those rows take over the bound of the last.
  __device__ void load_queries() {
#pragma unroll
    for (int i = threadIdx.x; i < R * chunks; i += kStreamThreads) {
      const int row = i / chunks, chunk = i % chunks;
      const bool valid = row < unit_.rows;
      cp_async16(query_address_ + swizzle<chunks>(row, chunk),
                 static_cast<const T*>(a_.q) + (valid ? packed_row(unit_.row + row) * D + chunk * 8 : 0), valid);
    }
    cp_async_commit();
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int row = min(m * 16 + half * 8 + lane_ / 4, unit_.rows - 1);
        end_[m][half] = decode_visible(a_, unit_, (unit_.row + row) / a_.group).y;
      }
    }
    first_end_ = decode_visible(a_, unit_, unit_.row / a_.group).y;
    if (threadIdx.x < R) {
      notes_.begins[threadIdx.x] =
          decode_visible(a_, unit_, (unit_.row + min(static_cast<int>(threadIdx.x), unit_.rows - 1)) / a_.group).x;
    }
  }

  // The channel that is number c of the kept ones; -1 beyond.
  __device__ int channel_of(int c) const {
    if (c >= t_.channels) return -1;
    return *reinterpret_cast<const uint16_t*>(a_.pages.stream(head_.encoded_key_pages, 2 * c));
  }

  // A thread copies one column of Q for each of its rows.
  __device__ void gather_queries(int channel) const {
    const int c = threadIdx.x % D;
    const T* from = reinterpret_cast<const T*>(shared_ + kStreamWarps * warp_bytes);
    T* to = reinterpret_cast<T*>(shared_ + kStreamWarps * warp_bytes + R * row_bytes);
    for (int row = threadIdx.x / D; row < R; row += kStreamThreads / D) {
      to[element(row, c)] = channel < 0 ? from_float<T>(0.f) : from[element(row, channel)];
    }
  }
  __device__ static int element(int row, int channel) { return swizzle<chunks>(row, channel / 8) / 2 + channel % 8; }

  __device__ void step(uint32_t stage, const Piece& piece) {
    float s[M][2][4];
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int e = 0; e < 4; e++) s[m][0][e] = s[m][1][e] = 0;
    }
    if (piece.pruned) {
      with_steps([&](auto steps) { pruned_logits<steps()>(stage, s); });
    } else {
      plain_logits(stage, s);
    }
    const bool cut = piece.key < piece.low || piece.key + 16 > min(piece.high, first_end_);
    uint32_t p[M][4];
#pragma unroll
    for (int m = 0; m < M; m++) {
      const int column = piece.key + lane_ % 4 * 2;
#pragma unroll
      for (int tile = 0; tile < 2; tile++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int key = column + tile * 8 + e % 2;
          s[m][tile][e] *= a_.scale;
          if (cut && (key < piece.low || key >= min(piece.high, end_[m][e / 2]))) s[m][tile][e] = -INFINITY;
        }
      }
      if (a_.window_begin != nullptr && piece.key < notes_.begins[R - 1]) {  // rows behind the last one have its begin
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int hidden = notes_.begins[m * 16 + e / 2 * 8 + lane_ / 4] - column - e % 2;  // so many columns
          if (hidden > 0) s[m][0][e] = -INFINITY;
          if (hidden > 8) s[m][1][e] = -INFINITY;
        }
      }
      state_.weigh(m, s[m], p[m]);
    }
    state_.add_values(stage + tile_bytes, p);
  }

  // Steps of 16 channels are two chunks of a row of Q, bits 5 and up, which the swizzle leaves apart from the lower
  // chunk bit: they flip by xor. In an item they are 32 chunks.
  template <int steps>
  __device__ void pruned_logits(uint32_t stage, float (&s)[M][2][4]) const {
    const int i = 2 * (lane_ % 16) + lane_ / 16;
    const uint32_t keys = stage + (i ^ (i / 8 % 2)) * 16;
    multiply<steps>(query_address_ + R * row_bytes, s,
                    [&](int k, uint32_t (&b)[4]) { ldmatrix_x4_trans(b, keys + k * 512); });
  }

  __device__ void plain_logits(uint32_t stage, float (&s)[M][2][4]) const {
    const uint32_t keys = stage + swizzle<chunks>(lane_ % 8 + lane_ / 16 * 8, lane_ / 8 % 2);
    multiply<D / 16>(query_address_, s, [&](int k, uint32_t (&b)[4]) { ldmatrix_x4(b, keys ^ (k * 32)); });
  }

  // Fragments of a step are on their way while those of the step before are multiplied.
  template <int steps, class Load>
  __device__ void multiply(uint32_t query_rows, float (&s)[M][2][4], const Load& load) const {
    const uint32_t queries = query_rows + swizzle<chunks>(lane_ % 16, lane_ / 16);
    uint32_t b[2][4], q[2][M][4];
    const auto fetch = [&](int k) {
      load(k, b[k % 2]);
#pragma unroll
      for (int m = 0; m < M; m++) ldmatrix_x4(q[k % 2][m], (queries + m * tile_bytes) ^ (k * 32));
    };
    fetch(0);
#pragma unroll
    for (int k = 0; k < steps; k++) {
      if (k + 1 < steps) fetch(k + 1);
#pragma unroll
      for (int m = 0; m < M; m++) {
        mma_m16n8k16<T>(s[m][0], q[k % 2][m], b[k % 2][0], b[k % 2][1]);
        mma_m16n8k16<T>(s[m][1], q[k % 2][m], b[k % 2][2], b[k % 2][3]);
      }
    }
  }

  const ThinkArguments& t_;
  const DecodeArguments& a_;
  uint8_t* shared_;
  Notes& notes_;
  int lane_, warp_;
  uint32_t stage_address_, query_address_;
  DecodeUnit unit_;
  accel_kv_head head_;
  int base_, stop_;            // this warp's first key; keys of this segment end here
  int split_;                  // the step whose keys come in both forms, pruned; plain in the next
  int first_end_;              // the first row sees fewest of the new keys
  int end_[M][2];
  State state_;
};

}  // namespace accel_think
#endif
