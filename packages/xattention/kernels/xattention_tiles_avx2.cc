// The tile kernel for AVX2 and FMA.
#define ACCEL_XATTENTION_SCORE_ROWS score_rows_avx2
#include "xattention_tiles.inc.h"
