// The table of ThinK's ops. What they compute is said in the file of each op.
#include "think.h"

namespace {

using namespace accel_think;

const accel_op ops[] = {
    {"think_queries", "out:tensor, q:tensor, reduce:int", queries_check, queries_cpu, queries_cuda},
    {"think_scores", "out:tensor, queries:tensor, kv:kv+, rows:int", scores_check, scores_cpu, scores_cuda},
    {"think_channels", "kv:kv+, scores:tensor, channels:int", channels_check, channels_cpu, channels_cuda},
    {"think_prune", "kv:kv+, channels:int, limit:int", prune_check, prune_cpu, prune_cuda},
    {"think_read", "channels:tensor?, k:tensor?, kv:kv+, kept:int", read_check, read_cpu, read_cuda},
    {"think_attention", "out:tensor, lse:tensor?, q:tensor, kv:kv+, lens:ints, scale:float, channels:int, window:int",
     attention_check, attention_cpu, attention_cuda},
};
const accel_op_library library = {ACCEL_OP_ABI, ACCEL_LIBRARY_NAME, ACCEL_LIBRARY_VERSION, 6, ops};

}  // namespace

extern "C" ACCEL_EXPORT const accel_op_library* accel_op_library_get(uint32_t) { return &library; }
