// The plain twin of kivi_stream.cuh: one warp a query head, key by key in fp32, codes taken out one by one. For shapes that
// the fast kernel does not take, and to test it with.
#include <float.h>

#include <type_traits>

#include "kivi.h"
#include "kivi_arguments.cuh"

namespace accel_kivi {
namespace {

constexpr int most_dim = 256, per_lane = most_dim / 32;

// A number of an encoded row. `item` is where the row's item begins in the stream.
struct Encoded {
  const KvPages& pages;
  const int32_t* list;
  __device__ float half(int64_t at) const { return __half2float(*reinterpret_cast<const __half*>(pages.stream(list, at))); }
  __device__ float number(int64_t item, CodePlace place, int bits, int scale, int low) const {
    const int code = *pages.stream(list, item + place.byte) >> place.shift & ((1 << bits) - 1);
    return code * half(item + scale) + half(item + low);
  }
};

template <class T>
__global__ void __launch_bounds__(128) attend_plainly(const __grid_constant__ KiviArguments k, int64_t queries,
                                                      int window) {
  pdl_wait();
  const DecodeArguments& a = k.decode;
  const KiviLayout& l = k.layout;
  const int lane = threadIdx.x % 32, d = l.head_dim;
  const int64_t item = blockIdx.x * 4ll + threadIdx.x / 32;
  if (item >= queries * a.query_heads) return;
  const int token = static_cast<int>(item / a.query_heads), query_head = static_cast<int>(item % a.query_heads);
  int sequence = 0;
  while (a.query_begin[sequence + 1] <= token) sequence++;
  const accel_kv_head head = a.pages.at(sequence, query_head / a.group);
  const int end = head.rows - (a.query_begin[sequence + 1] - token) + 1;
  const T* q = static_cast<const T*>(a.q) + item * d;
  const Encoded keys = {a.pages, head.encoded_key_pages}, values = {a.pages, head.encoded_value_pages};

  float top = -FLT_MAX, sum = 0, out[per_lane] = {};
  for (int r = a.pages.window_begin(head, end - 1, window); r < end; r++) {
    float dot = 0;
    if (r < head.encoded_keys) {
      const int64_t at = k.places.header + static_cast<int64_t>(r / l.group) * l.key_item_bytes();
      const int block = r % l.group / kBlockRows * l.key_block_bytes();
      for (int c = lane; c < l.kept; c += 32) {
        // The list may come from a file.
        const int channel = k.places.header == 0
                                ? c
                                : min(*reinterpret_cast<const uint16_t*>(a.pages.stream(keys.list, 2 * c)), d - 1);
        CodePlace place = l.key_place(r % kBlockRows, c);
        place.byte += block;
        dot += to_float(q[channel]) * keys.number(at, place, l.key_bits, l.key_scales() + 2 * l.key_scale(c),
                                                   l.key_minima() + 2 * l.key_scale(c));
      }
    } else {
      const T* key = reinterpret_cast<const T*>(a.pages.key(head, r));
      for (int c = lane; c < d; c += 32) dot += to_float(q[c]) * to_float(key[c]);
    }
    for (int step = 16; step > 0; step /= 2) dot += __shfl_xor_sync(~0u, dot, step);
    const float logit = dot * a.scale, now = fmaxf(top, logit);
    const float factor = exp2f(top - now), weight = exp2f(logit - now);
    top = now;
    sum = sum * factor + weight;
    const int64_t at = static_cast<int64_t>(r / kBlockRows) * l.value_item_bytes();
    const int row = r % kBlockRows;
#pragma unroll
    for (int i = 0; i < per_lane; i++) {
      const int c = lane + 32 * i;
      if (c >= d) break;
      const int group = 2 * KiviLayout::value_scale(c / l.group, row);
      const float value = r < head.encoded_values
                              ? values.number(at, l.value_place(row, c), l.value_bits, l.value_scales() + group,
                                              l.value_minima() + group)
                              : to_float(reinterpret_cast<const T*>(a.pages.value(head, r))[c]);
      out[i] = out[i] * factor + weight * value;
    }
  }
  const float inverse = sum == 0 ? 0.f : 1.f / sum;
#pragma unroll
  for (int i = 0; i < per_lane; i++) {
    const int c = lane + 32 * i;
    if (c < d) static_cast<T*>(a.out)[item * d + c] = from_float<T>(out[i] * inverse);
  }
  if (lane == 0 && a.lse != nullptr) {
    a.lse[item] = sum == 0 ? -INFINITY : (top + log2f(sum)) * 0.6931471805599453f;
  }
}

}  // namespace

int attention_reference(const accel_call* call, const KiviArguments& a, int64_t queries, int window) {
  const accel_kv& kv = *call->args[attention::kKv].kv;
  if (kv.head_dim > most_dim) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "kivi_attention: head dimension %d is more than %d", kv.head_dim, most_dim);
  }
  return with_float(kv.dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    const auto blocks = static_cast<unsigned>((queries * a.decode.query_heads + 3) / 4);
    launch_pdl(call, attend_plainly<T>, dim3(blocks), dim3(128), 0, a, queries, window);
    call->ran(call, "kivi_attention_reference");
    return launched(call);
  });
}

}  // namespace accel_kivi
