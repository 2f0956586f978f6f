// The tile kernels for AVX-512.
#define ACCEL_KIVI_TILES tiles_avx512
#include "kivi_tiles.inc.h"
