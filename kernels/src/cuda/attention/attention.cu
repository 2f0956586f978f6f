// The attention op on CUDA: turns the call into an AttentionProblem and picks a kernel. Signature and checks: cpu/ops/attention.cc.
//
// The first kernel of the ladder that supports the problem runs: decode, sm90, sm80, reference. ACCEL_CUDA_ATTENTION
// names one of them instead, for tests and benches; asking for one that cannot do the problem is an error.
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "cuda/attention/attention.h"
#include "cuda/kernels.h"

namespace accel::cuda {
namespace {

struct Rung {
  const char* name;
  bool (*supports)(const AttentionProblem&);
  int (*run)(const AttentionProblem&);
};

const Rung ladder[] = {
    {"decode", decode_supports, run_attention_decode},
    {"sm90", sm90_supports, run_attention_sm90},
    {"sm80", sm80_supports, run_attention_sm80},
    {"reference", [](const AttentionProblem&) { return true; }, run_attention_reference},
};

// out:tensor[T,Hq,d], lse:tensor? f32[T,Hq], q:tensor[T,Hq,d], kv:kv, lens:ints[B], scale:float, causal:int, window:int,
// ranges:ints (empty, or [begin, end) per sequence)
int attention(const accel_call* call) {
  const accel_tensor* q = call->args[2].tensor;
  const accel_ints lens = call->args[4].ints, ranges = call->args[8].ints;
  AttentionProblem problem = {};
  problem.call = call;
  problem.kv = call->args[3].kv;
  problem.pages = kv_pages(*problem.kv);
  problem.dtype = q->dtype;
  problem.head_dim = static_cast<int>(q->shape[2]);
  problem.query_heads = static_cast<int>(q->shape[1]);
  problem.group = problem.query_heads / problem.kv->heads;
  problem.q = data(q);
  problem.out = data(call->args[0].tensor);
  problem.lse = data<float>(call->args[1].tensor);
  problem.lens = lens.data;
  problem.queries = q->shape[0];
  problem.scale = static_cast<float>(call->args[5].f);
  problem.causal = call->args[6].i != 0;
  problem.window = window_of(call->args[7]);
  for (int i = 0; i < problem.kv->sequences * problem.kv->heads; i++) problem.gaps |= problem.kv->head[i].gap != 0;

  std::vector<int32_t> begin(lens.size + 1, 0);
  for (int64_t b = 0; b < lens.size; b++) {
    begin[b + 1] = begin[b] + lens.data[b];
    if (lens.data[b] > problem.max_len) problem.max_len = lens.data[b];
  }
  if (problem.queries == 0 || problem.head_dim == 0) return ACCEL_OK;
  problem.query_begin = static_cast<const int32_t*>(call->upload(call, begin.data(), begin.size() * sizeof(int32_t)));
  if (ranges.size > 0) {
    problem.ranges = static_cast<const int32_t*>(call->upload(call, ranges.data, ranges.size * sizeof(int32_t)));
  }
  return run_attention(problem);
}

const OpKernel kernels[] = {{"attention", attention}};

}  // namespace

int run_attention(const AttentionProblem& problem) {
  const accel_call* call = problem.call;
  const char* wanted = getenv("ACCEL_CUDA_ATTENTION");
  if (wanted != nullptr && *wanted == '\0') wanted = nullptr;
  for (const Rung& rung : ladder) {
    if (wanted != nullptr && strcmp(wanted, rung.name) != 0) continue;
    if (rung.supports(problem)) return rung.run(problem);
    if (wanted != nullptr) {
      return call->fail(call, "ERR_ACCEL_ARGUMENT",
                        "ACCEL_CUDA_ATTENTION=%s cannot do this attention (head dimension %d, %d bits, %d queries at "
                        "most, window %d); unset it to let the runtime choose",
                        wanted, problem.head_dim, problem.dtype.bits, problem.max_len, problem.window);
    }
  }
  return call->fail(call, "ERR_ACCEL_ARGUMENT",
                    "ACCEL_CUDA_ATTENTION must be decode, sm90, sm80 or reference, got \"%s\"", wanted);
}

OpKernels attention_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
