// The tile kernels for AVX2 and FMA.
#define ACCEL_KIVI_TILES tiles_avx2
#include "kivi_tiles.inc.h"
