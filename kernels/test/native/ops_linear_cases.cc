// linear, linear_group and gated_linear against fp64 products.
#include "ops_cases.h"

namespace test {
namespace {

double roundoff(Type t) { return t == Type::bf16 ? 0x1p-8 : t == Type::f16 ? 0x1p-11 : 0x1p-24; }

// [M, N] products x w^T; the sum of the magnitudes, which bounds what the order of the sum can change; and the magnitude
// of what is rounded to the result's type on the way (an accumulating linear rounds the product before it adds).
struct Product {
  std::vector<double> value, size, between;
};
Product product(const Tensor& x, const Tensor& w) {
  const int64_t m = x.shape[0], n = w.shape[0], k = x.shape[1];
  Product p;
  p.value.assign((size_t)(m * n), 0);
  p.size = p.between = p.value;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t c = 0; c < k; ++c) {
        const double term = x.get(i * k + c) * w.get(j * k + c);
        p.value[i * n + j] += term;
        p.size[i * n + j] += fabs(term);
      }
    }
  }
  return p;
}

// The worst error in units of the sum's own error, sqrt(K) roundings of fp32 at most, and of one rounding of the result.
double worst(const Tensor& got, const Product& p, int64_t k) {
  double w = 0;
  for (size_t i = 0; i < p.value.size(); ++i) {
    const double bound = roundoff(got.type) * (fabs(p.value[i]) + p.between[i]) + p.size[i] * 0x1p-24 * (2 + sqrt((double)k)) + 1e-30 +
                         (got.type == Type::f16 ? 0x1p-25 : 0);
    const double e = fabs(got.get((int64_t)i) - p.value[i]) / bound;
    if (!(e <= w)) w = isnan(e) ? INFINITY : e;
  }
  return w;
}

void check_linear(Random& rng, Type t, Type result, int64_t m, int64_t n, int64_t k, bool bias, bool accumulate) {
  Tensor x = random_tensor(rng, t, {m, k}), w = random_tensor(rng, t, {n, k}), b = random_tensor(rng, t, {n});
  Tensor out = random_tensor(rng, result, {m, n});
  Product p = product(x, w);
  for (int64_t i = 0; i < m * n; ++i) {
    if (bias) p.value[i] += b.get(i % n), p.size[i] += fabs(b.get(i % n));
    if (!accumulate) continue;
    p.between[i] = fabs(p.value[i]) * (1 + 2 * roundoff(result));
    p.value[i] += out.get(i);
    p.size[i] += fabs(out.get(i));
  }
  Call call("linear");
  call.tensor(out).tensor(x).tensor(w);
  if (bias) call.tensor(b); else call.none();
  ok(call.integer(accumulate).run(), "linear");
  const double e = worst(out, p, k);
  expect(e <= 1.01, "linear %s -> %s m=%d n=%d k=%d bias=%d accumulate=%d: %g", type_name(t), type_name(result), (int)m, (int)n, (int)k, bias,
         accumulate, e);
}

void check_group(Random& rng, Type t, int64_t m, int64_t k, const std::vector<int64_t>& widths, bool bias) {
  Tensor x = random_tensor(rng, t, {m, k});
  std::vector<Tensor> outs, weights, biases;
  for (const int64_t n : widths) {
    outs.emplace_back(t, std::vector<int64_t>{m, n});
    weights.push_back(random_tensor(rng, t, {n, k}));
    biases.push_back(random_tensor(rng, t, {n}));
  }
  Call call("linear_group");
  const auto three = [&](std::vector<Tensor>& list, bool there) {
    for (size_t i = 0; i < 3; ++i) {
      if (there && i < list.size()) call.tensor(list[i]); else call.none();
    }
  };
  three(outs, true);
  call.tensor(x);
  three(weights, true);
  three(biases, bias);
  ok(call.run(), "linear_group");
  for (size_t i = 0; i < widths.size(); ++i) {
    Product p = product(x, weights[i]);
    for (size_t j = 0; bias && j < p.value.size(); ++j) p.value[j] += biases[i].get((int64_t)j % widths[i]);
    const double e = worst(outs[i], p, k);
    expect(e <= 1.01, "linear_group %s m=%d k=%d part %d n=%d bias=%d: %g", type_name(t), (int)m, (int)k, (int)i, (int)widths[i], bias, e);
    if (setup.cuda) continue;      // there the parts share a kernel, which may sum in another order
    Tensor alone(t, {m, widths[i]});
    Call one("linear");
    one.tensor(alone).tensor(x).tensor(weights[i]);
    if (bias) one.tensor(biases[i]); else one.none();
    ok(one.integer(0).run(), "linear");
    expect(alone.bytes == outs[i].bytes, "linear_group part %d differs from linear", (int)i);
  }
}

