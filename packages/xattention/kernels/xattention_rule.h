// The rule by which a row of block sums becomes a row of the mask, as far as CPU and CUDA share it.
//
// Row with diagonal block d, sums A[0 .. d], threshold t. Blocks are taken until they hold the share t of the row:
//
//   forced   d and 0; in the first chunk of the published form only d
//   others   by A descending, equal ones by column ascending; with s_1 >= s_2 >= ... their sums and f the forced ones':
//            s_k is taken iff f + s_1 + ... + s_(k-1) < t sum_j A[j]
//   first chunk of the published form: one block more than that, if t sum_j A[j] > 0
//   column 0 is taken in any case
//
// All sums are made in fixed point, a = round(A 2^40): they are exact whatever their order, so every device takes the
// same blocks. A <= g <= 64, rows sum to g, hence every sum is an integer below 2^47 and exact as a double too. Xu et
// al. 2025 (arXiv 2503.16428), section 3.2; off-by-one and column 0 as in the authors' code.
#ifndef ACCEL_XATTENTION_RULE_H
#define ACCEL_XATTENTION_RULE_H

#include <math.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define ACCEL_XATTENTION_BOTH __host__ __device__
#else
#define ACCEL_XATTENTION_BOTH
#endif

namespace accel_xattention {

// A sum in fixed point. What is not a number from 0 to 63 is a mistake upstream; NaN counts as 0.
ACCEL_XATTENTION_BOTH inline int64_t fixed_point(float a) {
  const double bounded = a > 0 ? (a < 63.f ? static_cast<double>(a) : 63.) : 0.;
  return llrint(bounded * 1099511627776.);
}

// Keys compare like (sum ascending, column descending): the largest is taken first. 46 + 16 bits.
ACCEL_XATTENTION_BOTH inline uint64_t key_of(int64_t sum, int column) {
  return static_cast<uint64_t>(sum) << 16 | static_cast<uint64_t>(65535 - column);
}
ACCEL_XATTENTION_BOTH inline int64_t sum_of(uint64_t key) { return static_cast<int64_t>(key >> 16); }
ACCEL_XATTENTION_BOTH inline int column_of(uint64_t key) { return 65535 - static_cast<int>(key & 65535); }

// Whether blocks that hold `sum` are not enough yet.
ACCEL_XATTENTION_BOTH inline bool below(int64_t sum, double threshold, int64_t total) {
  return static_cast<double>(sum) < threshold * static_cast<double>(total);
}

}  // namespace accel_xattention
#endif
