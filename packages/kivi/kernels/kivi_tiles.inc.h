// Bodies of the tile kernels. Included by one source per instruction set, which defines ACCEL_KIVI_TILES, the table's name.
//
// 32 rows at a time are decoded into fp32 tiles that stay in L1 and that all packed rows of the block use. A tile is laid
// out as the codes lie in a warp: of a word, 32 lanes come out side by side, four of them (t) neighbours in a sum.
//
//   keys    [chunk][16 rows][4 channels]  a logit is the sum over chunks, and at the end over the four
//   values  [chunk of 4 rows][D][4 rows]  an output channel has four sums, which are added up when all rows are done
//
// Plain rows go into the same tiles. Every logit and sum is made in a fixed order whatever is in the block.
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512F__)
// GCC's own AVX-512 intrinsics warn about their "undefined" helper values (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <bit>
#include <cmath>
#include <type_traits>
#include <utility>

#include "accel/host.h"
#include "kivi_args.h"
#include "kivi_tiles.h"

namespace accel_kivi {
namespace {

using accel::host::KvHead;

#if defined(__AVX512F__)
constexpr int W = 16, kTogether = 4;
#elif defined(__AVX2__)
constexpr int W = 8, kTogether = 1;
#else
constexpr int W = 4, kTogether = 1;
#endif
typedef float V __attribute__((vector_size(W * sizeof(float))));
typedef uint32_t U __attribute__((vector_size(W * sizeof(uint32_t))));
typedef int32_t I __attribute__((vector_size(W * sizeof(int32_t))));
typedef float F4 __attribute__((vector_size(4 * sizeof(float))));

constexpr int kTileBlocks = 2, kTileRows = kTileBlocks * kBlockRows;

template <class T>
inline T load(const void* from) {
  T x;
  memcpy(&x, from, sizeof x);
  return x;
}
template <class T>
inline void store(void* to, T x) {
  memcpy(to, &x, sizeof x);
}
inline V repeat4(const float* from) {
#if defined(__AVX512F__)
  return _mm512_broadcast_f32x4(_mm_loadu_ps(from));
#elif defined(__AVX2__)
  return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(from));
#else
  return load<V>(from);
#endif
}
// The sums of the elements of each.
inline F4 sums_of(F4 a, F4 b, F4 c, F4 d) {
  const F4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const F4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}
inline void add_quads(const float* from, int n, float* to) {
  for (int i = 0; i < n; i += 4) {
    const float* at = from + 4 * i;
    store(to + i, sums_of(load<F4>(at), load<F4>(at + 4), load<F4>(at + 8), load<F4>(at + 12)));
  }
}

// 2^x for x <= 0; 0 below -126. A polynomial on [-1/2, 1/2], relative error 2e-9 before rounding.
inline float exp2_of(float x) {
  const float t = x < -126.f ? -126.f : x;
  const float n = (t + 12582912.f) - 12582912.f, f = t - n;
  float y = 0.00015353309572674334f;
  y = y * f + 0.0013398939045146108f;
  y = y * f + 0.009618437848985195f;
  y = y * f + 0.055503323674201965f;
  y = y * f + 0.24022647738456726f;
  y = y * f + 0.6931471824645996f;
  y = y * f + 1.f;
  return x < -126.f ? 0.f : y * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

// Finite halves as numbers, without branches.
inline void widen_halves(const uint8_t* from, int n, float* to) {
  for (int i = 0; i < n; ++i) {
    const uint32_t half = load<uint16_t>(from + 2 * i);
    const float magnitude = std::bit_cast<float>((half & 0x7fffu) << 13) * 0x1p112f;
    to[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | (half & 0x8000u) << 16);
  }
}

// Bytes [at, at + n) of a stream, where they lie or, if they are in more than one page, copied to `room`.
inline const uint8_t* stream_bytes(const accel_kv& kv, const int32_t* pages, int64_t at, int64_t n, uint8_t* room) {
  int64_t page = at / kv.page_bytes, offset = at - page * kv.page_bytes;
  const uint8_t* first = kv.base + pages[page] * kv.page_bytes + offset;
  if (offset + n <= kv.page_bytes) return first;
  for (int64_t done = 0; done < n; ++page, offset = 0) {
    const int64_t left = kv.page_bytes - offset, part = n - done < left ? n - done : left;
    memcpy(room + done, kv.base + pages[page] * kv.page_bytes + offset, static_cast<size_t>(part));
    done += part;
  }
  return room;
}

// Where the 32 numbers of a pair's first or second codes go, and their scales and minima, which repeat every four.
struct Quad {
  float* to;
  const float* scale;
  const float* low;
};

// Decodes a block. place(p, second) gives the quad of pair p.
template <class Place>
inline void decode(const uint8_t* block, int bits, int steps, const Place& place) {
  const int words = KiviLayout::words(bits, steps);
  const U mask = U{} + ((1u << bits) - 1);
  uint32_t spread[kLanes];
  for (int word = 0, p = 0; p < 4 * steps; ++word) {
    const uint8_t* from = block + word * 4 * kLanes;
    if (word == words) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const uint32_t half = load<uint16_t>(from + 2 * lane);
        spread[lane] = (half | half << 8) & 0x00ff00ffu;
      }
      from = reinterpret_cast<const uint8_t*>(spread);
    }
    for (int shift = 0; shift < 16 && p < 4 * steps; shift += bits, ++p) {
      const Quad first = place(p, 0), second = place(p, 1);
      const V scale0 = repeat4(first.scale), low0 = repeat4(first.low);
      const V scale1 = repeat4(second.scale), low1 = repeat4(second.low);
      for (int lane = 0; lane < kLanes; lane += W) {
        const U x = load<U>(from + 4 * lane);
        const V a = __builtin_convertvector(std::bit_cast<I>((x >> shift) & mask), V);
        const V b = __builtin_convertvector(std::bit_cast<I>((x >> (shift + 16)) & mask), V);
        store(first.to + lane, a * scale0 + low0);
        store(second.to + lane, b * scale1 + low1);
      }
    }
  }
}

