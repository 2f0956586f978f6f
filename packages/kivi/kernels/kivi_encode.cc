// kivi_encode: encodes rows [plain, encoded) of the keys and values of every sequence and head (kivi_layout.h).
//
//   key_bits, value_bits, group, channels   the layout; `channels` of the keys are kept
//   key_limit, value_limit                  no head has more rows to encode than these; the grid on CUDA
//
// Keys come in whole groups of rows. Values come in any number: they are added to an item that is partly full. A group with
// a number that half precision does not hold, or whose numbers are more than 65504 apart, is an error.
#include <atomic>
#include <type_traits>

#include "kivi_args.h"
#include "kivi_quant.h"

namespace accel_kivi {

using namespace accel::host;
using namespace encode;

int encode_check(const accel_call* call) {
  if (check_layout(call, "kivi_encode", kKv, kKeyBits) != ACCEL_OK) return ACCEL_FAILED;
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t group = call->args[kGroup].i;
  for (int i = 0; i < kv.sequences * kv.heads; ++i) {
    const accel_kv_head& head = kv.head[i];
    if (head.plain_keys % group != 0 || head.encoded_keys % group != 0) {
      return call->fail(call, "ERR_ACCEL_ARGUMENT", "kivi_encode: keys %d to %d of head %d are not whole groups of %lld.",
                        head.plain_keys, head.encoded_keys, i, (long long)group);
    }
    const int64_t keys = head.encoded_keys - head.plain_keys, values = head.encoded_values - head.plain_values;
    if (keys > call->args[kKeyLimit].i || values > call->args[kValueLimit].i) {
      return call->fail(call, "ERR_ACCEL_ARGUMENT",
                        "kivi_encode: head %d has %lld keys and %lld values to encode, but the limits are %lld and %lld.",
                        i, (long long)keys, (long long)values, (long long)call->args[kKeyLimit].i,
                        (long long)call->args[kValueLimit].i);
    }
  }
  return ACCEL_OK;
}

namespace {

// The first fault that any thread finds.
class Faults {
 public:
  void report(int kind, int64_t head, int64_t row) {
    if (found_.exchange(true)) return;
    kind_ = kind;
    head_ = head;
    row_ = row;
  }
  int result(const accel_call* call) const {
    if (!found_) return ACCEL_OK;
    return call->fail(call, kFaultTexts[kind_].code, kFaultTexts[kind_].format, (long long)head_, (long long)row_);
  }

 private:
  std::atomic<bool> found_{false};
  int kind_ = 0;
  int64_t head_ = 0, row_ = 0;
};

// The memory of one thread.
struct Work {
  float* x;             // numbers of an item, as halves
  float* low;           // by channel: minimum, maximum
  float* high;
  float* scale;
  uint8_t* codes;
  uint8_t* item;
  uint16_t* channels;

  static int64_t floats(const KiviLayout& l) { return largest(l) + 3ll * l.head_dim; }
  static int64_t bytes(const KiviLayout& l) { return largest(l) + item_bytes(l) + l.header_bytes(); }
  Work(const KiviLayout& l, float* numbers, uint8_t* rest)
      : x(numbers),
        low(numbers + largest(l)),
        high(low + l.head_dim),
        scale(high + l.head_dim),
        codes(rest),
        item(rest + largest(l)),
        channels(reinterpret_cast<uint16_t*>(item + item_bytes(l))) {}

