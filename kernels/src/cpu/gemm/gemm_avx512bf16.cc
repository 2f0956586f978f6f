#define ACCEL_GEMM_LEVEL 3
#define ACCEL_GEMM_NAMESPACE gemm_avx512bf16
#define ACCEL_GEMM_NAME "avx512bf16"
#include "kernels.inc.h"
