// column_sums in chunks and ranges, and the tally ops, against their twins.
#include "ops_cases.h"

namespace test {
namespace {

constexpr double untouched = -777;

Tensor filled(std::vector<int64_t> shape, double value) {
  Tensor t(Type::f32, std::move(shape));
  for (int64_t i = 0; i < t.size(); ++i) t.set(i, value);
  return t;
}

Cache random_cache(Random& rng, Type t, int heads, int d, int tallies, const std::vector<int>& rows) {
  Cache cache(t, heads, d, (int)pick(rng, 1, 16), tallies);
  for (size_t first = 0; first < rows.size(); first += heads) {
    std::vector<int> n(rows.begin() + first, rows.begin() + first + heads), at, gap;
    for (const int r : n) {
      at.push_back((int)pick(rng, 0, r));
      gap.push_back((int)pick(rng, 0, 40));
    }
    cache.add(n, at, gap);
  }
  cache.build(rng);
  cache.fill(rng, 1);
  return cache;
}

// A copy must not point into the original's pages.
Cache copy_of(const Cache& cache) {
  Cache copy(cache);
  copy.kv.base = copy.memory.data();
  copy.kv.head = copy.table.data();
  return copy;
}

// The heads' numbers of group h at column j: 1 mean, 2 max, 3 sum, 4 first.
double reduced(const std::vector<double>& x, int64_t width, int h, int g, int64_t j, int reduce) {
  double r = x[(h * g) * width + j];
  for (int i = 1; i < g && reduce != 4; ++i) {
    const double y = x[(h * g + i) * width + j];
    r = reduce == 2 ? std::max(r, y) : r + y;
  }
  return reduce == 1 ? r / g : r;
}

// std::max would overlook a NaN.
void worsen(double& worst, double e) {
  if (!(e <= worst)) worst = isnan(e) ? INFINITY : e;
}

bool near(double got, double want, double unit) { return fabs(got - want) <= unit + 4e-7 * fabs(want); }

}  // namespace

// A prompt in chunks adds up to the sums of the whole; a range writes its columns alone.
void test_column_sums() {
  Random rng(14);
  for (int round = 0; round < (setup.small ? 6 : 60); ++round) {
    const Type t = activations[round % 3];
    const int heads = (int)pick(rng, 1, 2), g = (int)pick(rng, 1, 5), d = round % 4 ? 8 * (int)pick(rng, 1, 4) : 64 << (round / 4 % 2);
    const int n = (int)pick(rng, 2, round % 10 == 0 ? 1500 : 400), reduce = std::vector<int>{0, 1, 3}[round / 3 % 3];
    const int64_t m = n + pick(rng, 0, 3) * 5, rows = reduce == 0 ? heads * g : heads;
    Cache cache = random_cache(rng, t, heads, d, (int)pick(rng, 0, 2), repeat(heads, n));
    const double scale = 1 / sqrt(d);
    Tensor all = random_tensor(rng, t, {n, heads * g, d}, 3), out = filled({rows, m}, untouched);
    const auto call = [&](Tensor& to, Tensor& q, Tensor& lse, Cache& kv, int accumulate, std::vector<int> range) {
      return Call("column_sums").tensor(to).tensor(q).tensor(lse).kv(kv).real(scale).integer(reduce).integer(accumulate).ints(std::move(range)).none().integer(0).run();
    };
    for (int first = 0; first < n;) {
      const int count = std::min(n - first, round % 2 ? (int)pick(rng, 1, n) : n / 2 + 1);
      Cache part = copy_of(cache);
      for (int h = 0; h < heads; ++h) part.heads[h].rows = part.table[h].rows = first + count;
      Tensor q(t, {count, heads * g, d}), o(t, {count, heads * g, d}), lse(Type::f32, {count, heads * g});
      memcpy(q.bytes.data(), all.bytes.data() + (int64_t)first * heads * g * d * accel::cpu::type_bytes(t), (size_t)q.size() * accel::cpu::type_bytes(t));
      ok(Call("attention").tensor(o).tensor(lse).tensor(q).kv(part).ints({count}).real(scale).integer(1).integer(0).ints({}).run(), "attention");
      // What columns of new rows hold must not matter.
      for (int64_t r = 0; r < rows; ++r) {
        for (int j = first; j < first + count; ++j) out.set(r * m + j, NAN);
      }
      ok(call(out, q, lse, part, 1, {}), "column_sums of a chunk");
      first += count;
      if (first < n || count == n) continue;
      // The last chunk again, alone and in a range.
      Tensor whole = filled({rows, m}, untouched), some = filled({rows, m}, untouched);
      const int a = (int)pick(rng, 0, n), b = a + (int)pick(rng, 0, n);
      ok(call(whole, q, lse, part, 0, {}), "column_sums");
      ok(call(some, q, lse, part, 0, {a, b}), "column_sums of a range");
      bool same = true;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t j = 0; j < m; ++j) {
          const bool there = j >= a && j < b && j < n;
          same &= there ? near(some.get(r * m + j), whole.get(r * m + j), setup.cuda ? 1e-5 : 0) : some.get(r * m + j) == untouched;
        }
      }
      expect(same, "column_sums %s range [%d, %d) of %d", type_name(t), a, b, n);
    }
    const auto want = reference_columns(all, cache, scale, reduce);
    double worst = 0;
    bool rest = true;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < m; ++j) {
        if (j >= n) rest &= out.get(r * m + j) == untouched;
        else worsen(worst, fabs(out.get(r * m + j) - want[r * n + j]) / (1e-5 + 1e-5 * want[r * n + j]));
      }
    }
    expect(rest, "column_sums wrote behind the rows");
    expect(worst < (setup.cuda ? 10 : 3), "column_sums %s in chunks n=%d g=%d reduce=%d: %g", type_name(t), n, g, reduce, worst);
  }
}