 private:
  static int64_t largest(const KiviLayout& l) { return static_cast<int64_t>(l.group) * l.channels() + 16ll * l.head_dim; }
  static int64_t item_bytes(const KiviLayout& l) {
    return l.key_item_bytes() > l.value_item_bytes() ? l.key_item_bytes() : l.value_item_bytes();
  }
};

// Loops over numbers, in functions of their own so that compilers see that nothing overlaps.

template <class T>
void halves_of(const T* __restrict from, int n, float* __restrict to) {
  for (int i = 0; i < n; ++i) to[i] = as_half(widen(from[i]));
}

// Widens ranges to hold x; what is not finite makes `bad` set.
void widen_ranges(const float* __restrict x, int n, float* __restrict low, float* __restrict high, int* bad) {
  int found = 0;
  for (int i = 0; i < n; ++i) {
    low[i] = x[i] < low[i] ? x[i] : low[i];
    high[i] = x[i] > high[i] ? x[i] : high[i];
    found |= !(x[i] - x[i] == 0);
  }
  *bad |= found;
}

struct Range {
  float low, high;
  bool finite;
};

// n is a multiple of 16.
Range range_of(const float* x, int n) {
  float low[16], high[16];
  memcpy(low, x, sizeof low);
  memcpy(high, x, sizeof high);
  int bad = 0;
  for (int i = 0; i < n; i += 16) widen_ranges(x + i, 16, low, high, &bad);
  for (int i = 1; i < 16; ++i) {
    low[0] = low[i] < low[0] ? low[i] : low[0];
    high[0] = high[i] > high[0] ? high[i] : high[0];
  }
  return {low[0], high[0], bad == 0};
}

void codes_of(const float* __restrict x, const float* __restrict low, const float* __restrict scale, int n, int most,
              uint8_t* __restrict codes) {
  for (int i = 0; i < n; ++i) codes[i] = static_cast<uint8_t>(code_of(x[i], low[i], scale[i], most));
}

void put_halves(const float* from, int n, uint8_t* to) {
  for (int i = 0; i < n; ++i) narrow(from[i], reinterpret_cast<F16*>(to) + i);
}

// Codes of a block into its words. The code of fragment row a, column b of step s is codes[16 s + row a + column b].
void pack(int bits, int steps, bool values, const uint8_t* codes, int row, int column, uint8_t* block) {
  const int in_word = 16 / bits, words = KiviLayout::words(bits, steps);
  const auto pair = [&](int p, int lane) {
    const CodePair at_pair = KiviLayout::pair(bits, steps, values, p);
    const int a = lane / 4 + 8 * at_pair.lower, b = 2 * (lane % 4) + 8 * at_pair.right;
    const uint8_t* at = codes + at_pair.step * 16 + a * row + b * column;
    return static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[column]) << 16;
  };
  uint32_t word[kLanes];
  for (int w = 0; w < words; ++w) {
    memset(word, 0, sizeof word);
    for (int j = 0; j < in_word; ++j) {
      for (int lane = 0; lane < kLanes; ++lane) word[lane] |= pair(w * in_word + j, lane) << (bits * j);
    }
    memcpy(block + w * sizeof word, word, sizeof word);
  }
  if (!KiviLayout::half_word(bits, steps)) return;
  uint16_t half[kLanes] = {};
  for (int j = 0; j < in_word / 2; ++j) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const uint32_t both = pair(words * in_word + j, lane) << (bits * j);
      half[lane] = static_cast<uint16_t>(half[lane] | both | both >> 8);
    }
  }
  memcpy(block + words * sizeof word, half, sizeof half);
}

// The group of rows from `first` on.
template <class T>
void encode_keys(const KiviLayout& l, const KvHead& head, int64_t base, int64_t first, int64_t at, const uint16_t* list,
                 const Work& work, Faults& faults, int64_t index) {
  const int n = l.channels(), most = (1 << l.key_bits) - 1;
  const auto row = [&](int r) { return work.x + static_cast<int64_t>(r) * n; };
  for (int r = 0; r < l.group; ++r) {
    const T* key = head.key<const T>(first + r);
    float* x = row(r);
    if (list == nullptr) halves_of(key, n, x);
    for (int c = 0; c < l.kept && list != nullptr; ++c) x[c] = as_half(widen(key[list[c]]));
    for (int c = l.kept; c < n; ++c) x[c] = 0;
  }
  memcpy(work.low, work.x, n * sizeof(float));
  memcpy(work.high, work.x, n * sizeof(float));
  int bad = 0;
  for (int r = 0; r < l.group; ++r) widen_ranges(row(r), n, work.low, work.high, &bad);
  if (bad != 0) return faults.report(kKeyNumber, index, first);
  for (int c = 0; c < n; ++c) {
    if (work.high[c] - work.low[c] > kMostHalf) return faults.report(kKeySpan, index, first);
    work.low[c] += 0.f;  // the same zero whichever was met first
    work.scale[c] = scale_of(work.low[c], work.high[c], most);
  }
  for (int r = 0; r < l.group; ++r) codes_of(row(r), work.low, work.scale, n, most, work.codes + r * n);
  for (int b = 0; b < l.key_blocks(); ++b) {
    pack(l.key_bits, n / 16, false, work.codes + b * kBlockRows * n, n, 1, work.item + b * l.key_block_bytes());
  }
  for (int c = 0; c < n; ++c) {
    put_halves(work.scale + c, 1, work.item + l.key_scales() + 2 * l.key_scale(c));
    put_halves(work.low + c, 1, work.item + l.key_minima() + 2 * l.key_scale(c));
  }
  head.write_encoded(head.head().encoded_key_pages, base + at * l.key_item_bytes(), l.key_item_bytes(), work.item);
}

