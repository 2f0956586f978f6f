#define ACCEL_LEVEL_TABLE attention_base
#include "cpu/attention/attention_kernels.inc.h"
