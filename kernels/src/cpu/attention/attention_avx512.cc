#define ACCEL_LEVEL_TABLE attention_avx512
#include "cpu/attention/attention_kernels.inc.h"
