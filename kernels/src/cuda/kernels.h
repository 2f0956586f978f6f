// The CUDA functions of the built-in ops, by name. Names, signatures and checks are those of the CPU tables
// (cpu/builtin.h): the registry joins the two when the backend library is loaded.
#ifndef ACCEL_CUDA_KERNELS_H
#define ACCEL_CUDA_KERNELS_H

#include "accel/op.h"

namespace accel::cuda {

struct OpKernel {
  const char* name;
  accel_op_fn run;
};
struct OpKernels {
  const OpKernel* kernels;
  int count;
};

OpKernels linear_kernels();       // gemm/: linear, linear_group, gated_linear
OpKernels attention_kernels();    // attention/: attention
OpKernels block_sparse_kernels(); // attention/block_sparse.cu: block_sparse_attention
OpKernels clock_kernels();        // ops/clock.cu: clock
OpKernels signal_kernels();       // ops/signals.cu: observe_scores, column_sums
OpKernels block_mass_kernels();   // ops/block_mass.cu: block_mass
OpKernels elementwise_kernels();  // ops/elementwise.cu: embedding, rmsnorm, swiglu, add, cast, gather_rows, count_nonfinite
OpKernels dequantize_kernels();   // ops/dequantize.cu: dequantize
OpKernels rope_kernels();         // ops/rope.cu: rope_table, rope, rope_append
OpKernels kv_kernels();           // ops/kv.cu: kv_append, kv_gather, kv_read
OpKernels kv_remove_kernels();    // ops/kv_remove.cu: kv_remove
OpKernels kv_transfer_kernels();  // ops/kv_transfer.cu: kv_export, kv_import, kv_check
OpKernels tally_kernels();        // ops/tallies.cu: tally_add, tally_step, tally_read, tally_write
OpKernels select_kernels();       // ops/select.cu: topk, take_columns
OpKernels sample_kernels();       // ops/sample.cu: sample

}  // namespace accel::cuda
#endif
