// The ops of ThinK: their arguments and functions.
#ifndef ACCEL_THINK_H
#define ACCEL_THINK_H

#include "accel/op.h"
#include "think_layout.h"

namespace accel_think {

// think_queries    out:tensor, q:tensor, reduce:int
namespace queries {
enum { kOut, kQ, kReduce };
enum { kMean = 0, kMax = 1 };
}
// think_scores     out:tensor, queries:tensor, kv:kv+, rows:int
namespace scores {
enum { kOut, kQueries, kKv, kRows };
// Rows that are added up before the sums of blocks are, so that long sums stay exact.
constexpr int kBlock = 256;
}
// think_channels   kv:kv+, scores:tensor, channels:int
namespace channels {
enum { kKv, kScores, kChannels };
}
// think_prune      kv:kv+, channels:int, limit:int
namespace prune {
enum { kKv, kChannels, kLimit };
}
// think_read       channels:tensor?, k:tensor?, kv:kv+, kept:int
namespace read {
enum { kChannels, kK, kKv, kKept };
}
// think_attention  out:tensor, lse:tensor?, q:tensor, kv:kv+, lens:ints, scale:float, channels:int, window:int
namespace attention {
enum { kOut, kLse, kQ, kKv, kLens, kScale, kChannels, kWindow };
}

int queries_check(const accel_call* call);
int queries_cpu(const accel_call* call);
int scores_check(const accel_call* call);
int scores_cpu(const accel_call* call);
int channels_check(const accel_call* call);
int channels_cpu(const accel_call* call);
int prune_check(const accel_call* call);
int prune_cpu(const accel_call* call);
int read_check(const accel_call* call);
int read_cpu(const accel_call* call);
int attention_check(const accel_call* call);
int attention_cpu(const accel_call* call);

#if ACCEL_WITH_CUDA
int queries_cuda(const accel_call* call);
int scores_cuda(const accel_call* call);
int channels_cuda(const accel_call* call);
int prune_cuda(const accel_call* call);
int read_cuda(const accel_call* call);
int attention_cuda(const accel_call* call);
#else
constexpr accel_op_fn queries_cuda = nullptr, scores_cuda = nullptr, channels_cuda = nullptr, prune_cuda = nullptr,
                      read_cuda = nullptr, attention_cuda = nullptr;
#endif

}  // namespace accel_think
#endif
