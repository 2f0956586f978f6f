// Every built-in CPU op but linear, at every instruction set level this machine has, against scalar fp64 twins.
//
//   ops_test            runs all levels, one child process each (the level is decided once per process)
//   ops_test --level    runs the level of ACCEL_CPU_ISA only
#include <sys/wait.h>
#include <unistd.h>

#include "cpu/isa.h"
#include "ops_cases.h"

namespace {

using namespace test;

void test_cast() {
  Random rng(1);
  std::vector<float> values = {0.f, -0.f, INFINITY, -INFINITY, NAN, 65504.f, 65519.f, 65520.f, 65536.f, -65520.f,
                               3.4028235e38f, 1e-45f, 6.1035156e-5f, 6.0e-5f, 2.98023224e-8f, 2.9802326e-8f, 8.9e-8f};
  for (int i = 0; i < 20000; ++i) {
    uint32_t u = (uint32_t)rng();
    if (i % 4 == 1) u &= 0xffff0000u;                 // exact bf16
    if (i % 4 == 2) u = (u & 0xffff0000u) | 0x8000u;  // bf16 ties
    if (i % 4 == 3) u = (u & 0x8ffff000u) | 0x38000000u | (u & 0x1000u);   // fp16 range, many ties
    float f;
    memcpy(&f, &u, 4);
    values.push_back(f);
  }
  for (const size_t n : {values.size(), (size_t)1, (size_t)7, (size_t)19}) {
    Tensor x(Type::f32, {(int64_t)n});
    for (size_t i = 0; i < n; ++i) memcpy(x.as<float>() + i, &values[i], 4);
    for (const Type to : {Type::bf16, Type::f16}) {
      Tensor y(to, {(int64_t)n}), z(Type::f32, {(int64_t)n});
      ok(Call("cast").tensor(y).tensor(x).run(), "cast down");
      ok(Call("cast").tensor(z).tensor(y).run(), "cast up");
      int bad = 0;
      for (size_t i = 0; i < n; ++i) {
        const double want = rounded(values[i], to), got = y.get((int64_t)i), wide = z.get((int64_t)i);
        const bool same = isnan(want) ? isnan(got) && isnan(wide)
                                      : got == want && wide == want && signbit(got) == signbit(values[i]);
        if (!same && ++bad == 1) printf("  %a -> %a, want %a\n", values[i], got, want);
      }
      expect(bad == 0, "cast to %s: %d of %zu wrong", type_name(to), bad, n);
    }
  }
}

void test_elementwise() {
  Random rng(2);
  for (const Type t : activations) {
    for (const int64_t width : {(int64_t)1, (int64_t)5, (int64_t)8, (int64_t)96, (int64_t)130, (int64_t)515}) {
      const int64_t rows = pick(rng, 1, 40);
      Tensor x = random_tensor(rng, t, {rows, width}, 8), w = random_tensor(rng, t, {width});
      Tensor out(t, {rows, width}), b = random_tensor(rng, t, {rows, width}, 30);
      ok(Call("rmsnorm").tensor(out).tensor(x).tensor(w).real(1e-5).run(), "rmsnorm");
      std::vector<double> want((size_t)x.size());
      for (int64_t r = 0; r < rows; ++r) {
        double s = 0;
        for (int64_t i = 0; i < width; ++i) s += x.get(r * width + i) * x.get(r * width + i);
        const double f = 1 / sqrt(s / (double)width + 1e-5);
        for (int64_t i = 0; i < width; ++i) want[r * width + i] = rounded(x.get(r * width + i) * f, t) * w.get(i);
      }
      expect(excess(out, want, 1e-6) < (t == Type::f32 ? 4 : 2.6), "rmsnorm %s: %g", type_name(t), excess(out, want, 1e-6));

      ok(Call("swiglu").tensor(out).tensor(b).tensor(x).run(), "swiglu");
      for (int64_t i = 0; i < x.size(); ++i) want[i] = b.get(i) / (1 + exp(-b.get(i))) * x.get(i);
      expect(excess(out, want, 1e-37) < (t == Type::f32 ? 4 : 1.01), "swiglu %s: %g", type_name(t), excess(out, want, 1e-37));

      ok(Call("add").tensor(out).tensor(x).tensor(b).run(), "add");
      for (int64_t i = 0; i < x.size(); ++i) want[i] = rounded(x.get(i) + b.get(i), t);
      expect(excess(out, want, 0) == 0, "add %s", type_name(t));

      Tensor count(Type::i32, {1});
      x.set(0, NAN);
      x.set(x.size() - 1, -INFINITY);
      ok(Call("count_nonfinite").tensor(count).tensor(x).run(), "count_nonfinite");
      expect(count.get(0) == (x.size() == 1 ? 1 : 2), "count_nonfinite %g", count.get(0));

      Tensor ids(Type::i32, {3}), rows_out(t, {3, width});
      for (int i = 0; i < 3; ++i) ids.set(i, (double)pick(rng, 0, rows - 1));
      ok(Call("embedding").tensor(rows_out).tensor(ids).tensor(b).run(), "embedding");
      bool same = true;
      for (int i = 0; i < 3; ++i) {
        for (int64_t c = 0; c < width; ++c) same &= rows_out.get(i * width + c) == b.get((int64_t)ids.get(i) * width + c);
      }
      expect(same, "embedding");
      Tensor gathered(t, {3, width});
      ok(Call("gather_rows").tensor(gathered).tensor(b).ints({(int)ids.get(0), (int)ids.get(1), (int)ids.get(2)}).run(), "gather_rows");
      expect(gathered.bytes == rows_out.bytes, "gather_rows");
      ids.set(1, (double)rows);
      expect(Call("embedding").tensor(rows_out).tensor(ids).tensor(b).run().rfind("ERR_ACCEL_ARGUMENT: embedding: ids[1]", 0) == 0, "embedding range");
    }
  }
  // silu over the whole range: finite, signed, and exact to a few ulp.
  Tensor g(Type::f32, {4001}), one(Type::f32, {4001}), y(Type::f32, {4001});
  std::vector<double> want(4001);
  for (int i = 0; i <= 4000; ++i) {
    g.put(i, (i - 2000) * 0.05);
    one.put(i, 1);
    want[i] = g.get(i) / (1 + exp(-g.get(i)));
  }
  ok(Call("swiglu").tensor(y).tensor(g).tensor(one).run(), "silu");
  // Below -87 the true value is under 1e-36; saturation may cost it, but no more than that.
  expect(excess(y, want, 1e-36) < 3, "silu range: %g ulp", excess(y, want, 1e-36));
}

void test_rope() {
  Random rng(3);
  for (const Type t : activations) {
    for (const int interleaved : {0, 1}) {
      for (const int d : {8, 24, 64, 128}) {
        const int64_t tokens = 7, heads = 3, half = d == 24 ? 6 : d / 2;
        Tensor positions(Type::i32, {tokens}), inv(Type::f64, {half}), table(Type::f32, {tokens, half, 2});
        for (int i = 0; i < tokens; ++i) positions.set(i, i == 0 ? -5 : (double)pick(rng, 0, 200000));
        for (int i = 0; i < half; ++i) inv.set(i, pow(10000, -2.0 * i / (2 * (double)half)));
        ok(Call("rope_table").tensor(table).tensor(positions).tensor(inv).real(1.25).run(), "rope_table");
        std::vector<double> want((size_t)table.size());
        for (int i = 0; i < tokens; ++i) {
          for (int p = 0; p < half; ++p) {
            want[(i * half + p) * 2] = cos(positions.get(i) * inv.get(p)) * 1.25;
            want[(i * half + p) * 2 + 1] = sin(positions.get(i) * inv.get(p)) * 1.25;
          }
        }
        expect(excess(table, want, 0) <= 0.51, "rope_table: %g", excess(table, want, 0));
        Tensor x = random_tensor(rng, t, {tokens, heads, d}, 3), before = x;
        ok(Call("rope").tensor(x).tensor(table).integer(interleaved).run(), "rope");
        want.assign((size_t)x.size(), 0);
        for (int64_t i = 0; i < tokens; ++i) {
          for (int64_t h = 0; h < heads; ++h) {
            const int64_t at = (i * heads + h) * d;
            for (int c = 0; c < d; ++c) want[at + c] = before.get(at + c);
            for (int p = 0; p < half; ++p) {
              const int64_t a = at + (interleaved ? 2 * p : p), b = at + (interleaved ? 2 * p + 1 : p + half);
              const double cosine = table.get((i * half + p) * 2), sine = table.get((i * half + p) * 2 + 1);
              want[a] = before.get(a) * cosine - before.get(b) * sine;
              want[b] = before.get(b) * cosine + before.get(a) * sine;
            }
          }
        }
        expect(excess(x, want, 5e-7) < 1.01, "rope %s d=%d interleaved=%d: %g", type_name(t), d, interleaved, excess(x, want, 5e-7));
      }
    }
  }
}

void test_kv() {
  Random rng(4);
  for (const Type t : activations) {
    for (int round = 0; round < 6; ++round) {
      const int heads = (int)pick(rng, 1, 3), d = 8 * (int)pick(rng, 1, 9), page = (int)pick(rng, 1, 16);
      Cache cache(t, heads, d, page);
      std::vector<int32_t> lens = {(int)pick(rng, 0, 40), 3, 0};
      std::vector<std::vector<int>> rows;
      for (const int len : lens) {
        std::vector<int> r, at, gap;
        for (int h = 0; h < heads; ++h) {
          r.push_back(len + (int)pick(rng, 0, 50));
          at.push_back((int)pick(rng, 0, r.back()));
          gap.push_back((int)pick(rng, 0, 30));
        }
        cache.add(r, at, gap);
        rows.push_back(r);
      }
      cache.build(rng);
      cache.fill(rng, 1);
      int64_t total = 0;
      for (const int len : lens) total += len;
      Tensor k = random_tensor(rng, t, {total, heads, d}), v = random_tensor(rng, t, {total, heads, d}), p(Type::i32, {total});
      for (int64_t i = 0; i < total; ++i) p.set(i, (double)(1000 + i));
      ok(Call("kv_append").kv(cache).tensor(k).tensor(v).tensor(p).ints(lens).run(), "kv_append");
      bool same = true;
      int64_t token = 0;
      for (size_t b = 0; b < lens.size(); ++b) {
        for (int i = 0; i < lens[b]; ++i, ++token) {
          for (int h = 0; h < heads; ++h) {
            const int head = (int)b * heads + h;
            const int64_t r = rows[b][h] - lens[b] + i;
            for (int c = 0; c < d; ++c) {
              same &= cache.get(0, head, r, c) == k.get((token * heads + h) * d + c);
              same &= cache.get(1, head, r, c) == v.get((token * heads + h) * d + c);
            }
            int32_t position;
            memcpy(&position, cache.address(2, head, r), 4);
            same &= position == 1000 + token;
          }
        }
      }
      expect(same, "kv_append %s", type_name(t));

      // One sequence with a gap, gathered into one without, then read.
      Cache src(t, heads, d, page), dst(t, heads, d, (int)pick(rng, 1, 9));
      std::vector<int> n, at, gap, kept;
      std::vector<std::vector<int>> choice((size_t)heads);
      for (int h = 0; h < heads; ++h) {
        n.push_back((int)pick(rng, 1, 90));
        at.push_back((int)pick(rng, 0, n.back()));
        gap.push_back((int)pick(rng, 0, 40));
        for (int r = 0; r < n.back(); ++r) {
          if (pick(rng, 0, 2) == 0) choice[h].push_back(r);
        }
        kept.push_back((int)choice[h].size());
      }
      src.add(n, at, gap);
      src.build(rng);
      src.fill(rng, 1);
      dst.add(kept, repeat(heads, 0), repeat(heads, 0));
      dst.build(rng);
      const int most = *std::max_element(kept.begin(), kept.end());
      Tensor list(Type::i32, {heads, most + 1});
      for (int h = 0; h < heads; ++h) {
        for (int j = 0; j <= most; ++j) list.set(h * (most + 1) + j, j < kept[h] ? choice[h][j] : -1);
      }
      ok(Call("kv_gather").kv(dst).kv(src).tensor(list).ints(kept).run(), "kv_gather");
      const int width = most + 2;
      Tensor rk(t, {heads, width, d}), rv(t, {heads, width, d}), rp(Type::i32, {heads, width});
      ok(Call("kv_read").tensor(rk).tensor(rv).tensor(rp).kv(dst).run(), "kv_read");
      same = true;
      for (int h = 0; h < heads; ++h) {
        for (int j = 0; j < width; ++j) {
          const bool there = j < kept[h];
          same &= rp.get(h * width + j) == (there ? 3 * choice[h][j] + h : -1);
          for (int c = 0; c < d; ++c) {
            same &= rk.get((h * width + j) * d + c) == (there ? src.get(0, h, choice[h][j], c) : 0);
            same &= rv.get((h * width + j) * d + c) == (there ? src.get(1, h, choice[h][j], c) : 0);
          }
        }
      }
      expect(same, "kv_gather and kv_read %s", type_name(t));
      ok(Call("kv_read").none().none().tensor(rp).kv(dst).run(), "kv_read of positions");
      if (kept[0] > 0) {
        list.set(0, n[0]);
        expect(Call("kv_gather").kv(dst).kv(src).tensor(list).ints(kept).run().rfind("ERR_ACCEL_ARGUMENT", 0) == 0, "kv_gather range");
      }
    }
  }
}

void test_topk() {
  Random rng(8);
  for (int round = 0; round < 200; ++round) {
    const int64_t heads = pick(rng, 1, 4), n = pick(rng, 1, round % 5 ? 300 : 20000), k = pick(rng, 0, n);
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

void test_sample() {
  Random rng(9);
  int differ = 0, draws = 0;
  for (int round = 0; round < 60; ++round) {
    const int64_t batch = pick(rng, 1, 5), n = pick(rng, 1, round % 4 ? 50 : 5000);
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

void refused(const std::string& error, const char* code, const char* part) {
  expect(error.rfind(code, 0) == 0 && error.find(part) != std::string::npos, "expected %s naming %s, got: %s", code, part, error.c_str());
}

void test_checks() {
  Random rng(10);
  Tensor a(Type::f32, {3, 8}), b(Type::f32, {3, 9}), h(Type::bf16, {3, 8}), w(Type::f32, {8}), i(Type::i32, {3});
  refused(Call("rmsnorm").tensor(a).tensor(b).tensor(w).real(0).run(), "ERR_ACCEL_SHAPE", "out has shape [3, 8] but x has [3, 9]");
  refused(Call("rmsnorm").tensor(a).tensor(h).tensor(w).real(0).run(), "ERR_ACCEL_DTYPE", "out is float32 but x is bfloat16");
  refused(Call("rmsnorm").tensor(a).tensor(a).tensor(w).real(-1).run(), "ERR_ACCEL_ARGUMENT", "eps");
  refused(Call("embedding").tensor(a).tensor(a).tensor(a).run(), "ERR_ACCEL_DTYPE", "ids must be int32");
  refused(Call("gather_rows").tensor(a).tensor(a).ints({0, 1, 3}).run(), "ERR_ACCEL_ARGUMENT", "rows[2] is 3");
  refused(Call("topk").tensor(i).tensor(a).integer(9).integer(1).run(), "ERR_ACCEL_ARGUMENT", "k must be");
  Cache cache(Type::f32, 2, 16, 4);
  cache.add({5, 5}, {0, 0}, {0, 0});
  cache.build(rng);
  cache.fill(rng, 1);
  Tensor q(Type::f32, {2, 4, 16}), odd(Type::f32, {2, 3, 16}), wide(Type::f32, {2, 4, 8}), o(Type::f32, {2, 4, 16}), p(Type::i32, {2}), s(Type::f32, {4, 5});
  const auto run = [&](Tensor& out, Tensor& query, std::vector<int> lens, int window, std::vector<int> ranges) {
    return Call("attention").tensor(out).none().tensor(query).kv(cache).ints(lens).real(1).integer(1).integer(window).ints(ranges).run();
  };
  ok(run(o, q, {2}, 0, {}), "attention");
  refused(run(odd, odd, {2}, 0, {}), "ERR_ACCEL_SHAPE", "multiple of kv's 2");
  refused(run(wide, wide, {2}, 0, {}), "ERR_ACCEL_SHAPE", "q must be [T,Hq,d]");
  refused(run(o, q, {3}, 0, {}), "ERR_ACCEL_SHAPE", "q must be [T,Hq,d] = [3, any, 16], got shape [2, 4, 16]");
  refused(run(o, q, {1, 1}, 0, {}), "ERR_ACCEL_SHAPE", "lens has 2 entries but kv has 1 sequences");
  refused(run(o, q, {2}, -1, {}), "ERR_ACCEL_ARGUMENT", "window");
  refused(run(o, q, {2}, 0, {3, 2}), "ERR_ACCEL_ARGUMENT", "[3, 2)");
  refused(run(o, q, {2}, 0, {3}), "ERR_ACCEL_SHAPE", "ranges");
  refused(Call("kv_append").kv(cache).tensor(q).tensor(q).tensor(p).ints({6}).run(), "ERR_ACCEL_ARGUMENT", "reserve");
  refused(Call("kv_append").kv(cache).tensor(q).tensor(q).tensor(p).ints({2}).run(), "ERR_ACCEL_SHAPE", "k must be [T,Hk,d]");
  refused(Call("observe_scores").tensor(s).tensor(q).kv(cache).real(1).integer(4).run(), "ERR_ACCEL_ARGUMENT", "reduce");
  refused(Call("observe_scores").tensor(s).tensor(q).kv(cache).real(1).integer(1).run(), "ERR_ACCEL_SHAPE", "out must be [Hs,n]");
  cache.kv.head_dim = 20;
  refused(run(o, q, {2}, 0, {}), "ERR_ACCEL_SHAPE", "head_dim 20");
}

int run_level() {
  if (accel::cpu::isa_error() != nullptr) {
    printf("skipped: %s\n", accel::cpu::isa_error());
    return 0;
  }
  const struct {
    const char* name;
    void (*run)();
  } tests[] = {{"cast", test_cast},           {"elementwise", test_elementwise}, {"rope", test_rope},
               {"kv", test_kv},               {"attention", test_attention},     {"signals", test_signals},
               {"known answers", test_known}, {"topk", test_topk},               {"sample", test_sample},
               {"checks", test_checks}};
  for (const auto& t : tests) {
    const int p = passed, f = failed;
    t.run();
    printf("  %-14s %d passed, %d failed\n", t.name, passed - p, failed - f);
  }
  printf("%s: %d passed, %d failed\n", accel::cpu::isa_name(accel::cpu::isa()), passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  if (argc > 1 && strcmp(argv[1], "--level") == 0) return run_level();
  int bad = 0;
  for (const char* level : {"base", "avx2", "avx512", "avx512bf16"}) {
    printf("%s\n", level);
    const pid_t child = fork();
    if (child == 0) {
      setenv("ACCEL_CPU_ISA", level, 1);
      execl("/proc/self/exe", argv[0], "--level", (char*)nullptr);
      _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      printf("%s: exit %d signal %d\n", level, WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
      ++bad;
    }
  }
  return bad;
}