// Rows [first, end) of the item of 16 rows that they are in.
template <class T>
void encode_values(const KiviLayout& l, const KvHead& head, int64_t first, int64_t end, const Work& work, Faults& faults,
                   int64_t index) {
  const int most = (1 << l.value_bits) - 1;
  const int64_t item = first / kBlockRows, at = item * l.value_item_bytes(), row0 = item * kBlockRows;
  const bool whole = first == row0 && end == row0 + kBlockRows;
  if (first == row0) {
    memset(work.item, 0, l.value_item_bytes());
  } else {
    head.read_encoded(head.head().encoded_value_pages, at, l.value_item_bytes(), work.item);
  }
  for (int64_t row = first; row < end; ++row) {
    const int r = static_cast<int>(row - row0);
    const T* value = head.value<const T>(row);
    uint8_t* codes = work.codes + r * l.head_dim;
    halves_of(value, l.head_dim, work.x);
    for (int g = 0; g < l.value_groups(); ++g) {
      const int c = g * l.group, place = 2 * KiviLayout::value_scale(g, r);
      const Range range = range_of(work.x + c, l.group);
      if (!range.finite) return faults.report(kValueNumber, index, row);
      if (range.high - range.low > kMostHalf) return faults.report(kValueSpan, index, row);
      const float low = range.low + 0.f, scale = scale_of(low, range.high, most);
      put_halves(&scale, 1, work.item + l.value_scales() + place);
      put_halves(&low, 1, work.item + l.value_minima() + place);
      for (int i = 0; i < l.group; ++i) {
        work.low[c + i] = low;
        work.scale[c + i] = scale;
      }
    }
    codes_of(work.x, work.low, work.scale, l.head_dim, most, codes);
    for (int c = 0; c < l.head_dim && !whole; ++c) {
      const CodePlace place = l.value_place(r, c);
      uint8_t& byte = work.item[place.byte];
      byte = static_cast<uint8_t>((byte & ~(most << place.shift)) | codes[c] << place.shift);
    }
  }
  if (whole) pack(l.value_bits, l.head_dim / 16, true, work.codes, 1, l.head_dim, work.item);
  head.write_encoded(head.head().encoded_value_pages, at, l.value_item_bytes(), work.item);
}

// Items from the one that holds row `from` to the one that holds row to - 1.
int64_t items(int64_t from, int64_t to, int64_t rows) { return from == to ? 0 : (to - 1) / rows - from / rows + 1; }

}  // namespace

int encode_cpu(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const KiviLayout layout = layout_of(call, kKv, kKeyBits);
  int64_t keys = 0, values = 0;  // items of the head that has most
  for (int i = 0; i < kv.sequences * kv.heads; ++i) {
    const accel_kv_head& head = kv.head[i];
    const int64_t k = items(head.plain_keys, head.encoded_keys, layout.group);
    const int64_t v = items(head.plain_values, head.encoded_values, kBlockRows);
    keys = k > keys ? k : keys;
    values = v > values ? v : values;
  }
  if (keys + values == 0) return ACCEL_OK;
  const int64_t floats = Work::floats(layout), bytes = (Work::bytes(layout) + 63) / 64 * 64;
  float* numbers = static_cast<float*>(call->scratch(call, static_cast<size_t>(call->threads * floats) * sizeof(float)));
  uint8_t* rest = static_cast<uint8_t*>(call->scratch(call, static_cast<size_t>(call->threads * bytes)));
  Faults faults;
  call->ran(call, "kivi_encode");
  parallel(call, kv.sequences * kv.heads * (keys + values), 4, [&](int64_t begin, int64_t end, int32_t worker) {
    const Work work(layout, numbers + worker * floats, rest + worker * bytes);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t index = i / (keys + values), item = i % (keys + values);
      const KvHead at(kv, 0, static_cast<int>(index));
      const accel_kv_head& head = at.head();
      with_float(kv.dtype, [&](auto* e) {
        using T = std::remove_pointer_t<decltype(e)>;
        if (item < keys) {
          const int64_t first = head.plain_keys + item * layout.group;
          if (first >= head.encoded_keys) return;
          const uint16_t* list = kept_channels(at, kv, work.channels);
          encode_keys<T>(layout, at, kv.encoded_key.header, first, first / layout.group, list, work, faults, index);
          return;
        }
        const int64_t row0 = (head.plain_values / kBlockRows + item - keys) * kBlockRows;
        const int64_t first = row0 > head.plain_values ? row0 : head.plain_values;
        const int64_t last = row0 + kBlockRows < head.encoded_values ? row0 + kBlockRows : head.encoded_values;
        if (first < last) encode_values<T>(layout, at, first, last, work, faults, index);
      });
    }
  });
  return faults.result(call);
}

}  // namespace accel_kivi
