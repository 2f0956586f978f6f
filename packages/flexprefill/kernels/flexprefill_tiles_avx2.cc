// The tile kernels for AVX2 and FMA.
#define ACCEL_FLEXPREFILL_TILES tiles_avx2
#include "flexprefill_tiles.inc.h"
