// The table of CaM's ops.
#include "cam.h"

namespace {

using namespace accel_cam;

const accel_op ops[] = {
    {"cam_merge",
     "p:tensor?, merged:tensor?, kv:kv, rows:tensor?, row:int, uniforms:tensor?, gate:int, seed:int, layer:int, "
     "tally:int, targets:int, recent:int, divisor:int",
     merge_check, merge_cpu, merge_cuda},
    {"cam_smear",
     "p:tensor?, merged:tensor?, kv:kv, scores:tensor, uniforms:tensor?, gate:int, seed:int, layer:int, window:int, "
     "start:int, denominator:int",
     smear_check, smear_cpu, smear_cuda},
};
const accel_op_library library = {ACCEL_OP_ABI, ACCEL_LIBRARY_NAME, ACCEL_LIBRARY_VERSION, 2, ops};

}  // namespace

extern "C" ACCEL_EXPORT const accel_op_library* accel_op_library_get(uint32_t) { return &library; }
