#include "cuda/runtime/kernels.h"

#include "cuda/kernels.h"

namespace accel::cuda {

const std::vector<BackendKernel>& kernels() {
  static const auto* all = [] {
    auto* joined = new std::vector<BackendKernel>;
    for (OpKernels table : {linear_kernels(), attention_kernels(), block_sparse_kernels(), clock_kernels(), block_mass_kernels(),
                            signal_kernels(), elementwise_kernels(), dequantize_kernels(), rope_kernels(), kv_kernels(),
                            kv_remove_kernels(), kv_transfer_kernels(), tally_kernels(), select_kernels(), sample_kernels()}) {
      for (int i = 0; i < table.count; i++) joined->push_back({table.kernels[i].name, table.kernels[i].run});
    }
    return joined;
  }();
  return *all;
}

}  // namespace accel::cuda
