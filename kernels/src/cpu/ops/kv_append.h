// Appending the rows of a packed batch to the cache: kv_append, and rope_append after its rotation.
#ifndef ACCEL_CPU_OPS_KV_APPEND_H
#define ACCEL_CPU_OPS_KV_APPEND_H

#include "cpu/ops/args.h"

namespace accel::cpu {

// Which argument is which.
struct AppendArgs {
  int kv, k, v, positions, lens;
};

// Adds to `check` what appending needs: one length a sequence, room for that many rows, shapes and dtypes.
void check_append(Checker& check, const accel_call* call, const AppendArgs& at);

// Copies keys, values and positions into the last lens[b] rows of each sequence.
void append_rows(const accel_call* call, const AppendArgs& at);

}  // namespace accel::cpu
#endif
