// The segment kernel for AVX-512.
#define THINK_SEGMENT segment_avx512
#include "think_segment.inc.h"
