// The op table of this library.
#include "l2compress.h"

namespace {

using namespace accel_l2compress;

const accel_op ops[] = {
    {"l2compress_scores", "out:tensor, kv:kv, sink:int, recent:int", l2compress_scores_check, l2compress_scores_cpu,
     l2compress_scores_cuda},
    {"l2compress_victim", "out:tensor, kv:kv, sink:int, recent:int", l2compress_victim_check, l2compress_victim_cpu,
     l2compress_victim_cuda},
};
const accel_op_library library = {ACCEL_OP_ABI, ACCEL_LIBRARY_NAME, ACCEL_LIBRARY_VERSION, 2, ops};

}  // namespace

extern "C" ACCEL_EXPORT const accel_op_library* accel_op_library_get(uint32_t) { return &library; }
