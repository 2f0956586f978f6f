// The fast attention over 8-bit keys and 8-bit values.
#include "kivi_attend.cuh"

namespace accel_kivi {

int attend_8_8(const accel_call* call, const KiviArguments& a, int packed) {
  return attend_bits<8, 8>(call, a, packed);
}

}  // namespace accel_kivi
