// The tile kernel for AVX-512.
#define ACCEL_XATTENTION_SCORE_ROWS score_rows_avx512
#include "xattention_tiles.inc.h"
