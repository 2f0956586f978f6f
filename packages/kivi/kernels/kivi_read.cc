// kivi_read: the encoded rows of one sequence as the paper's authors lay them out, for tests and inspection.
//
//   codes_k          i32 [Hk, channels, Tk b / 32]  words along rows, lowest bits first; Tk is the encoded keys of every head
//   scale_k, min_k   f16 [Hk, channels, Tk / G]
//   codes_v          i32 [Hk, Tv, D b / 32]         words along channels; Tv is the encoded values of every head
//   scale_v, min_v   f16 [Hk, Tv, D / G]
//
// Each may be absent. Of pruned keys the kept channels are there, in their order.
#include "kivi_args.h"

namespace accel_kivi {

using namespace accel::host;
using namespace read;

namespace {

int check_output(const accel_call* call, int i, const char* name, bool codes, int64_t a, int64_t b) {
  const accel_tensor* t = call->args[i].tensor;
  if (t == nullptr) return ACCEL_OK;
  const int64_t heads = call->args[kKv].kv->heads;
  const bool type = codes ? is_i32(t) : t->dtype.code == ACCEL_FLOAT && t->dtype.bits == 16;
  if (type && has_shape(t, heads, a, b)) return ACCEL_OK;
  return call->fail(call, "ERR_ACCEL_SHAPE", "kivi_read: %s must be %s [%lld, %lld, %lld].", name,
                    codes ? "int32" : "float16", (long long)heads, (long long)a, (long long)b);
}

}  // namespace

int read_check(const accel_call* call) {
  if (check_layout(call, "kivi_read", kKv, kKeyBits) != ACCEL_OK) return ACCEL_FAILED;
  const accel_kv& kv = *call->args[kKv].kv;
  if (kv.sequences != 1) {
    return call->fail(call, "ERR_ACCEL_BATCH", "kivi_read: kv must be one sequence, got %d.", kv.sequences);
  }
  const KiviLayout l = layout_of(call, kKv, kKeyBits);
  const int64_t keys = kv.head[0].encoded_keys, values = kv.head[0].encoded_values;
  for (int h = 1; h < kv.heads; ++h) {
    if (kv.head[h].encoded_keys == keys && kv.head[h].encoded_values == values) continue;
    return call->fail(call, "ERR_ACCEL_SHAPE", "kivi_read: head %d has %d encoded keys and %d values, head 0 %lld and %lld.",
                      h, kv.head[h].encoded_keys, kv.head[h].encoded_values, (long long)keys, (long long)values);
  }
  const int64_t groups = l.value_groups();
  const bool fits = check_output(call, kCodesK, "codes_k", true, l.kept, keys * l.key_bits / 32) == ACCEL_OK &&
                    check_output(call, kScaleK, "scale_k", false, l.kept, keys / l.group) == ACCEL_OK &&
                    check_output(call, kMinK, "min_k", false, l.kept, keys / l.group) == ACCEL_OK &&
                    check_output(call, kCodesV, "codes_v", true, values, l.head_dim * l.value_bits / 32) == ACCEL_OK &&
                    check_output(call, kScaleV, "scale_v", false, values, groups) == ACCEL_OK &&
                    check_output(call, kMinV, "min_v", false, values, groups) == ACCEL_OK;
  return fits ? ACCEL_OK : ACCEL_FAILED;
}

namespace {

uint16_t half_at(const uint8_t* at) {
  uint16_t bits;
  memcpy(&bits, at, 2);
  return bits;
}

void read_keys(const accel_call* call, const KiviLayout& l, const KvHead& head, int h) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t groups = head.head().encoded_keys / l.group, words = l.group * l.key_bits / 32;
  uint32_t* codes = data<uint32_t>(call->args[kCodesK].tensor);
  uint16_t* scale = data<uint16_t>(call->args[kScaleK].tensor);
  uint16_t* low = data<uint16_t>(call->args[kMinK].tensor);
  for (int c = 0; c < l.kept; ++c) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t item = kv.encoded_key.header + g * l.key_item_bytes(), at = (h * l.kept + c) * groups + g;
      if (scale != nullptr) scale[at] = half_at(head.encoded_key(item + l.key_scales() + 2 * l.key_scale(c)));
      if (low != nullptr) low[at] = half_at(head.encoded_key(item + l.key_minima() + 2 * l.key_scale(c)));
      if (codes == nullptr) continue;
      // A group of 16 rows and 2 bits is one word, so groups begin with words.
      for (int64_t w = 0; w < words; ++w) codes[at * words + w] = 0;
      for (int r = 0; r < l.group; ++r) {
        const CodePlace place = l.key_place(r % kBlockRows, c);
        const uint8_t byte = *head.encoded_key(item + r / kBlockRows * l.key_block_bytes() + place.byte);
        const uint32_t code = byte >> place.shift & ((1u << l.key_bits) - 1);
        codes[at * words + r * l.key_bits / 32] |= code << (r * l.key_bits % 32);
      }
    }
  }
}

void read_values(const accel_call* call, const KiviLayout& l, const KvHead& head, int h) {
  const int64_t rows = head.head().encoded_values, groups = l.value_groups(), words = l.head_dim * l.value_bits / 32;
  uint32_t* codes = data<uint32_t>(call->args[kCodesV].tensor);
  uint16_t* scale = data<uint16_t>(call->args[kScaleV].tensor);
  uint16_t* low = data<uint16_t>(call->args[kMinV].tensor);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t item = row / kBlockRows * l.value_item_bytes(), at = h * rows + row;
    const int r = static_cast<int>(row % kBlockRows);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t place = 2 * KiviLayout::value_scale(static_cast<int>(g), r);
      if (scale != nullptr) scale[at * groups + g] = half_at(head.encoded_value(item + l.value_scales() + place));
      if (low != nullptr) low[at * groups + g] = half_at(head.encoded_value(item + l.value_minima() + place));
    }
    if (codes == nullptr) continue;
    for (int64_t w = 0; w < words; ++w) codes[at * words + w] = 0;
    for (int c = 0; c < l.head_dim; ++c) {
      const CodePlace place = l.value_place(r, c);
      const uint32_t code = *head.encoded_value(item + place.byte) >> place.shift & ((1u << l.value_bits) - 1);
      codes[at * words + c * l.value_bits / 32] |= code << (c * l.value_bits % 32);
    }
  }
}

}  // namespace

int read_cpu(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const KiviLayout layout = layout_of(call, kKv, kKeyBits);
  call->ran(call, "kivi_read");
  parallel(call, kv.heads, 1, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t h = begin; h < end; ++h) {
      const KvHead head(kv, 0, static_cast<int>(h));
      read_keys(call, layout, head, static_cast<int>(h));
      read_values(call, layout, head, static_cast<int>(h));
    }
  });
  return ACCEL_OK;
}

}  // namespace accel_kivi
