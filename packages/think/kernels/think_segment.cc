// The segment kernel in the portable baseline.
#define THINK_SEGMENT segment_base
#include "think_segment.inc.h"
