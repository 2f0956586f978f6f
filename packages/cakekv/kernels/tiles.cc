// The tile kernels in portable code.
#define CAKE_TILES tiles_base
#include "tiles.inc.h"