void test_tallies() {
  Random rng(15);
  for (int round = 0; round < (setup.small ? 8 : 80); ++round) {
    const int heads = (int)pick(rng, 1, 4), g = round % 3 ? (int)pick(rng, 1, 5) : 1, tallies = (int)pick(rng, 1, 4);
    const int n = (int)pick(rng, 1, round % 10 ? 300 : 3000), which = (int)pick(rng, 0, tallies - 1), reduce = (int)pick(rng, 1, 4);
    std::vector<int> rows = repeat(heads, n);
    for (int& r : rows) r = round % 2 ? (int)pick(rng, 0, n) : n;
    Cache cache = random_cache(rng, activations[round % 3], heads, 8 * (int)pick(rng, 1, 4), tallies, rows);
    Cache want = copy_of(cache);
    const int64_t m = n + pick(rng, 0, 9);
    Tensor sums = random_tensor(rng, Type::f32, {heads * g, m});
    std::vector<double> x((size_t)sums.size());
    for (int64_t i = 0; i < sums.size(); ++i) x[i] = sums.get(i);
    ok(Call("tally_add").kv(cache).tensor(sums).integer(which).integer(reduce).run(), "tally_add");
    bool good = true;
    for (int h = 0; h < heads; ++h) {
      for (int64_t r = 0; r < rows[h]; ++r) {
        good &= near(cache.tally(h, r, which), want.tally(h, r, which) + reduced(x, m, h, g, r, reduce), 1e-6);
        want.tally(h, r, which) = cache.tally(h, r, which);
      }
    }
    expect(good, "tally_add g=%d reduce=%d", g, reduce);
    expect(cache.memory == want.memory, "tally_add wrote something else");
    if (round % 2) continue;

    Tensor values = random_tensor(rng, Type::f32, {heads, n}), out(Type::f32, {heads, n});
    ok(Call("tally_write").kv(cache).tensor(values).integer(which).run(), "tally_write");
    for (int h = 0; h < heads; ++h) {
      for (int64_t r = 0; r < n; ++r) want.tally(h, r, which) = (float)values.get(h * n + r);
    }
    expect(cache.memory == want.memory, "tally_write");
    const int first = (int)pick(rng, 0, 1) * (int)pick(rng, 0, n + 3), last = (int)pick(rng, 0, 1) * (int)pick(rng, 0, n + 3);
    ok(Call("tally_read").tensor(out).kv(cache).integer(which).integer(first).integer(last).run(), "tally_read");
    good = true;
    for (int64_t i = 0; i < out.size(); ++i) {
      const int64_t r = i % n;
      good &= out.get(i) == (r < first || r >= n - last ? INFINITY : values.get(i));
    }
    expect(good, "tally_read n=%d first=%d last=%d", n, first, last);
  }
}

