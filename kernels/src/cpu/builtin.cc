#include "cpu/builtin.h"

#include <vector>

namespace accel::cpu {

const accel_op_library* builtin_library() {
  static const auto* ops = [] {
    auto* all = new std::vector<accel_op>;
    for (OpTable table : {linear_ops(), elementwise_ops(), rope_ops(), kv_ops(), attention_ops(), signal_ops(),
                          select_ops(), sample_ops()}) {
      all->insert(all->end(), table.ops, table.ops + table.count);
    }
    return all;
  }();
  static const accel_op_library library{ACCEL_OP_ABI, "accel_builtin", "1", static_cast<int32_t>(ops->size()),
                                        ops->data()};
  return &library;
}

}  // namespace accel::cpu
