// topk, take_columns and sample against sorting and indexing.
#include "ops_cases.h"

namespace test {

void test_topk() {
  Random rng(8);
  for (int round = 0; round < (setup.small ? 15 : 200); ++round) {
    const int64_t heads = pick(rng, 1, 4), n = pick(rng, 1, round % 5 || setup.small ? 300 : 20000), k = pick(rng, 0, n);
    const int largest = (int)pick(rng, 0, 1), levels = (int)pick(rng, 1, 3);
    Tensor scores(Type::f32, {heads, n}), out(Type::i32, {heads, k});
    for (int64_t i = 0; i < scores.size(); ++i) {
      const double x = uniform(rng);
      scores.put(i, levels == 1 ? nearbyint(x * 3) * 0.25 : levels == 2 ? x : ldexp(x, (int)pick(rng, -120, 120)));
      if (pick(rng, 0, 50) == 0) scores.set(i, pick(rng, 0, 1) ? -0.0 : 0.0);
      if (pick(rng, 0, 200) == 0) scores.set(i, pick(rng, 0, 1) ? INFINITY : -INFINITY);
    }
    ok(Call("topk").tensor(out).tensor(scores).integer(k).integer(largest).run(), "topk");
    bool same = true;
    for (int64_t h = 0; h < heads; ++h) {
      std::vector<int> order((size_t)n);
      for (int64_t i = 0; i < n; ++i) order[i] = (int)i;
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
        const double x = scores.get(h * n + a), y = scores.get(h * n + b);
        return largest ? x > y : x < y;
      });
      order.resize((size_t)k);
      std::sort(order.begin(), order.end());
      for (int64_t i = 0; i < k; ++i) same &= out.get(h * k + i) == order[i];
    }
    expect(same, "topk n=%d k=%d largest=%d", (int)n, (int)k, largest);
  }
  Tensor scores = random_tensor(rng, Type::f32, {2, 9}), out(Type::i32, {2, 3});
  scores.set(13, NAN);
  expect(Call("topk").tensor(out).tensor(scores).integer(3).integer(1).run().rfind("ERR_ACCEL_NAN", 0) == 0, "topk NaN");
}

void test_take_columns() {
  Random rng(13);
  for (int round = 0; round < (setup.small ? 5 : 40); ++round) {
    const int64_t heads = pick(rng, 1, 5), n = pick(rng, 1, round % 5 ? 300 : 9000), k = pick(rng, 0, round % 2 ? 2 * n : 1);
    Tensor x = random_tensor(rng, Type::f32, {heads, n}), index(Type::i32, {heads, k}), out(Type::f32, {heads, k});
    for (int64_t i = 0; i < index.size(); ++i) index.set(i, (double)pick(rng, 0, n - 1));
    ok(Call("take_columns").tensor(out).tensor(x).tensor(index).run(), "take_columns");
    bool same = true;
    for (int64_t i = 0; i < out.size(); ++i) same &= out.get(i) == x.get(i / k * n + (int64_t)index.get(i));
    expect(same, "take_columns n=%d k=%d", (int)n, (int)k);
    if (index.size() == 0) continue;
    index.set(index.size() - 1, round % 2 ? (double)n : -1);
    expect(Call("take_columns").tensor(out).tensor(x).tensor(index).run().rfind("ERR_ACCEL_ARGUMENT: take_columns", 0) == 0, "take_columns range");
  }
}

namespace {

int reference_sample(const Tensor& logits, int64_t row, double t, int k, double p, double min_p, double u) {
  const int64_t n = logits.shape[1];
  std::vector<int> order((size_t)n);
  for (int64_t i = 0; i < n; ++i) order[i] = (int)i;
  const auto at = [&](int i) { return logits.get(row * n + i); };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return at(a) > at(b); });
  if (t == 0) return order[0];
  size_t kept = k > 0 ? (size_t)std::min<int64_t>(k, n) : (size_t)n;
  std::vector<double> w;
  for (const int i : order) w.push_back(exp((at(i) - at(order[0])) / t));
  double total = 0, sum = 0;
  for (size_t i = 0; i < kept; ++i) total += w[i];
  if (p < 1) {
    size_t i = 0;
    while (i < kept && (i == 0 || sum < p * total)) sum += w[i++];
    kept = i;
  }
  while (kept > 1 && w[kept - 1] < min_p) --kept;
  total = sum = 0;
  for (size_t i = 0; i < kept; ++i) total += w[i];
  for (size_t i = 0; i < kept; ++i) {
    sum += w[i];
    if (sum > u * total) return order[i];
  }
  return order[kept - 1];
}

}  // namespace

void test_sample() {
  Random rng(9);
  int differ = 0, draws = 0;
  for (int round = 0; round < (setup.small ? 6 : 60); ++round) {
    const int64_t batch = pick(rng, 1, 5), n = pick(rng, 1, round % 4 || setup.small ? 50 : 5000);
    Tensor logits = random_tensor(rng, Type::f32, {batch, n}, 6), out(Type::i32, {batch}), t(Type::f32, {batch}), k(Type::i32, {batch}),
           p(Type::f32, {batch}), m(Type::f32, {batch}), u(Type::f64, {batch});
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t i = 0; i < n; ++i) {
        if (pick(rng, 0, 3) == 0) logits.put(b * n + i, nearbyint(logits.get(b * n + i)));
        if (n > 1 && i > 0 && pick(rng, 0, 9) == 0) logits.set(b * n + i, -INFINITY);
      }
      t.put(b, pick(rng, 0, 3) ? uniform(rng, 0.1, 2) : 0);
      k.set(b, pick(rng, 0, 1) ? 0 : (double)pick(rng, 1, n + 3));
      p.put(b, pick(rng, 0, 1) ? 1 : uniform(rng, 0.05, 1));
      m.put(b, pick(rng, 0, 1) ? 0 : uniform(rng, 0, 0.5));
      u.set(b, uniform(rng, 0, 1));
    }
    ok(Call("sample").tensor(out).tensor(logits).tensor(t).tensor(k).tensor(p).tensor(m).tensor(u).run(), "sample");
    for (int64_t b = 0; b < batch; ++b, ++draws) differ += out.get(b) != reference_sample(logits, b, t.get(b), (int)k.get(b), p.get(b), m.get(b), u.get(b));
    logits.set(0, NAN);
    expect(Call("sample").tensor(out).tensor(logits).tensor(t).tensor(k).tensor(p).tensor(m).tensor(u).run().rfind("ERR_ACCEL_NAN", 0) == 0, "sample NaN");
    logits.set(0, 0);
    p.put(0, 1.5);
    expect(Call("sample").tensor(out).tensor(logits).tensor(t).tensor(k).tensor(p).tensor(m).tensor(u).run().rfind("ERR_ACCEL_ARGUMENT", 0) == 0, "sample top_p");
  }
  expect(differ == 0, "sample: %d of %d draws differ", differ, draws);
}

}  // namespace test
