// The sliding window of a model, as rows: what is outside it is a matter of positions, and rows may have left (ADR 0017).
#ifndef ACCEL_CPU_ATTENTION_WINDOW_H
#define ACCEL_CPU_ATTENTION_WINDOW_H

#include <algorithm>

#include "accel/host.h"
#include "cpu/ops/args.h"

namespace accel::cpu {

// First rows that queries see. The queries of a batch are packed; those of a sequence are its last rows.
class WindowBegins {
 public:
  // @param window positions; 0: no limit, nothing is stored
  WindowBegins(const accel_call* call, const accel_kv& kv, const int32_t* lens, int64_t window) {
    if (window == 0) return;
    for (int b = 0; b < kv.sequences; ++b) queries_ += lens[b];
    begins_ = static_cast<int32_t*>(call->scratch(call, (size_t)(queries_ * kv.heads + 1) * sizeof(int32_t)));
    parallel(call, kv.heads, 1, [&](int64_t first, int64_t end, int) {
      for (int64_t h = first; h < end; ++h) {
        int32_t* to = begins_ + h * queries_;
        for (int b = 0; b < kv.sequences; to += lens[b++]) {
          const host::KvHead head(kv, b, (int)h);
          head.window_begins(head.rows() - lens[b], lens[b], window, to);
        }
      }
    });
  }

  // Of the queries from `token` on, as a kv head sees them; null without a window.
  const int32_t* of(int head, int64_t token) const {
    return begins_ == nullptr ? nullptr : begins_ + head * queries_ + token;
  }
  // How many of `count` queries from `token` on come before the first one that sees no row below `row`.
  int64_t before(int head, int64_t token, int64_t count, int64_t row) const {
    const int32_t* from = of(head, token);
    return from == nullptr ? count : std::lower_bound(from, from + count, row) - from;
  }

 private:
  int32_t* begins_ = nullptr;  // [kv heads, queries]
  int64_t queries_ = 0;
};

}  // namespace accel::cpu
#endif
