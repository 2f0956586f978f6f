// The fast attention over 2-bit keys and 2-bit values.
#include "kivi_attend.cuh"

namespace accel_kivi {

int attend_2_2(const accel_call* call, const KiviArguments& a, int packed) {
  return attend_bits<2, 2>(call, a, packed);
}

}  // namespace accel_kivi
