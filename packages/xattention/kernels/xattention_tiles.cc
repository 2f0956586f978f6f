// The tile kernel in portable code.
#define ACCEL_XATTENTION_SCORE_ROWS score_rows_base
#include "xattention_tiles.inc.h"
