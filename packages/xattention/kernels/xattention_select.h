// The choice of one row on the CPU.
#ifndef ACCEL_XATTENTION_SELECT_H
#define ACCEL_XATTENTION_SELECT_H

#include <stdint.h>

namespace accel_xattention {

struct SelectRow {
  const float* sums;  // [diagonal + 1]
  int diagonal;
  bool first_chunk;  // the published rule for the first chunk
  double threshold;
  uint32_t* mask;  // [words], all written
  int64_t words;
  uint64_t* keys;  // workspace, [diagonal + 1]
};

// Returns the share of the sums that is taken; NaN if there is nothing to share.
double select_row(const SelectRow& row);

}  // namespace accel_xattention
#endif
