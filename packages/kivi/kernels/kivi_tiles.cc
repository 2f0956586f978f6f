// The tile kernels in portable code.
#define ACCEL_KIVI_TILES tiles_base
#include "kivi_tiles.inc.h"
