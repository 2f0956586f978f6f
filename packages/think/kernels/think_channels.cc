// think_channels: writes into each head's header which channels it keeps: all but the D - channels with the lowest
// scores. Equal scores: the lower channel goes first.
//
//   kv      one sequence whose encoded keys have a header, of this package's layout or of a codec's
//   scores  f32 [Hk, D], not negative; a NaN fails
#include <cmath>

#include "think_args.h"

namespace accel_think {

using namespace accel::host;
using namespace channels;

int channels_check(const accel_call* call) {
  Checker check{call, "think_channels"};
  const accel_kv& kv = *call->args[kKv].kv;
  check.one_sequence(kv);
  check.header(kv, call->args[kChannels].i);
  check.floats(kScores, kv.heads, kv.head_dim, "scores must be float32 [Hk, D]");
  for (int h = 0; check.ok && h < kv.heads; ++h) {
    check.require(kv.head[h].plain_keys == 0, "ERR_ACCEL_ARGUMENT",
                  "keys are encoded already; their channels are chosen");
  }
  return check.result();
}

int channels_cpu(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int kept = static_cast<int>(call->args[kChannels].i), dim = kv.head_dim;
  const float* scores = data<const float>(call->args[kScores].tensor);
  for (int h = 0; h < kv.heads; ++h, scores += dim) {
    uint16_t list[kMostChannels] = {};
    int count = 0;
    for (int c = 0; c < dim; ++c) {
      if (std::isnan(scores[c])) {
        return call->fail(call, "ERR_ACCEL_NAN", "think_channels: the score of head %d, channel %d is not a number", h,
                          c);
      }
      if (is_kept(scores, dim, c, dim - kept)) list[count++] = static_cast<uint16_t>(c);
    }
    const KvHead head(kv, 0, h);
    head.write_encoded(head.head().encoded_key_pages, 0, header_bytes(kept), list);
  }
  call->ran(call, "think_channels");
  return ACCEL_OK;
}

}  // namespace accel_think
