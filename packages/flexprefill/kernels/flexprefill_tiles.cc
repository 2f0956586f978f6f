// The tile kernels for the portable baseline.
#define ACCEL_FLEXPREFILL_TILES tiles_base
#include "flexprefill_tiles.inc.h"
