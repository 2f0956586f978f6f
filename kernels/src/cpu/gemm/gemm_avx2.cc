#define ACCEL_GEMM_LEVEL 1
#define ACCEL_GEMM_NAMESPACE gemm_avx2
#define ACCEL_GEMM_NAME "avx2"
#include "kernels.inc.h"
