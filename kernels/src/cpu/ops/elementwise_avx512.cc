#define ACCEL_LEVEL_TABLE elementwise_avx512
#include "cpu/ops/elementwise_kernels.inc.h"
