#define ACCEL_LEVEL_TABLE elementwise_base
#include "cpu/ops/elementwise_kernels.inc.h"
