#include "cuda/gemm/lt_plan.h"

namespace accel::cuda::lt {

Key key_of(const LinearProblem& p) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(p.x) | reinterpret_cast<uintptr_t>(p.w) |
                         reinterpret_cast<uintptr_t>(p.out) | 256u;
  return {p.m, p.n, p.k, type_of(p.in), type_of(p.result), p.bias != nullptr, static_cast<uint32_t>(bits & (~bits + 1))};
}

Plan::Plan(const Api& api, Handle handle, const Key& key) : api_(api), handle_(handle) {
  const int32_t transpose = kOpTranspose;
  const uint32_t epilogue = key.bias ? kEpilogueBias : kEpilogueDefault;
  const auto n = static_cast<uint64_t>(key.n), k = static_cast<uint64_t>(key.k), m = static_cast<uint64_t>(key.m);
  const bool made = api.desc_create(&desc_, kCompute32F, kReal32F) == 0 &&
                    api.desc_set(desc_, kDescTransA, &transpose, sizeof transpose) == 0 &&
                    api.desc_set(desc_, kDescEpilogue, &epilogue, sizeof epilogue) == 0 &&
                    api.layout_create(&w_, key.in, k, n, key.k) == 0 && api.layout_create(&x_, key.in, k, m, key.k) == 0 &&
                    api.layout_create(&out_, key.result, n, m, key.n) == 0;
  Preference preference = nullptr;
  if (!made || api.preference_create(&preference) != 0) return;
  const uint64_t workspace = kWorkspaceBytes;
  // With this mask: no split-K, or split-K with fp32 sums reduced in a step of its own.
  const uint32_t reduction = kReductionComputeType;
  bool set = api.preference_set(preference, kPrefMaxWorkspaceBytes, &workspace, sizeof workspace) == 0 &&
             api.preference_set(preference, kPrefReductionSchemeMask, &reduction, sizeof reduction) == 0;
  for (const int attribute : {kPrefMinAlignmentA, kPrefMinAlignmentB, kPrefMinAlignmentC, kPrefMinAlignmentD}) {
    set = set && api.preference_set(preference, attribute, &key.alignment, sizeof key.alignment) == 0;
  }
  HeuristicResult results[kCandidates] = {};
  int count = 0;
  if (set && api.heuristic(handle, desc_, w_, x_, out_, out_, preference, kCandidates, results, &count) == 0) {
    for (int i = 0; i < count; ++i) {
      if (results[i].state == 0 && results[i].workspace <= kWorkspaceBytes) candidates_.push_back(results[i]);
    }
  }
  api.preference_destroy(preference);
  if (usable()) chosen_ = candidates_[0];
}

Plan::~Plan() {
  for (const MatrixLayout layout : {w_, x_, out_}) {
    if (layout != nullptr) api_.layout_destroy(layout);
  }
  if (desc_ != nullptr) api_.desc_destroy(desc_);
}

bool Plan::choose(const Algorithm& algorithm) {
  HeuristicResult result{};
  if (api_.check(handle_, desc_, w_, x_, out_, out_, &algorithm, &result) != 0) return false;
  if (result.state != 0 || result.workspace > kWorkspaceBytes) return false;
  result.algorithm = algorithm;  // `check` fills in the requirements only
  chosen_ = result;
  return true;
}

Status Plan::run(const LinearProblem& p, const HeuristicResult& how, bool accumulate, void* out, void* workspace,
                 cudaStream_t stream) const {
  if (p.bias != nullptr) {
    const Status status = api_.desc_set(desc_, kDescBiasPointer, &p.bias, sizeof p.bias);
    if (status != 0) return status;
  }
  const float alpha = 1.f, beta = accumulate ? 1.f : 0.f;
  return api_.matmul(handle_, desc_, &alpha, p.w, w_, p.x, x_, &beta, out, out_, out, out_, &how.algorithm, workspace,
                     how.workspace, stream);
}

}  // namespace accel::cuda::lt
