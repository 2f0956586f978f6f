// A layer of one cache as one block of bytes: what kv_export writes and kv_import reads. The same on all devices.
//
// Head after head, of each: keys of rows [plain_keys, rows), values of rows [plain_values, rows), the stream of encoded keys
// with its header, that of encoded values, records of all rows. Nothing lies between. Sizes are multiples of 4.
#ifndef ACCEL_COMMON_KV_DENSE_H
#define ACCEL_COMMON_KV_DENSE_H

#include <stdint.h>

#include "accel/op.h"

#ifdef __CUDACC__
#define ACCEL_BOTH __host__ __device__
#else
#define ACCEL_BOTH
#endif

namespace accel {

// Bytes of the pieces of one head.
struct KvDense {
  int64_t keys;
  int64_t values;
  int64_t encoded_keys;
  int64_t encoded_values;
  int64_t records;
  ACCEL_BOTH int64_t total() const { return keys + values + encoded_keys + encoded_values + records; }
};

// What the sizes of a layer's heads depend on.
struct KvDenseShape {
  int64_t row_bytes;
  int64_t record_bytes;
  accel_kv_items key_items;
  accel_kv_items value_items;

  ACCEL_BOTH static int64_t stream(const accel_kv_items& items, int64_t encoded) {
    return items.rows == 0 ? 0 : items.header + (encoded + items.rows - 1) / items.rows * items.bytes;
  }
  ACCEL_BOTH KvDense of(const accel_kv_head& head) const {
    return {(head.rows - head.plain_keys) * row_bytes, (head.rows - head.plain_values) * row_bytes,
            stream(key_items, head.encoded_keys), stream(value_items, head.encoded_values), head.rows * record_bytes};
  }
};

inline KvDenseShape kv_dense_shape(const accel_kv& kv) {
  return {static_cast<int64_t>(kv.head_dim) * (kv.dtype.bits / 8), kv.record_bytes, kv.encoded_key, kv.encoded_value};
}

}  // namespace accel
#endif
