// The table of KIVI's ops.
#include "kivi.h"

namespace {

using namespace accel_kivi;

const accel_op ops[] = {
    {"kivi_encode",
     "kv:kv+, key_bits:int, value_bits:int, group:int, channels:int, key_limit:int, value_limit:int", encode_check,
     encode_cpu, encode_cuda},
    {"kivi_attention",
     "out:tensor, lse:tensor?, q:tensor, kv:kv+, lens:ints, scale:float, window:int, key_bits:int, value_bits:int, "
     "group:int, channels:int",
     attention_check, attention_cpu, attention_cuda},
    {"kivi_read",
     "codes_k:tensor?, scale_k:tensor?, min_k:tensor?, codes_v:tensor?, scale_v:tensor?, min_v:tensor?, kv:kv+, "
     "key_bits:int, value_bits:int, group:int, channels:int",
     read_check, read_cpu, read_cuda},
};
const accel_op_library library = {ACCEL_OP_ABI, ACCEL_LIBRARY_NAME, ACCEL_LIBRARY_VERSION, 3, ops};

}  // namespace

extern "C" ACCEL_EXPORT const accel_op_library* accel_op_library_get(uint32_t) { return &library; }
