// The tile kernels for AVX-512.
#define ACCEL_FLEXPREFILL_TILES tiles_avx512
#include "flexprefill_tiles.inc.h"
