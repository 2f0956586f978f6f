#define ACCEL_LEVEL_TABLE elementwise_avx2
#include "cpu/ops/elementwise_kernels.inc.h"
