#define ACCEL_GEMM_LEVEL 2
#define ACCEL_GEMM_NAMESPACE gemm_avx512
#define ACCEL_GEMM_NAME "avx512"
#include "kernels.inc.h"