void check_gated(Random& rng, Type t, int64_t m, int64_t n, int64_t k) {
  Tensor x = random_tensor(rng, t, {m, k}), gate = random_tensor(rng, t, {n, k}), up = random_tensor(rng, t, {n, k}), out(t, {m, n});
  ok(Call("gated_linear").tensor(out).tensor(x).tensor(gate).tensor(up).run(), "gated_linear");
  const Product g = product(x, gate), u = product(x, up);
  double w = 0;
  for (int64_t i = 0; i < m * n; ++i) {
    const double a = rounded(g.value[i], t), b = rounded(u.value[i], t), silu = a / (1 + exp(-a));
    // A product near the middle of two values may round to either; |silu'| < 1.1.
    const double sum = 0x1p-24 * (2 + sqrt((double)k));
    const double da = 2 * roundoff(t) * fabs(a) + sum * g.size[i], db = 2 * roundoff(t) * fabs(b) + sum * u.size[i];
    const double bound = 1.1 * da * fabs(b) + fabs(silu) * db + 1.1 * da * db + 2 * roundoff(t) * fabs(silu * b) + 1e-30 +
                         (t == Type::f16 ? 0x1p-25 : 0);
    const double e = fabs(out.get(i) - silu * b) / bound;
    if (!(e <= w)) w = isnan(e) ? INFINITY : e;
  }
  expect(w <= 1.01, "gated_linear %s m=%d n=%d k=%d: %g", type_name(t), (int)m, (int)n, (int)k, w);
  if (setup.cuda) return;
  Tensor a(t, {m, n}), b(t, {m, n}), apart(t, {m, n});
  ok(Call("linear").tensor(a).tensor(x).tensor(gate).none().integer(0).run(), "linear");
  ok(Call("linear").tensor(b).tensor(x).tensor(up).none().integer(0).run(), "linear");
  ok(Call("swiglu").tensor(apart).tensor(a).tensor(b).run(), "swiglu");
  expect(apart.bytes == out.bytes, "gated_linear %s differs from linear and swiglu", type_name(t));
}

}  // namespace

void test_linear() {
  Random rng(12);
  std::vector<int64_t> rows = {1, 2, 3, 5, 8, 9, 33, 130};
  if (setup.small) rows = {1, 8, 17};
  for (const Type t : activations) {
    for (const int64_t m : rows) {
      for (const int64_t k : {8, 33, 100, 264, 1000}) {
        if (setup.small && k != 33 && k != 264) continue;
        const int64_t n = pick(rng, 1, 140);
        check_linear(rng, t, t, m, n, k, pick(rng, 0, 1), pick(rng, 0, 1));
        check_linear(rng, t, Type::f32, m, n, k, false, false);
        check_group(rng, t, m, k, {n}, true);
        check_group(rng, t, m, k, {64, 16}, false);
        check_group(rng, t, m, k, {pick(rng, 1, 80), pick(rng, 1, 40), pick(rng, 1, 40)}, pick(rng, 0, 1));
        check_gated(rng, t, m, pick(rng, 1, 140), k);
      }
    }
  }
}

}  // namespace test
