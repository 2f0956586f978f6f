#define ACCEL_GEMM_LEVEL 0
#define ACCEL_GEMM_NAMESPACE gemm_base
#define ACCEL_GEMM_NAME "base"
#include "kernels.inc.h"
