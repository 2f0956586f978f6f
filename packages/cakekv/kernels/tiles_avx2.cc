// The tile kernels for AVX2 and FMA.
#define CAKE_TILES tiles_avx2
#include "tiles.inc.h"
