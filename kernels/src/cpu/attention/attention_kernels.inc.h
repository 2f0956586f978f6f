// All attention kernels of one level. Include with ACCEL_LEVEL_TABLE defined (see isa.h).
#include "cpu/simd_headers.h"

#include <type_traits>

#include "cpu/attention/kernels.h"

namespace accel::cpu {
namespace {

#include "cpu/simd.inc.h"

template <class F>
inline void with_type(Type type, const F& f) {
  switch (type) {
    case Type::f32: f((float*)nullptr); break;
    case Type::bf16: f((Bf16*)nullptr); break;
    default: f((F16*)nullptr); break;
  }
}

// clang-format off
#include "cpu/attention/tiles.inc.h"
#include "cpu/attention/tiled.inc.h"
#include "cpu/attention/streamed.inc.h"
#include "cpu/attention/columns.inc.h"
#include "cpu/attention/step.inc.h"
// clang-format on

}  // namespace

extern const AttentionKernels ACCEL_LEVEL_TABLE;
const AttentionKernels ACCEL_LEVEL_TABLE = {tiled,   tiled_floats,  streamed, streamed_floats, join,
                                            columns, column_floats, step,     step_floats};

}  // namespace accel::cpu
