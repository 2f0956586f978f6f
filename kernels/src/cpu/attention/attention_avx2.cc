#define ACCEL_LEVEL_TABLE attention_avx2
#include "cpu/attention/attention_kernels.inc.h"