void test_tally_step() {
  Random rng(16);
  for (int round = 0; round < (setup.small ? 9 : 120); ++round) {
    const Type t = activations[round % 3];
    const int heads = (int)pick(rng, 1, 3), g = (int)pick(rng, 1, 9), sequences = (int)pick(rng, 1, 3), tallies = (int)pick(rng, 1, 3);
    const int d = round % 2 ? 64 << (round / 2 % 2) : 8 * (int)pick(rng, 1, 32), reduce = 1 + round / 3 % 4;
    const int which = (int)pick(rng, 0, tallies - 1), accumulate = (int)pick(rng, 0, 1);
    std::vector<int> rows;
    for (int i = 0; i < sequences * heads; ++i) rows.push_back((int)pick(rng, 1, round % 10 ? 200 : 2600));
    Cache cache = random_cache(rng, t, heads, d, tallies, rows);
    Tensor q = random_tensor(rng, t, {sequences, heads * g, d}, 3), o(t, {sequences, heads * g, d}), lse(Type::f32, {sequences, heads * g});
    const double scale = 1 / sqrt(d);
    ok(Call("attention").tensor(o).tensor(lse).tensor(q).kv(cache).ints(repeat(sequences, 1)).real(scale).integer(1).integer(0).ints({}).run(), "attention");
    if (round % 7 == 0) lse.set(0, -INFINITY);  // saw nothing
    std::vector<int> ranges;
    for (int b = 0; round % 3 == 0 && b < sequences; ++b) {
      ranges.push_back((int)pick(rng, 0, 200));
      ranges.push_back(ranges.back() + (int)pick(rng, 0, 300));
    }
    Cache want = copy_of(cache), before = copy_of(cache);
    const auto call = [&](Cache& kv, Tensor& query, Tensor& sum, const std::vector<int>& range, int threads) {
      return Call("tally_step", threads).kv(kv).tensor(query).tensor(sum).real(scale).integer(which).integer(reduce).integer(accumulate).ints(range).integer(0).run();
    };
    ok(call(cache, q, lse, ranges, 3), "tally_step");
    double worst = 0;
    for (int head = 0; head < sequences * heads; ++head) {
      const int b = head / heads, h = head % heads, n = rows[head];
      std::vector<double> p;
      for (int i = 0; i < g; ++i) {
        Mask mask;
        mask.causal = false;
        const double l = lse.get(b * heads * g + h * g + i);
        for (const double logit : reference_logits(q, b, h * g + i, reference_rows(want, 0, head), d, mask, 0, 1, scale)) p.push_back(l == -INFINITY ? 0 : exp(logit - l));
      }
      for (int64_t r = 0; r < n; ++r) {
        if (!ranges.empty() && (r < ranges[2 * b] || r >= ranges[2 * b + 1])) continue;
        const double x = reduced(p, n, 0, g, r, reduce) + (accumulate ? want.tally(head, r, which) : 0);
        worsen(worst, fabs(cache.tally(head, r, which) - x) / (2e-6 + 2e-6 * fabs(x)));
        want.tally(head, r, which) = cache.tally(head, r, which);
      }
    }
    expect(worst < (setup.cuda ? 20 : 5), "tally_step %s d=%d g=%d reduce=%d accumulate=%d: %g", type_name(t), d, g, reduce, accumulate, worst);
    expect(cache.memory == want.memory, "tally_step wrote something else");

    Cache again = copy_of(before);
    ok(call(again, q, lse, ranges, 1), "tally_step");
    expect(again.memory == cache.memory, "tally_step differs with the number of threads");
    for (int b = 0; b < sequences; ++b) {
      Cache alone = copy_of(before);
      alone.kv.head = alone.table.data() + b * heads;
      alone.kv.sequences = 1;
      Tensor one(t, {1, heads * g, d}), sum(Type::f32, {1, heads * g});
      memcpy(one.bytes.data(), q.bytes.data() + b * one.size() * accel::cpu::type_bytes(t), (size_t)one.size() * accel::cpu::type_bytes(t));
      memcpy(sum.bytes.data(), lse.bytes.data() + b * sum.size() * 4, (size_t)sum.size() * 4);
      ok(call(alone, one, sum, ranges.empty() ? ranges : std::vector<int>(ranges.begin() + 2 * b, ranges.begin() + 2 * b + 2), 3), "tally_step");
      bool same = true;
      for (int h = 0; h < heads; ++h) {
        for (int64_t r = 0; r < rows[b * heads + h]; ++r) same &= alone.tally(b * heads + h, r, which) == cache.tally(b * heads + h, r, which);
      }
      expect(same, "tally_step %s of sequence %d differs alone", type_name(t), b);
    }
  }
}

}  // namespace test
