#include "cpu/builtin.h"

#include <cstring>
#include <vector>

namespace accel::cpu {

namespace {

// Never moves: entries are pointed to from everywhere.
std::vector<accel_op>& builtin_ops() {
  static auto* ops = [] {
    auto* all = new std::vector<accel_op>;
    for (OpTable table : {linear_ops(), linear_group_ops(), elementwise_ops(), dequantize_ops(), rope_ops(), kv_ops(),
                          kv_remove_ops(), kv_transfer_ops(), attention_ops(), block_sparse_ops(), clock_ops(), block_mass_ops(), signal_ops(),
                          tally_ops(), select_ops(), sample_ops()}) {
      all->insert(all->end(), table.ops, table.ops + table.count);
    }
    return all;
  }();
  return *ops;
}

}  // namespace

const accel_op_library* builtin_library() {
  static const accel_op_library library{ACCEL_OP_ABI, "accel_builtin", "1", static_cast<int32_t>(builtin_ops().size()),
                                        builtin_ops().data()};
  return &library;
}

bool set_cuda_kernel(const char* name, accel_op_fn run) {
  for (accel_op& op : builtin_ops()) {
    if (std::strcmp(op.name, name) != 0) continue;
    op.cuda = run;
    return true;
  }
  return false;
}

}  // namespace accel::cpu
