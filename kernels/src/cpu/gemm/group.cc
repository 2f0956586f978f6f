// The ops linear_group and gated_linear: several products of one x.
//
//   linear_group   out_i = x w_i^T (+ bias_i), one to three parts
//   gated_linear   out = silu(g) u,  g = round(x gate^T),  u = round(x up^T)   (Shazeer 2020, arXiv:2002.05202)
//
// On the CPU each product is a GEMM of its own, so both are bit-identical to `linear` and `swiglu` one after another;
// what a single op saves is launches, on devices where a launch costs something.
#include "../builtin.h"
#include "cpu/ops/args.h"
#include "cpu/ops/elementwise_kernels.h"
#include "gemm.h"

namespace accel::cpu {
namespace {

constexpr int kParts = 3;

accel_arg tensor_arg(const accel_tensor* tensor) {
  accel_arg arg{};
  arg.kind = ACCEL_ARG_TENSOR;
  arg.tensor = tensor;
  return arg;
}

// Runs `linear` as a step of this op.
int product(const accel_call* call, const accel_tensor* out, const accel_tensor* x, const accel_tensor* weight,
            const accel_tensor* bias) {
  accel_arg args[5] = {tensor_arg(out), tensor_arg(x), tensor_arg(weight), tensor_arg(bias), {}};
  args[4].kind = ACCEL_ARG_INT;
  args[4].i = 0;
  accel_call step = *call;
  step.args = args;
  step.nargs = 5;
  return run_linear(&step, *linear_kernels(isa()), LinearPath::automatic);
}

// ---- linear_group

enum GroupArg { kOuts = 0, kX = 3, kWeights = 4, kBiases = 7 };

int group_check(const accel_call* call) {
  static const char* const outs[] = {"out_a", "out_b", "out_c"};
  static const char* const weights[] = {"weight_a", "weight_b", "weight_c"};
  static const char* const biases[] = {"bias_a", "bias_b", "bias_c"};
  Checker check(call, "linear_group");
  check.activation(kX, "x").shape(kX, "x", "[M,K]", {-1, -1});
  const int64_t m = check.dim(kX, 0), k = check.dim(kX, 1);
  check.require(!check.ok() || k > 0, "ERR_ACCEL_SHAPE", "x [M,K] needs K of at least 1");
  for (int i = 0; i < kParts && check.ok(); ++i) {
    const int out = kOuts + i, weight = kWeights + i, bias = kBiases + i;
    check.require(check.has(out) == check.has(weight), "ERR_ACCEL_ARGUMENT", "%s and %s come together; one is missing",
                  outs[i], weights[i]);
    if (!check.ok()) break;
    if (!check.has(out)) {
      check.require(!check.has(bias), "ERR_ACCEL_ARGUMENT", "%s needs %s and %s", biases[i], outs[i], weights[i]);
      continue;
    }
    check.same_dtype(weight, weights[i], kX, "x").dtype(out, outs[i], {type(call, kX), Type::f32});
    check.shape(weight, weights[i], "[N,K]", {-1, k}).shape(out, outs[i], "[M,N]", {m, check.dim(weight, 0)});
    if (check.has(bias)) {
      check.same_dtype(bias, biases[i], kX, "x").shape(bias, biases[i], "[N]", {check.dim(weight, 0)});
    }
  }
  return check.result();
}

int group(const accel_call* call) {
  for (int i = 0; i < kParts; ++i) {
    if (tensor(call, kOuts + i) == nullptr) continue;
    const int result = product(call, tensor(call, kOuts + i), tensor(call, kX), tensor(call, kWeights + i),
                               tensor(call, kBiases + i));
    if (result != ACCEL_OK) return result;
  }
  return ACCEL_OK;
}

// ---- gated_linear

enum GatedArg { kGatedOut, kGatedX, kGate, kUp };

bool overlap(const accel_tensor* a, const accel_tensor* b) {
  if (a->data == nullptr || b->data == nullptr) return false;
  const auto begin = [](const accel_tensor* t) { return reinterpret_cast<uintptr_t>(data(t)); };
  const auto bytes = [](const accel_tensor* t) { return uintptr_t(elements(t) * (t->dtype.bits / 8)); };
  return bytes(a) > 0 && bytes(b) > 0 && begin(a) < begin(b) + bytes(b) && begin(b) < begin(a) + bytes(a);
}

int gated_check(const accel_call* call) {
  Checker check(call, "gated_linear");
  check.activation(kGatedX, "x").same_dtype(kGatedOut, "out", kGatedX, "x");
  check.same_dtype(kGate, "gate", kGatedX, "x").same_dtype(kUp, "up", kGatedX, "x");
  check.shape(kGatedX, "x", "[M,K]", {-1, -1});
  const int64_t m = check.dim(kGatedX, 0), k = check.dim(kGatedX, 1);
  check.require(!check.ok() || k > 0, "ERR_ACCEL_SHAPE", "x [M,K] needs K of at least 1");
  check.shape(kGate, "gate", "[I,K]", {-1, k}).same_shape(kUp, "up", kGate, "gate");
  check.shape(kGatedOut, "out", "[M,I]", {m, check.dim(kGate, 0)});
  if (check.ok()) {
    check.require(!overlap(tensor(call, kGatedOut), tensor(call, kGatedX)), "ERR_ACCEL_ARGUMENT",
                  "out must not overlap x, which is read after parts of out are written");
  }
  return check.result();
}

int gated(const accel_call* call) {
  const accel_tensor *out = tensor(call, kGatedOut), *x = tensor(call, kGatedX);
  const int64_t n = elements(out);
  if (n == 0) return ACCEL_OK;
  const Type t = type(call, kGatedX);
  accel_tensor up = *out;
  up.data = call->scratch(call, size_t(n * type_bytes(t)));
  up.byte_offset = 0;
  int result = product(call, out, x, tensor(call, kGate), nullptr);
  if (result == ACCEL_OK) result = product(call, &up, x, tensor(call, kUp), nullptr);
  if (result != ACCEL_OK) return result;
  uint8_t *g = data<uint8_t>(out), *u = static_cast<uint8_t*>(up.data);
  const ElementwiseKernels& kernels = elementwise_kernels();
  parallel(call, n, grain_for(4), [&](int64_t begin, int64_t end, int) {
    const int64_t at = begin * type_bytes(t);
    kernels.swiglu(t, g + at, g + at, u + at, end - begin);
  });
  call->ran(call, "swiglu");
  return ACCEL_OK;
}

const accel_op kOps[] = {
    {"linear_group",
     "out_a:tensor, out_b:tensor?, out_c:tensor?, x:tensor, weight_a:tensor, weight_b:tensor?, weight_c:tensor?, "
     "bias_a:tensor?, bias_b:tensor?, bias_c:tensor?",
     group_check, group, nullptr},
    {"gated_linear", "out:tensor, x:tensor, gate:tensor, up:tensor", gated_check, gated, nullptr},
};

}  // namespace

OpTable linear_group_ops() { return {kOps, int(sizeof kOps / sizeof kOps[0])}; }

}  // namespace accel::cpu
