// Plans of cuBLASLt: what a shape needs, made once. See cublaslt.h.
#ifndef ACCEL_CUDA_GEMM_LT_PLAN_H
#define ACCEL_CUDA_GEMM_LT_PLAN_H

#include <compare>
#include <vector>

#include "cuda/gemm/gemm.h"
#include "cuda/gemm/lt_api.h"

namespace accel::cuda::lt {

inline constexpr size_t kWorkspaceBytes = size_t{32} << 20;
inline constexpr int kCandidates = 6;

struct Key {
  int64_t m, n, k;
  int in, result;        // cudaDataType_t
  bool bias;
  uint32_t alignment;    // of all pointers: 16 .. 256
  auto operator<=>(const Key&) const = default;
};

inline int type_of(accel_dtype t) { return is_float(t) ? kReal32F : t.code == ACCEL_BFLOAT ? kReal16BF : kReal16F; }
Key key_of(const LinearProblem& p);

class Plan {
 public:
  Plan(const Api& api, Handle handle, const Key& key);
  ~Plan();
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // What the library would take, best guess first; empty: it cannot.
  const std::vector<HeuristicResult>& candidates() const { return candidates_; }
  bool usable() const { return !candidates_.empty(); }
  // The algorithm that `run` takes. `choose` refuses one that does not fit this shape.
  const HeuristicResult& chosen() const { return chosen_; }
  bool choose(const Algorithm& algorithm);

  Status run(const LinearProblem& p, const HeuristicResult& how, bool accumulate, void* out, void* workspace,
             cudaStream_t stream) const;

 private:
  const Api& api_;
  Handle handle_;
  MatmulDesc desc_ = nullptr;
  MatrixLayout w_ = nullptr, x_ = nullptr, out_ = nullptr;
  std::vector<HeuristicResult> candidates_;
  HeuristicResult chosen_{};
};

}  // namespace accel::cuda::lt
#endif
