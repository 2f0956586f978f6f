// The tile kernels for AVX-512.
#define CAKE_TILES tiles_avx512
#include "tiles.inc.h"