// Of every eight numbers those with even places, then those with odd ones: the order of chunks of four.
inline int in_chunks(int i) { return i / 8 * 8 + i % 4 * 2 + i % 8 / 4; }
inline void order(const float* from, int n, float* to) {
  for (int i = 0; i < n; i += 8) {
    const F4 a = load<F4>(from + i), b = load<F4>(from + i + 4);
    store(to + i, __builtin_shufflevector(a, b, 0, 2, 4, 6));
    store(to + i + 4, __builtin_shufflevector(a, b, 1, 3, 5, 7));
  }
}

class Attend {
 public:
  static int64_t floats(const KiviLayout& l, int rows) {
    const int64_t width = l.head_dim > l.channels() ? l.head_dim : l.channels();
    const int64_t bytes = l.key_item_bytes() + l.value_item_bytes() + l.header_bytes();
    return width * kTileRows + rows * (2 * width + 4ll * l.head_dim + kTileRows + 3) + 3 * width + bytes / 4 + 4;
  }

  Attend(const AttendBlock& b, float* workspace)
      : b_(b), l_(b.layout), kv_(*b.kv), at_(*b.kv, b.sequence, b.head), head_(at_.head()), rows_(b.queries * b.group) {
    const auto take = [&](int64_t n) {
      float* taken = workspace;
      workspace += n;
      return taken;
    };
    const int64_t d = l_.head_dim, width = d > l_.channels() ? d : l_.channels();
    tile_ = take(kTileRows * width);
    encoded_q_ = take(rows_ * l_.channels());
    plain_q_ = take(rows_ * d);
    sums_ = take(rows_ * d * 4);
    p_ = take(rows_ * kTileRows);
    factor_ = take(rows_);
    top_ = take(rows_);
    total_ = take(rows_);
    scale_ = take(width);
    low_ = take(width);
    row_ = take(width);
    room_ = reinterpret_cast<uint8_t*>(workspace);
  }

  void run() {
    accel::host::with_float(kv_.dtype, [&](auto* e) { run_as<std::remove_pointer_t<decltype(e)>>(); });
  }

