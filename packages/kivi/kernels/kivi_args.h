// Checks that the ops share, and the layout that a call names. Host code.
#ifndef ACCEL_KIVI_ARGS_H
#define ACCEL_KIVI_ARGS_H

#include "accel/host.h"
#include "kivi.h"
#include "kivi_layout.h"

namespace accel_kivi {
namespace {

// What is wrong with a group. `format` is for accel_call::device_check: a head, counted over the batch, and a row.
struct Fault {
  const char* code;
  const char* format;
};
enum { kKeyNumber, kKeySpan, kValueNumber, kValueSpan, kFaults };
constexpr Fault kFaultTexts[kFaults] = {
    {"ERR_ACCEL_NAN",
     "kivi_encode: a key of head %lld is NaN or too large for half precision, in the group from row %lld on"},
    {"ERR_ACCEL_ARGUMENT",
     "kivi_encode: keys of one channel of head %lld are more than 65504 apart, in the group from row %lld on"},
    {"ERR_ACCEL_NAN", "kivi_encode: a value of head %lld is NaN or too large for half precision, in row %lld"},
    {"ERR_ACCEL_ARGUMENT", "kivi_encode: values of one group of head %lld are more than 65504 apart, in row %lld"},
};

// Key bits, value bits, group and channels are arguments from `bits` on.
inline KiviLayout layout_of(const accel_call* call, int kv, int bits) {
  const auto number = [&](int i) { return static_cast<int>(call->args[bits + i].i); };
  return {number(0), number(1), number(2), call->args[kv].kv->head_dim, number(3)};
}

inline int check_items(const accel_call* call, const char* op, const char* what, const accel_kv_items& got,
                       const accel_kv_items& want) {
  if (got.rows == want.rows && got.bytes == want.bytes && got.header == want.header) return ACCEL_OK;
  return call->fail(call, "ERR_ACCEL_ARGUMENT",
                    "%s: %s of kv are encoded in items of %d rows and %d bytes after %d bytes of header, but these bits, "
                    "group and channels make items of %d rows and %d bytes after %d.",
                    op, what, got.rows, got.bytes, got.header, want.rows, want.bytes, want.header);
}

// The layout is one there is, and the one that kv was made for.
inline int check_layout(const accel_call* call, const char* op, int kv_at, int bits_at) {
  const accel_kv& kv = *call->args[kv_at].kv;
  const int64_t key_bits = call->args[bits_at].i, value_bits = call->args[bits_at + 1].i;
  const int64_t group = call->args[bits_at + 2].i, kept = call->args[bits_at + 3].i;
  const auto is_bits = [](int64_t x) { return x == 2 || x == 4 || x == 8; };
  if (!is_bits(key_bits) || !is_bits(value_bits)) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "%s: key_bits and value_bits must be 2, 4 or 8, got %lld and %lld.", op,
                      (long long)key_bits, (long long)value_bits);
  }
  if ((group != 16 && group != 32 && group != 64 && group != 128) || kv.head_dim % group != 0) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT",
                      "%s: group must be 16, 32, 64 or 128 and divide the head dimension %d, got %lld.", op, kv.head_dim,
                      (long long)group);
  }
  if (kept < 1 || kept > kv.head_dim) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "%s: channels must be from 1 to %d, got %lld.", op, kv.head_dim,
                      (long long)kept);
  }
  const KiviLayout layout = layout_of(call, kv_at, bits_at);
  const bool listed = kept < kv.head_dim || kv.encoded_key.header != 0;
  const accel_kv_items keys = {layout.group, layout.key_item_bytes(), listed ? layout.header_bytes() : 0};
  const accel_kv_items values = {kBlockRows, layout.value_item_bytes(), 0};
  if (check_items(call, op, "keys", kv.encoded_key, keys) != ACCEL_OK) return ACCEL_FAILED;
  return check_items(call, op, "values", kv.encoded_value, values);
}

inline bool has_shape(const accel_tensor* t, int64_t a, int64_t b, int64_t c) {
  return t->ndim == 3 && t->shape[0] == a && t->shape[1] == b && t->shape[2] == c;
}

// The kept key channels of a head, or null when all are kept or nothing was encoded yet; `room` takes 2 * kept bytes,
// rounded up to 16. The list may have come from a file, so it is not trusted.
inline const uint16_t* kept_channels(const accel::host::KvHead& head, const accel_kv& kv, uint16_t* room) {
  const int bytes = kv.encoded_key.header, most = kv.head_dim - 1;
  if (bytes == 0 || head.head().encoded_key_pages == nullptr) return nullptr;
  head.read_encoded(head.head().encoded_key_pages, 0, bytes, room);
  for (int i = 0; i < bytes / 2; ++i) room[i] = static_cast<uint16_t>(room[i] < most ? room[i] : most);
  return room;
}

}  // namespace
}  // namespace accel_kivi
#endif
