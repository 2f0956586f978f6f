// Host code that CPU functions of op libraries share: 16-bit floats, rows of the paged cache, threads. The counterpart
// of accel/cuda.cuh.
#ifndef ACCEL_HOST_H
#define ACCEL_HOST_H

#include <stdint.h>
#include <string.h>

#include "accel/op.h"

// Every translation unit has its own copy: units may be built for different instruction sets.
namespace accel::host {
namespace {

// ---- element types: float, Bf16, F16. Arithmetic is fp32, rounding is to nearest even.

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

inline float from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
inline uint32_t to_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}

inline float widen(float x) { return x; }
inline float widen(Bf16 x) { return from_bits(static_cast<uint32_t>(x.bits) << 16); }
inline float widen(F16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1fu;
  const uint32_t mantissa = x.bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24 is exact
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return from_bits(sign | (wide << 23) | (mantissa << 13));
}

inline void narrow(float x, float* out) { *out = x; }
inline void narrow(float x, Bf16* out) {
  const uint32_t u = to_bits(x);
  out->bits = x != x ? static_cast<uint16_t>((u >> 16) | 0x40u)
                     : static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
inline void narrow(float x, F16* out) {
  const uint32_t u = to_bits(x);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // rounds to 2^16 or more
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {
    half = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  } else {  // subnormal: adding 0.5 puts the bits of weight 2^-24 last, rounded
    half = to_bits(from_bits(magnitude) + 0.5f) - 0x3f000000u;
  }
  out->bits = static_cast<uint16_t>(sign | half);
}

// Calls f with a null pointer to the element type, as accel::cuda::with_float does.
template <class F>
inline auto with_float(accel_dtype dtype, F&& f) {
  if (dtype.code == ACCEL_BFLOAT) return f(static_cast<Bf16*>(nullptr));
  if (dtype.bits == 16) return f(static_cast<F16*>(nullptr));
  return f(static_cast<float*>(nullptr));
}

// ---- arguments

template <class T = void>
inline T* data(const accel_tensor* tensor) {
  return tensor == nullptr ? nullptr
                           : reinterpret_cast<T*>(static_cast<uint8_t*>(tensor->data) + tensor->byte_offset);
}
inline bool is_f32(const accel_tensor* t) { return t->dtype.code == ACCEL_FLOAT && t->dtype.bits == 32; }
inline bool is_i32(const accel_tensor* t) { return t->dtype.code == ACCEL_INT && t->dtype.bits == 32; }

// ---- rows of the paged cache (slot rule in accel/op.h)

// One head of one layer's cache.
class KvHead {
 public:
  KvHead(const accel_kv& kv, int sequence, int head)
      : kv_(kv), head_(kv.head[sequence * kv.heads + head]) {}

  int rows() const { return head_.rows; }
  const accel_kv_head& head() const { return head_; }
  template <class T>
  T* key(int64_t r) const {
    return reinterpret_cast<T*>(row(head_.key_pages, r, kv_.rows_per_page, row_bytes()));
  }
  template <class T>
  T* value(int64_t r) const {
    return reinterpret_cast<T*>(row(head_.value_pages, r, kv_.rows_per_page, row_bytes()));
  }
  // A row's record: its position, then its tallies.
  const int32_t* record(int64_t r) const {
    return reinterpret_cast<int32_t*>(row(head_.record_pages, r, kv_.records_per_page, record_bytes()));
  }
  int32_t position(int64_t r) const { return kv_.record_bytes == 0 ? static_cast<int32_t>(r) : record(r)[0]; }
  // The first row that the query whose own row is `own` sees through a window of so many positions (0: no limit; ADR
  // 0017). Rows are in the order of their positions and may have left, so it is at most window - 1 rows back.
  int64_t window_begin(int64_t own, int64_t window) const {
    if (window <= 0) return 0;
    int64_t low = own - window + 1 > 0 ? own - window + 1 : 0, high = own;
    if (kv_.record_bytes == 0 || low >= high) return low;
    const int64_t reach = position(own) - window + 1;
    if (position(low) >= reach) return low;  // nothing has left since, as everywhere before the first eviction
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (position(middle) < reach) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
  // The same for the queries whose own rows are [own, own + n); a row below 0 is none, and its query sees nothing.
  void window_begins(int64_t own, int64_t n, int64_t window, int32_t* begin) const {
    int64_t low = own > 0 ? window_begin(own, window) : 0;
    for (int64_t i = 0; i < n; ++i) {  // both ends of a window only move forward
      while (window > 0 && low < own + i && position(own + i) - position(low) >= window) ++low;
      begin[i] = static_cast<int32_t>(low);
    }
  }
  float tally(int64_t r, int which) const { return from_bits(static_cast<uint32_t>(record(r)[1 + which])); }
  void set_tally(int64_t r, int which, float value) const {
    memcpy(row(head_.record_pages, r, kv_.records_per_page, record_bytes()) + 4 * (1 + which), &value, 4);
  }
  // A place in the stream of encoded keys or values; valid up to the next multiple of 16.
  uint8_t* encoded_key(int64_t byte) const { return stream(head_.encoded_key_pages, byte); }
  uint8_t* encoded_value(int64_t byte) const { return stream(head_.encoded_value_pages, byte); }
  // Copies bytes [at, at + n) of such a stream out of its pages, or into them; multiples of 16.
  void read_encoded(const int32_t* pages, int64_t at, int64_t n, void* to) const {
    for (int64_t i = 0; i < n; i += 16) memcpy(static_cast<uint8_t*>(to) + i, stream(pages, at + i), 16);
  }
  void write_encoded(const int32_t* pages, int64_t at, int64_t n, const void* from) const {
    for (int64_t i = 0; i < n; i += 16) memcpy(stream(pages, at + i), static_cast<const uint8_t*>(from) + i, 16);
  }

 private:
  int64_t row_bytes() const { return static_cast<int64_t>(kv_.head_dim) * (kv_.dtype.bits / 8); }
  int64_t record_bytes() const { return kv_.record_bytes; }
  uint8_t* stream(const int32_t* pages, int64_t byte) const {
    const int64_t page = byte / kv_.page_bytes;
    return kv_.base + pages[page] * kv_.page_bytes + (byte - page * kv_.page_bytes);
  }
  uint8_t* row(const int32_t* pages, int64_t r, int64_t per_page, int64_t bytes) const {
    const int64_t slot = r < head_.gap_at ? r : r + head_.gap, page = slot / per_page;
    return kv_.base + pages[page] * kv_.page_bytes + (slot - page * per_page) * bytes;
  }

  const accel_kv& kv_;
  const accel_kv_head& head_;
};

// ---- threads

// Runs fn(begin, end, worker) over [0, n). `fn` may be a lambda with captures; it lives on the caller's stack.
template <class F>
inline void parallel(const accel_call* call, int64_t n, int64_t grain, const F& fn) {
  if (n <= 0) return;
  call->parallel(
      call, n, grain,
      [](void* user, int64_t begin, int64_t end, int32_t worker) { (*static_cast<const F*>(user))(begin, end, worker); },
      const_cast<F*>(&fn));
}

}  // namespace
}  // namespace accel::host
#endif
