// The table of XAttention's ops.
#include "xattention.h"

namespace {

using namespace accel_xattention;

const accel_op ops[] = {
    {"xattention_blocks",
     "mask:tensor, figures:tensor, sums:tensor?, q:tensor, kv:kv, thresholds:tensor, stride:int, scale:float, "
     "first:int",
     blocks_check, blocks_cpu, blocks_cuda},
    {"xattention_select", "mask:tensor, recall:tensor, sums:tensor, thresholds:tensor, rules:tensor", select_check,
     select_cpu, select_cuda},
};
const accel_op_library library = {ACCEL_OP_ABI, ACCEL_LIBRARY_NAME, ACCEL_LIBRARY_VERSION, 2, ops};

}  // namespace

extern "C" ACCEL_EXPORT const accel_op_library* accel_op_library_get(uint32_t) { return &library; }
