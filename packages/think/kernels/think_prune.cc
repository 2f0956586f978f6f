// think_prune: copies the kept channels of keys [plain_keys, encoded_keys) of every sequence and head into items. The
// rows are there in both forms while it runs; those before are in items already, and the first item may hold some of both.
//
//   channels  the number of kept channels, whose list is in the header
//   limit     no head has more rows to encode (CUDA: the size of the grid)
#include <algorithm>
#include <type_traits>

#include "think_args.h"

namespace accel_think {

using namespace accel::host;
using namespace prune;

int prune_check(const accel_call* call) {
  Checker check{call, "think_prune"};
  const accel_kv& kv = *call->args[kKv].kv;
  check.layout(kv, call->args[kChannels].i);
  check.require(call->args[kLimit].i >= 0 && call->args[kLimit].i <= INT32_MAX, "ERR_ACCEL_ARGUMENT",
                "limit must not be negative");
  for (int i = 0; check.ok && i < kv.sequences * kv.heads; ++i) {
    check.require(kv.head[i].encoded_keys - kv.head[i].plain_keys <= call->args[kLimit].i, "ERR_ACCEL_ARGUMENT",
                  "a head has more rows to encode than limit says");
  }
  return check.result();
}

namespace {

// `item` has room for one item, `list` for a header.
template <class T>
void prune_head(const KvHead& head, const accel_kv& kv, int64_t kept, T* item, uint16_t* list) {
  const int32_t first = head.head().plain_keys, end = head.head().encoded_keys;
  if (first >= end) return;
  read_header(head, kept, list);
  const int64_t bytes = kv.encoded_key.bytes, elements = kItemRows * kept;
  for (int64_t begin = first / kItemRows * kItemRows; begin < end; begin += kItemRows) {
    const int64_t at = kv.encoded_key.header + begin / kItemRows * bytes;
    if (begin < first) {
      head.read_encoded(head.head().encoded_key_pages, at, bytes, item);
    } else {
      std::fill_n(item, elements, T{});
    }
    const int64_t from = std::max<int64_t>(begin, first), stop = std::min<int64_t>(begin + kItemRows, end);
    for (int64_t row = from; row < stop; ++row) {
      const T* key = head.key<const T>(row);
      for (int64_t c = 0; c < kept; ++c) item[c * kItemRows + row - begin] = key[list[c]];
    }
    head.write_encoded(head.head().encoded_key_pages, at, bytes, item);
  }
}

}  // namespace

int prune_cpu(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t kept = call->args[kChannels].i;
  call->ran(call, "think_prune");
  const auto size = static_cast<size_t>(call->threads) * static_cast<size_t>(kv.encoded_key.bytes);
  uint8_t* items = static_cast<uint8_t*>(call->scratch(call, size));
  parallel(call, kv.sequences * kv.heads, 1, [&](int64_t begin, int64_t end, int32_t worker) {
    uint16_t list[kMostChannels];
    for (int64_t i = begin; i < end; ++i) {
      const KvHead head(kv, static_cast<int>(i / kv.heads), static_cast<int>(i % kv.heads));
      with_float(kv.dtype, [&](auto* e) {
        using T = std::remove_pointer_t<decltype(e)>;
        prune_head(head, kv, kept, reinterpret_cast<T*>(items + worker * kv.encoded_key.bytes), list);
      });
    }
  });
  return ACCEL_OK;
}

}  // namespace accel_think
