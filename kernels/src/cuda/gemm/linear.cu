// The ops linear, linear_group and gated_linear on CUDA: few rows in one launch, many rows as one GEMM a product.
//
// gated_linear for many rows: gate into out, up into scratch, then out = silu(out) * up. The arguments have been checked
// by the CPU tables (cpu/gemm/linear.cc, cpu/gemm/group.cc).
#include "cuda/gemm/epilogue.cuh"
#include "cuda/gemm/gemm.h"
#include "cuda/kernels.h"

namespace accel::cuda {
namespace {

const accel_tensor* tensor(const accel_call* call, int i) { return call->args[i].tensor; }

// One product with x; nothing to do for an empty one.
LinearProblem problem(const accel_tensor* out, const accel_tensor* x, const accel_tensor* w, const accel_tensor* bias,
                      bool accumulate) {
  return {x->shape[0], w->shape[0], x->shape[1], data(x),    data(w),
          data(bias),  data(out),   x->dtype,    out->dtype, accumulate};
}

GemvProblem gemv_problem(const LinearProblem& p) {
  GemvProblem g{};
  g.m = static_cast<int32_t>(p.m);
  g.k = p.k;
  g.x = p.x;
  g.in = p.in;
  g.accumulate = p.accumulate;
  return g;
}
void add_part(GemvProblem* g, const LinearProblem& p, const void* up) {
  if (p.n == 0) return;
  g->part[g->parts++] = {p.w, up, p.bias, p.out, static_cast<int32_t>(p.n), 0, !is_float(p.in) && is_float(p.result)};
}
bool few(const LinearProblem& p) { return p.m <= kGemvRows && p.n <= (INT32_MAX >> 4); }

int run_product(const accel_call* call, const LinearProblem& p) {
  if (p.m == 0 || p.n == 0) return ACCEL_OK;
  if (!few(p)) return run_gemm(call, p);
  GemvProblem g = gemv_problem(p);
  add_part(&g, p, nullptr);
  return run_gemv_auto(call, g);
}

// ---- linear

int linear(const accel_call* call) {
  return run_product(call, problem(tensor(call, 0), tensor(call, 1), tensor(call, 2), tensor(call, 3),
                                   call->args[4].i != 0));
}

// ---- linear_group

int linear_group(const accel_call* call) {
  LinearProblem part[kGemvParts];
  int parts = 0;
  bool together = true;
  for (int i = 0; i < kGemvParts; ++i) {
    if (tensor(call, i) == nullptr) continue;
    part[parts] = problem(tensor(call, i), tensor(call, 3), tensor(call, 4 + i), tensor(call, 7 + i), false);
    together = few(part[parts]) && together;
    parts++;
  }
  if (parts == 0 || part[0].m == 0) return ACCEL_OK;
  if (together) {
    GemvProblem g = gemv_problem(part[0]);
    for (int i = 0; i < parts; ++i) add_part(&g, part[i], nullptr);
    return g.parts == 0 ? ACCEL_OK : run_gemv_auto(call, g);
  }
  for (int i = 0; i < parts; ++i) {
    if (const int result = run_product(call, part[i]); result != ACCEL_OK) return result;
  }
  return ACCEL_OK;
}

// ---- gated_linear

// gate = silu(gate) * up over n elements, V at a time and the rest one by one.
template <class T, int V>
__global__ void __launch_bounds__(256) gate_product(T* gate, const T* up, int64_t n) {
  struct alignas(V * sizeof(T)) Vector {
    T v[V];
  };
  const int64_t first = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x, vectors = n / V;
  for (int64_t i = first; i < vectors; i += step) {
    Vector g = reinterpret_cast<const Vector*>(gate)[i];
    const Vector u = reinterpret_cast<const Vector*>(up)[i];
#pragma unroll
    for (int j = 0; j < V; ++j) g.v[j] = silu_product(g.v[j], u.v[j]);
    reinterpret_cast<Vector*>(gate)[i] = g;
  }
  for (int64_t i = vectors * V + first; i < n; i += step) gate[i] = silu_product(gate[i], up[i]);
}

template <class T, int V>
int launch_gate_product(const accel_call* call, void* gate, const void* up, int64_t n) {
  const int64_t blocks = (n / V + 255) / 256, most = static_cast<int64_t>(call->multiprocessors) * 32;
  const int64_t grid = blocks < 1 ? 1 : blocks < most ? blocks : most;
  gate_product<T, V><<<static_cast<unsigned>(grid), 256, 0, stream_of(call)>>>(static_cast<T*>(gate),
                                                                               static_cast<const T*>(up), n);
  call->ran(call, "swiglu");
  return launched(call);
}

int gated_linear(const accel_call* call) {
  LinearProblem gate = problem(tensor(call, 0), tensor(call, 1), tensor(call, 2), nullptr, false);
  if (gate.m == 0 || gate.n == 0) return ACCEL_OK;
  if (few(gate)) {
    GemvProblem g = gemv_problem(gate);
    g.gated = true;
    add_part(&g, gate, data(tensor(call, 3)));
    return run_gemv_auto(call, g);
  }
  const int64_t n = gate.m * gate.n;
  LinearProblem up = gate;
  up.w = data(tensor(call, 3));
  up.out = call->scratch(call, static_cast<size_t>(n) * (gate.in.bits / 8));
  int result = run_gemm(call, gate);
  if (result == ACCEL_OK) result = run_gemm(call, up);
  if (result != ACCEL_OK) return result;
  const bool aligned = reinterpret_cast<uintptr_t>(gate.out) % 16 == 0;  // scratch always is
  return with_float(gate.in, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    return aligned ? launch_gate_product<T, 16 / sizeof(T)>(call, gate.out, up.out, n)
                   : launch_gate_product<T, 1>(call, gate.out, up.out, n);
  });
}

const OpKernel kernels[] = {{"linear", linear}, {"linear_group", linear_group}, {"gated_linear", gated_linear}};

}  // namespace

int run_gemv_auto(const accel_call* call, const GemvProblem& p) {
  return forced_gemv() != GemvPath::scalar && fits_gemv_mma(p) ? run_gemv_mma(call, p) : run_gemv(call, p);
}

OpKernels linear_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
