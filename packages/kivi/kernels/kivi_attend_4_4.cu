// The fast attention over 4-bit keys and 4-bit values.
#include "kivi_attend.cuh"

namespace accel_kivi {

int attend_4_4(const accel_call* call, const KiviArguments& a, int packed) {
  return attend_bits<4, 4>(call, a, packed);
}

}  // namespace accel_kivi