 private:
  template <class T>
  void run_as() {
    load_queries<T>();
    for (int r = 0; r < rows_; ++r) top_[r] = -INFINITY;
    memset(total_, 0, rows_ * sizeof(float));
    memset(sums_, 0, static_cast<size_t>(rows_) * l_.head_dim * 4 * sizeof(float));
    const int64_t seen = b_.last + b_.queries, end = b_.end < seen ? b_.end : seen;
    for (int64_t tile = b_.begin; tile < end; tile += kTileRows) {
      for (int i = 0; i < kTileBlocks; ++i) logits_of<T>(tile + i * kBlockRows, i);
      for (int r = 0; r < rows_; ++r) weigh(r, tile);
      for (int i = 0; i < kTileBlocks; ++i) load_values<T>(tile + i * kBlockRows, i);
      add_values();
    }
    for (int r = 0; r < rows_; ++r) {
      float* out = b_.partial + r * partial_floats(l_.head_dim);
      out[0] = top_[r];
      out[1] = total_[r];
      add_quads(sums_ + static_cast<int64_t>(r) * l_.head_dim * 4, l_.head_dim, out + 2);
    }
  }

  template <class T>
  void load_queries() {
    const int d = l_.head_dim, n = l_.channels();
    const uint16_t* list = kept_channels(at_, kv_, reinterpret_cast<uint16_t*>(room_));
    for (int r = 0; r < rows_; ++r) {
      const T* from = static_cast<const T*>(b_.q) + r / b_.group * b_.q_stride + static_cast<int64_t>(r % b_.group) * d;
      float* plain = plain_q_ + static_cast<int64_t>(r) * d;
      for (int c = 0; c < d; ++c) plain[c] = accel::host::widen(from[c]) * b_.scale;
      for (int c = 0; c < n; ++c) row_[c] = c >= l_.kept ? 0.f : plain[list == nullptr ? c : list[c]];
      order(row_, n, encoded_q_ + static_cast<int64_t>(r) * n);
    }
  }

  // Logits of the 16 rows from `first` on, into p_. Rows that are not there get any number.
  template <class T>
  void logits_of(int64_t first, int block) {
    const bool encoded = first < head_.encoded_keys;
    if (encoded) {
      load_keys(first);
    } else {
      for (int i = 0; i < kBlockRows; ++i) load_plain_key<T>(first + i, i);
    }
    const int channels = encoded ? l_.channels() : l_.head_dim;
    const float* q = encoded ? encoded_q_ : plain_q_;
    float* to = p_ + block * kBlockRows;
    int r = 0;
    for (; r + kTogether <= rows_; r += kTogether) multiply<kTogether>(q + r * channels, channels, to + r * kTileRows);
    for (; r < rows_; ++r) multiply<1>(q + r * channels, channels, to + r * kTileRows);
  }

  void load_keys(int64_t first) {
    const int n = l_.channels();
    const int64_t item = kv_.encoded_key.header + first / l_.group * l_.key_item_bytes();
    const uint8_t* bytes = stream_bytes(kv_, head_.encoded_key_pages, item, l_.key_item_bytes(), room_);
    load_key_numbers(bytes + l_.key_scales(), scale_);
    load_key_numbers(bytes + l_.key_minima(), low_);
    decode(bytes + first % l_.group / kBlockRows * l_.key_block_bytes(), l_.key_bits, n / 16, [&](int p, int second) {
      const int chunk = (p / 4 * 2 + (p >> 1 & 1)) * 2 + second;
      return Quad{tile_ + chunk * 64 + (p & 1) * kLanes, scale_ + 4 * chunk, low_ + 4 * chunk};
    });
  }

  template <class T>
  void load_plain_key(int64_t row, int i) {
    const T* key = row < at_.rows() ? at_.key<const T>(row) : nullptr;
    float *numbers = row_, *to = tile_ + i * 4;
    for (int c = 0; c < l_.head_dim; ++c) numbers[c] = key == nullptr ? 0.f : accel::host::widen(key[c]);
    for (int c = 0; c < l_.head_dim; c += 4) store(to + c * kBlockRows, load<F4>(numbers + c));
  }

