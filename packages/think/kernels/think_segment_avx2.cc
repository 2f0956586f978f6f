// The segment kernel for AVX2, FMA and F16C.
#define THINK_SEGMENT segment_avx2
#include "think_segment.inc.h"
