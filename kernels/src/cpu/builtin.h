// The built-in ops of the CPU backend, as tables of the same ABI that method packages use.
#ifndef ACCEL_CPU_BUILTIN_H
#define ACCEL_CPU_BUILTIN_H

#include "accel/op.h"

namespace accel::cpu {

// Each file of ops exports a table; builtin.cc joins them into one library.
struct OpTable {
  const accel_op* ops;
  int count;
};

OpTable linear_ops();       // gemm/linear.cc: linear
OpTable linear_group_ops(); // gemm/group.cc: linear_group, gated_linear
OpTable elementwise_ops();  // ops/elementwise.cc: embedding, rmsnorm, swiglu, add, cast, gather_rows, count_nonfinite
OpTable dequantize_ops();   // ops/dequantize.cc: dequantize
OpTable rope_ops();         // ops/rope.cc: rope_table, rope, rope_append
OpTable kv_ops();           // ops/kv.cc: kv_append, kv_gather, kv_read
OpTable kv_transfer_ops();  // ops/kv_transfer.cc: kv_export, kv_import, kv_check
OpTable attention_ops();    // ops/attention.cc: attention
OpTable block_sparse_ops(); // ops/block_sparse.cc: block_sparse_attention
OpTable block_mass_ops();   // ops/block_mass.cc: block_mass
OpTable clock_ops();        // ops/clock.cc: clock
OpTable kv_remove_ops();    // ops/kv_remove.cc: kv_remove
OpTable signal_ops();       // ops/signals.cc: observe_scores, column_sums
OpTable tally_ops();        // ops/tallies.cc: tally_add, tally_step, tally_read, tally_write
OpTable select_ops();       // ops/select.cc: topk, take_columns
OpTable sample_ops();       // ops/sample.cc: sample

const accel_op_library* builtin_library();

// Gives a built-in op its function for CUDA; false when there is no such op. Not while ops are being enqueued.
bool set_cuda_kernel(const char* name, accel_op_fn run);

}  // namespace accel::cpu
#endif