  // Logits of Q packed rows and the 16 keys of the tile.
  template <int Q>
  void multiply(const float* q, int channels, float* logits) const {
    constexpr int vectors = 64 / W;
    V sums[Q][vectors] = {};
    for (int chunk = 0; chunk < channels / 4; ++chunk) {
      const float* keys = tile_ + chunk * 64;
#pragma GCC unroll 4
      for (int r = 0; r < Q; ++r) {
        const V x = repeat4(q + r * channels + chunk * 4);
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) sums[r][v] += x * load<V>(keys + v * W);
      }
    }
    float spread[64];
#pragma GCC unroll 4
    for (int r = 0; r < Q; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) store(spread + v * W, sums[r][v]);
      add_quads(spread, kBlockRows, logits + r * kTileRows);
    }
  }

  // Softmax over one more tile: logits become weights, in the order of value chunks.
  void weigh(int r, int64_t tile) {
    float* p = p_ + r * kTileRows;
    int64_t count = b_.last + r / b_.group + 1 - tile;
    if (count > b_.end - tile) count = b_.end - tile;
    const int64_t hidden = b_.windows == nullptr ? 0 : b_.windows[r / b_.group] - tile;
    factor_[r] = 1;
    if (count <= 0 || hidden >= count || hidden >= kTileRows) {
      memset(p, 0, kTileRows * sizeof(float));
      return;
    }
    for (int64_t j = 0; j < hidden; ++j) p[j] = -INFINITY;
    for (int64_t j = count; j < kTileRows; ++j) p[j] = -INFINITY;
    float x[kTileRows];
    memcpy(x, p, sizeof x);
    for (int half = kTileRows / 2; half > 0; half /= 2) {
      for (int j = 0; j < half; ++j) x[j] = x[j] > x[j + half] ? x[j] : x[j + half];
    }
    const float top = top_[r] > x[0] ? top_[r] : x[0];
    for (int j = 0; j < kTileRows; ++j) x[j] = exp2_of(p[j] - top);
    order(x, kTileRows, p);
    for (int half = kTileRows / 2; half > 0; half /= 2) {
      for (int j = 0; j < half; ++j) x[j] += x[j + half];
    }
    factor_[r] = exp2_of(top_[r] - top);
    total_[r] = total_[r] * factor_[r] + x[0];
    top_[r] = top;
  }

  // The values of the 16 rows from `first` on; 0 where there is none.
  template <class T>
  void load_values(int64_t first, int block) {
    const int d = l_.head_dim;
    float* tile = tile_ + block * kBlockRows * d;
    if (first < head_.encoded_values) {
      const int64_t item = first / kBlockRows * l_.value_item_bytes();
      const uint8_t* bytes = stream_bytes(kv_, head_.encoded_value_pages, item, l_.value_item_bytes(), room_);
      const int n = l_.value_groups() * kBlockRows, group = std::countr_zero(static_cast<unsigned>(l_.group));
      load_laced(bytes + l_.value_scales(), n, 4, scale_);
      load_laced(bytes + l_.value_minima(), n, 4, low_);
      decode(bytes, l_.value_bits, d / 16, [&](int p, int second) {
        const CodePair pair = KiviLayout::pair(l_.value_bits, d / 16, true, p);
        const int chunk = pair.right * 2 + second, channel = pair.step * 16 + pair.lower * 8;
        const int at = (channel >> group) * kBlockRows + 4 * chunk;
        return Quad{tile + (chunk * d + channel) * 4, scale_ + at, low_ + at};
      });
    } else {
      memset(tile, 0, static_cast<size_t>(kBlockRows) * d * sizeof(float));
    }
    for (int chunk = 0; chunk < kBlockRows / 4; ++chunk) load_plain_values<T>(first, chunk, tile + chunk * d * 4);
  }

  // The plain ones of four rows, [channel][row].
  template <class T>
  void load_plain_values(int64_t first, int chunk, float* to) {
    const int d = l_.head_dim;
    const T* rows[4];
    int there = 0;
    for (int t = 0; t < 4; ++t) {
      const int64_t row = first + in_chunks(chunk * 4 + t);
      const bool plain = row >= head_.encoded_values && row < at_.rows();
      rows[t] = plain ? at_.value<const T>(row) : nullptr;
      there += plain;
    }
    if (there < 4) {
      for (int t = 0; t < 4; ++t) {
        for (int c = 0; c < d && rows[t] != nullptr; ++c) to[c * 4 + t] = accel::host::widen(rows[t][c]);
      }
      return;
    }
    for (int c = 0; c < d; c += 4) {
      float x[4][4];
      for (int t = 0; t < 4; ++t) {
        for (int i = 0; i < 4; ++i) x[t][i] = accel::host::widen(rows[t][c + i]);
      }
      const F4 a = load<F4>(x[0]), b = load<F4>(x[1]), e = load<F4>(x[2]), f = load<F4>(x[3]);
      const F4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ef = __builtin_shufflevector(e, f, 0, 4, 1, 5);
      const F4 cd = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(e, f, 2, 6, 3, 7);
      store(to + c * 4, __builtin_shufflevector(ab, ef, 0, 1, 4, 5));
      store(to + c * 4 + 4, __builtin_shufflevector(ab, ef, 2, 3, 6, 7));
      store(to + c * 4 + 8, __builtin_shufflevector(cd, gh, 0, 1, 4, 5));
      store(to + c * 4 + 12, __builtin_shufflevector(cd, gh, 2, 3, 6, 7));
    }
  }

  // Scales or minima, from the order of lanes to that of chunks: `width` numbers of each of four lanes.
  void load_laced(const uint8_t* halves, int n, int width, float* to) {
    widen_halves(halves, n, row_);
    for (int i = 0; i < n; i += 4 * width) {
      for (int lane = 0; lane < 4; ++lane) {
        for (int k = 0; k < width; ++k) to[i + k * 4 + lane] = row_[i + lane * width + k];
      }
    }
  }
  // Those of keys: of two steps together, and of a step that is left over.
  void load_key_numbers(const uint8_t* halves, float* to) {
    const int n = l_.channels(), two = n / 32 * 32;
    load_laced(halves, two, 8, to);
    if (two < n) load_laced(halves + 2 * two, n - two, 4, to + two);
  }

  void add_values() {
    int r = 0;
    for (; r + kTogether <= rows_; r += kTogether) accumulate<kTogether>(r);
    for (; r < rows_; ++r) accumulate<1>(r);
  }

  template <int Q>
  void accumulate(int r) {
    constexpr int vectors = W == 16 ? 4 : 8;  // so many times W divides the 64 sums of 16 channels
    const int width = 4 * l_.head_dim;
    float* sums = sums_ + static_cast<int64_t>(r) * width;
    const float* p = p_ + r * kTileRows;
    for (int x = 0; x < width; x += vectors * W) {
      V sum[Q][vectors];
#pragma GCC unroll 4
      for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sum[i][v] = load<V>(sums + i * width + x + v * W) * factor_[r + i];
      }
      for (int chunk = 0; chunk < kTileRows / 4; ++chunk) {
        const float* values = tile_ + chunk * width + x;
#pragma GCC unroll 4
        for (int i = 0; i < Q; ++i) {
          const V weight = repeat4(p + i * kTileRows + chunk * 4);
#pragma GCC unroll 8
          for (int v = 0; v < vectors; ++v) sum[i][v] += weight * load<V>(values + v * W);
        }
      }
#pragma GCC unroll 4
      for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) store(sums + i * width + x + v * W, sum[i][v]);
      }
    }
  }

  const AttendBlock& b_;
  const KiviLayout& l_;
  const accel_kv& kv_;
  const KvHead at_;
  const accel_kv_head& head_;
  const int rows_;
  float *tile_, *encoded_q_, *plain_q_, *sums_, *p_, *factor_, *top_, *total_, *scale_, *low_, *row_;
  uint8_t* room_;
};

void attend(const AttendBlock& block, float* workspace) { Attend(block, workspace).run(); }

int64_t workspace_floats(const KiviLayout& layout, int rows) { return Attend::floats(layout, rows); }

}  // namespace

const TileKernels ACCEL_KIVI_TILES = {attend, workspace_floats};

}  // namespace accel_kivi
