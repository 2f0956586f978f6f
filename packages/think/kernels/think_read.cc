// think_read: what is stored of pruned keys, for tests and inspection.
//
//   channels  i32 [Hk, kept]     kept channels, ascending; optional
//   k         [Hk, n, kept]      the encoded keys, n the most of any head, in the cache's dtype; zeros where a head has
//                                fewer; optional
//   kv        one sequence
#include <type_traits>

#include "think_args.h"

namespace accel_think {

using namespace accel::host;
using namespace read;

int read_check(const accel_call* call) {
  Checker check{call, "think_read"};
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t kept = call->args[kKept].i;
  check.one_sequence(kv);
  check.layout(kv, kept);
  const accel_tensor *list = call->args[kChannels].tensor, *k = call->args[kK].tensor;
  check.require(
      list == nullptr || (is_i32(list) && list->ndim == 2 && list->shape[0] == kv.heads && list->shape[1] == kept),
      "ERR_ACCEL_SHAPE", "channels must be int32 [Hk, kept]");
  check.require(k == nullptr || (k->dtype.code == kv.dtype.code && k->dtype.bits == kv.dtype.bits), "ERR_ACCEL_DTYPE",
                "k must have the dtype of kv");
  int64_t most = 0;
  for (int h = 0; h < kv.heads; ++h) most = most < kv.head[h].encoded_keys ? kv.head[h].encoded_keys : most;
  check.require(k == nullptr || (k->ndim == 3 && k->shape[0] == kv.heads && k->shape[1] == most && k->shape[2] == kept),
                "ERR_ACCEL_SHAPE", "k must be [Hk, n, kept], n the encoded rows");
  return check.result();
}

int read_cpu(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t kept = call->args[kKept].i;
  const accel_tensor* k = call->args[kK].tensor;
  int32_t* channels = data<int32_t>(call->args[kChannels].tensor);
  call->ran(call, "think_read");
  with_float(kv.dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    for (int h = 0; h < kv.heads; ++h) {
      const KvHead head(kv, 0, h);
      uint16_t list[kMostChannels];
      read_header(head, kept, list);
      for (int64_t c = 0; channels != nullptr && c < kept; ++c) channels[h * kept + c] = list[c];
      if (k == nullptr) continue;
      T* out = data<T>(k) + h * k->shape[1] * kept;
      for (int64_t row = 0; row < k->shape[1]; ++row) {
        const int64_t item = kv.encoded_key.header + row / kItemRows * kv.encoded_key.bytes;
        for (int64_t c = 0; c < kept; ++c) {
          T value = {};
          if (row < head.head().encoded_keys) {
            const int64_t at = item + (c * kItemRows + row % kItemRows) * static_cast<int64_t>(sizeof(T));
            value = *reinterpret_cast<const T*>(head.encoded_key(at));
          }
          out[row * kept + c] = value;
        }
      }
    }
  });
  return ACCEL_OK;
}

}  // namespace accel_think
