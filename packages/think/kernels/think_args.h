// Checks that several ops make. Host code.
#ifndef ACCEL_THINK_ARGS_H
#define ACCEL_THINK_ARGS_H

#include "accel/host.h"
#include "think.h"

namespace accel_think {
namespace {

// Checks in a row; the first that fails reports.
struct Checker {
  const accel_call* call;
  const char* op;
  bool ok = true;

  void require(bool good, const char* code, const char* what) {
    if (ok && !good) {
      ok = false;
      call->fail(call, code, "%s: %s.", op, what);
    }
  }
  // A float32 tensor [heads, dim].
  void floats(int i, int64_t heads, int64_t dim, const char* what) {
    const accel_tensor* t = call->args[i].tensor;
    const bool fits = t->ndim == 2 && t->shape[0] == heads && t->shape[1] == dim;
    require(accel::host::is_f32(t) && fits, "ERR_ACCEL_SHAPE", what);
  }
  // Queries [T, Hq, d] for this cache.
  void queries(int i, const accel_kv& kv) {
    const accel_tensor* q = call->args[i].tensor;
    require(q->dtype.code == kv.dtype.code && q->dtype.bits == kv.dtype.bits, "ERR_ACCEL_DTYPE",
            "q must have the dtype of kv");
    require(q->ndim == 3 && q->shape[2] == kv.head_dim, "ERR_ACCEL_SHAPE", "q must be [T, Hq, d], d that of kv");
    require(ok && q->shape[1] > 0 && q->shape[1] % kv.heads == 0, "ERR_ACCEL_SHAPE",
            "q's heads must be a multiple of kv's");
  }
  void one_sequence(const accel_kv& kv) { require(kv.sequences == 1, "ERR_ACCEL_BATCH", "kv must be one sequence"); }
  // A number of kept channels, and a header with room for their names.
  void header(const accel_kv& kv, int64_t channels) {
    require(channels >= 1 && channels <= kv.head_dim && kv.head_dim <= kMostChannels, "ERR_ACCEL_ARGUMENT",
            "channels must be at least 1 and at most the head dimension, which must be at most 256");
    require(kv.encoded_key.rows > 0 && kv.encoded_key.header >= header_bytes(channels), "ERR_ACCEL_ARGUMENT",
            "kv's encoded keys have no header with room for the numbers of so many channels");
  }
  // That keys, and keys alone, are encoded as this package does it.
  void layout(const accel_kv& kv, int64_t channels) {
    header(kv, channels);
    require(kv.encoded_key.rows == kItemRows && kv.encoded_key.header == header_bytes(channels) &&
                kv.encoded_key.bytes == item_bytes(channels, kv.dtype.bits / 8) && kv.encoded_value.rows == 0,
            "ERR_ACCEL_ARGUMENT", "kv's encoded rows have another layout than keys of so many channels");
  }
  int result() const { return ok ? ACCEL_OK : ACCEL_FAILED; }
};

// The kept channels of a head, out of its header; `to` has room for the header's bytes.
inline void read_header(const accel::host::KvHead& head, int64_t channels, uint16_t* to) {
  head.read_encoded(head.head().encoded_key_pages, 0, header_bytes(channels), to);
}

}  // namespace
}  // namespace accel_think
#endif
