// Every built-in CPU op but linear, at every instruction set level this machine has, against scalar fp64 twins.
//
//   ops_test            runs all levels, one child process each (the level is decided once per process)
//   ops_test --level    runs the level of ACCEL_CPU_ISA only
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "cpu/isa.h"
#include "ops_reference.h"

namespace {

using namespace test;

int passed = 0, failed = 0;

void expect(bool good, const char* format, ...) {
  if (good) {
    ++passed;
    return;
  }
  if (++failed > 30) return;
  va_list list;
  va_start(list, format);
  printf("  FAILED ");
  vprintf(format, list);
  printf("\n");
  va_end(list);
}

void ok(const std::string& error, const char* what) { expect(error.empty(), "%s: %s", what, error.c_str()); }

const Type activations[] = {Type::f32, Type::bf16, Type::f16};

// Largest difference, as a multiple of `unit` + `rel` * |want| (rel: rounding of the result's dtype).
double excess(Tensor& got, const std::vector<double>& want, double unit) {
  const double rel = got.type == Type::bf16 ? 0x1p-8 : got.type == Type::f16 ? 0x1p-11 : 0x1p-23;
  const double tiny = got.type == Type::f16 ? 0x1p-25 : 0;      // half a step of fp16's subnormals
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double g = got.get((int64_t)i);
    if (g == want[i]) continue;
    const double e = fabs(g - want[i]) / (unit + tiny + rel * fabs(want[i]));
    if (!(e <= worst)) worst = isnan(e) ? INFINITY : e;
  }
  return worst;
}

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

std::vector<int> repeat(int n, int value) { return std::vector<int>((size_t)n, value); }

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

struct AttentionCase {
  Type type = Type::f32;
  int kv_heads = 2, group = 2, d = 64, page = 16;
  std::vector<int32_t> lens;
  std::vector<int> history;       // rows before the queries
  bool causal = true, gaps = false, ragged = false, ranges = false;
  int window = 0;
  double scale_q = 1;
};

void check_attention(Random& rng, const AttentionCase& a) {
  Cache cache(a.type, a.kv_heads, a.d, a.page);
  std::vector<Mask> masks;
  std::vector<int32_t> ranges;
  int64_t total = 0;
  for (size_t b = 0; b < a.lens.size(); ++b) {
    std::vector<int> rows, at, gap;
    for (int h = 0; h < a.kv_heads; ++h) {
      int n = a.lens[b] + a.history[b];
      if (a.ragged) n = std::max(0, n - (int)pick(rng, 0, n / 2));
      rows.push_back(n);
      at.push_back(a.gaps ? (int)pick(rng, 0, n) : 0);
      gap.push_back(a.gaps ? (int)pick(rng, 0, 70) : 0);
    }
    cache.add(rows, at, gap);
    Mask mask;
    mask.causal = a.causal;
    mask.window = a.window;
    if (a.ranges) {
      mask.ranged = true;
      mask.begin = pick(rng, 0, rows[0]);
      mask.end = pick(rng, mask.begin, rows[0] + 20);
      ranges.push_back((int)mask.begin);
      ranges.push_back((int)mask.end);
    }
    masks.push_back(mask);
    total += a.lens[b];
  }
  cache.build(rng);
  cache.fill(rng, 1);
  const int heads = a.kv_heads * a.group;
  Tensor q = random_tensor(rng, a.type, {total, heads, a.d}, a.scale_q), out(a.type, {total, heads, a.d}), lse(Type::f32, {total, heads});
  const double scale = 1 / sqrt(a.d);
  const auto make = [&](int threads, Tensor& o, Tensor* l) {
    Call call("attention", threads);
    call.tensor(o);
    if (l) call.tensor(*l); else call.none();
    return call.tensor(q).kv(cache).ints(a.lens).real(scale).integer(a.causal).integer(a.window).ints(ranges).run();
  };
  ok(make(3, out, &lse), "attention");
  std::vector<double> want, want_lse;
  reference_attention(q, cache, a.lens, masks, scale, want, want_lse);
  const double e = excess(out, want, a.scale_q > 1 ? 1.5e-5 : 1e-6), el = excess(lse, want_lse, a.scale_q > 1 ? 3e-5 : 2e-6);
  expect(e < 1.1 && el < 1.1, "attention %s kv=%d g=%d d=%d m=%d n=%d window=%d gaps=%d ranges=%d ragged=%d: out %g lse %g", type_name(a.type),
         a.kv_heads, a.group, a.d, a.lens[0], a.history[0] + a.lens[0], a.window, a.gaps, a.ranges, a.ragged, e, el);

  // The same bits with other numbers of threads, without lse, and for each sequence on its own.
  Tensor again(a.type, {total, heads, a.d}), lse_again(Type::f32, {total, heads});
  ok(make(1, again, &lse_again), "attention, one thread");
  expect(again.bytes == out.bytes && lse_again.bytes == lse.bytes, "attention differs with the number of threads");
  ok(make(7, again, nullptr), "attention, seven threads");
  expect(again.bytes == out.bytes, "attention differs without lse");
  if (a.lens.size() < 2) return;
  int64_t token = 0;
  for (size_t b = 0; b < a.lens.size(); ++b) {
    Cache one(a.type, a.kv_heads, a.d, a.page);
    one.heads.assign(cache.heads.begin() + (int64_t)b * a.kv_heads, cache.heads.begin() + (int64_t)(b + 1) * a.kv_heads);
    one.kv = cache.kv;
    one.kv.sequences = 1;
    one.kv.head = cache.kv.head + b * a.kv_heads;
    if (a.lens[b] == 0) continue;
    const int64_t m = a.lens[b], row = (int64_t)heads * a.d * type_bytes(a.type);
    Tensor q1(a.type, {m, heads, a.d}), o1(a.type, {m, heads, a.d});
    memcpy(q1.bytes.data(), q.bytes.data() + token * row, (size_t)(m * row));
    std::vector<int32_t> r1;
    if (a.ranges) r1 = {ranges[2 * b], ranges[2 * b + 1]};
    ok(Call("attention", 2).tensor(o1).none().tensor(q1).kv(one).ints({(int)m}).real(scale).integer(a.causal).integer(a.window).ints(r1).run(), "alone");
    expect(memcmp(o1.bytes.data(), out.bytes.data() + token * row, (size_t)(m * row)) == 0, "attention of sequence %zu differs alone", b);
    token += m;
  }
}

void test_attention() {
  Random rng(5);
  for (const Type t : activations) {
    for (const int d : {8, 24, 64, 72, 80, 96, 128, 256}) {
      for (const int g : {1, 2, 3, 5, 8}) {
        AttentionCase a;
        a.type = t;
        a.d = d;
        a.group = g;
        a.kv_heads = (int)pick(rng, 1, 2);
        a.page = (int)pick(rng, 1, 20);
        a.gaps = pick(rng, 0, 1);
        a.lens = {(int)pick(rng, 1, 4), (int)pick(rng, 30, 90), 0, 1};
        a.history = {(int)pick(rng, 0, 300), (int)pick(rng, 0, 150), 4, (int)pick(rng, 0, 40)};
        check_attention(rng, a);
        a.lens = {(int)pick(rng, 1, 60)};
        a.history = {(int)pick(rng, 0, 200)};
        a.window = (int)pick(rng, 1, 100);
        a.ranges = pick(rng, 0, 1);
        a.ragged = pick(rng, 0, 1);
        a.causal = pick(rng, 0, 3) > 0;
        check_attention(rng, a);
      }
    }
  }
  for (int round = 0; round < 150; ++round) {
    AttentionCase a;
    a.type = activations[round % 3];
    a.d = round % 2 ? 64 : 16;
    a.group = (int)pick(rng, 1, 8);
    a.kv_heads = (int)pick(rng, 1, 3);
    a.page = 16;
    a.gaps = pick(rng, 0, 1);
    a.ragged = pick(rng, 0, 2) == 0;
    a.ranges = pick(rng, 0, 1);
    a.causal = pick(rng, 0, 4) > 0;
    a.window = pick(rng, 0, 1) ? (int)pick(rng, 1, 150) : 0;
    a.scale_q = pick(rng, 0, 2) ? 1 : 40;
    const int sequences = (int)pick(rng, 1, 3);
    for (int b = 0; b < sequences; ++b) {
      a.lens.push_back((int)pick(rng, 0, 2) ? (int)pick(rng, 1, 8) : (int)pick(rng, 9, 140));
      a.history.push_back((int)pick(rng, 0, 260));
    }
    check_attention(rng, a);
  }
  AttentionCase a;                 // several key splits, both kernels
  for (const Type t : {Type::f32, Type::bf16}) {
    a.type = t;
    a.d = 16;
    a.lens = {2, 20};
    a.history = {5000, 9000};
    check_attention(rng, a);
    a.window = 3000;
    check_attention(rng, a);
    a.window = 0;
  }
  a.type = Type::f32;              // more query blocks than one
  a.lens = {500};
  a.history = {30};
  check_attention(rng, a);
}

void test_signals() {
  Random rng(6);
  for (int round = 0; round < 60; ++round) {
    const Type t = activations[round % 3];
    const int heads = (int)pick(rng, 1, 2), g = (int)pick(rng, 1, 5), d = round % 4 ? 8 * (int)pick(rng, 1, 4) : 64;
    const int n = (int)pick(rng, 1, round % 10 == 0 ? 2600 : 700), m = (int)pick(rng, 1, std::min(n, round % 3 ? 40 : 8)), reduce = (int)pick(rng, 0, 3);
    Cache cache(t, heads, d, 16);
    cache.add(repeat(heads, n), repeat(heads, (int)pick(rng, 0, n)), repeat(heads, (int)pick(rng, 0, 40)));
    cache.build(rng);
    cache.fill(rng, 1);
    Tensor q = random_tensor(rng, t, {m, heads * g, d}, 3);
    const int rows = reduce == 0 ? heads * g : heads;
    Tensor out(Type::f32, {rows, n}), sums(Type::f32, {rows, n}), again(Type::f32, {rows, n});
    const double scale = 1 / sqrt(d);
    ok(Call("observe_scores").tensor(out).tensor(q).kv(cache).real(scale).integer(reduce).run(), "observe_scores");
    ok(Call("observe_scores", 1).tensor(again).tensor(q).kv(cache).real(scale).integer(reduce).run(), "observe_scores");
    expect(out.bytes == again.bytes, "observe_scores differs with the number of threads");
    const auto want = reference_columns(q, cache, scale, reduce);
    expect(excess(out, want, 3e-6) < 5, "observe_scores %s m=%d n=%d g=%d reduce=%d: %g", type_name(t), m, n, g, reduce, excess(out, want, 3e-6));
    Tensor o(t, {m, heads * g, d}), lse(Type::f32, {m, heads * g});
    ok(Call("attention").tensor(o).tensor(lse).tensor(q).kv(cache).ints({m}).real(scale).integer(1).integer(0).ints({}).run(), "attention");
    ok(Call("column_sums").tensor(sums).tensor(q).tensor(lse).kv(cache).real(scale).integer(reduce).run(), "column_sums");
    expect(excess(sums, want, 3e-6) < 5, "column_sums %s m=%d n=%d g=%d reduce=%d: %g", type_name(t), m, n, g, reduce, excess(sums, want, 3e-6));
  }
  // More rows than one flush of the fp32 sums.
  Cache cache(Type::f32, 1, 8, 16);
  cache.add({1200}, {0}, {0});
  cache.build(rng);
  cache.fill(rng, 1);
  Tensor q = random_tensor(rng, Type::f32, {1200, 2, 8}, 3), out(Type::f32, {1, 1200});
  ok(Call("observe_scores").tensor(out).tensor(q).kv(cache).real(0.35).integer(2).run(), "observe_scores");
  const auto want = reference_columns(q, cache, 0.35, 2);
  expect(excess(out, want, 3e-6) < 8, "observe_scores over 1200 queries: %g", excess(out, want, 3e-6));
}

// Known answers: the portable generator with d = 8, [heads, T, 8] inputs, queries times 4.
double generated(uint32_t i, uint32_t seed) {
  uint32_t h = i + seed * 0x9E3779B9u;
  h ^= h >> 16;
  h *= 0x85EBCA6Bu;
  h ^= h >> 13;
  h *= 0xC2B2AE35u;
  h ^= h >> 16;
  return (h >> 8) * 0x1p-23 - 1;
}

void known_inputs(Random& rng, Cache& cache, Tensor& q, int q_seed, int k_seed, int total, int used, int first) {
  const int heads = (int)q.shape[1];
  cache.add(repeat(cache.kv.heads, used), repeat(cache.kv.heads, 0), repeat(cache.kv.heads, 0));
  const int kv_heads = cache.kv.heads;
  cache.build(rng);
  for (int h = 0; h < kv_heads; ++h) {
    for (int j = 0; j < used; ++j) {
      for (int c = 0; c < 8; ++c) {
        const float k = (float)generated((uint32_t)((h * total + j) * 8 + c), (uint32_t)k_seed);
        memcpy(cache.address(0, h, j) + c * 4, &k, 4);
      }
    }
  }
  for (int i = 0; i < q.shape[0]; ++i) {
    for (int h = 0; h < heads; ++h) {
      for (int c = 0; c < 8; ++c) q.set((i * heads + h) * 8 + c, 4 * generated((uint32_t)((h * total + first + i) * 8 + c), (uint32_t)q_seed));
    }
  }
}

void test_known() {
  Random rng(7);
  const double scale = 1 / sqrt(8);
  expect(generated(0, 1) == 0.1467951536178589 && generated(999, 1) == -0.35192012786865234, "generator");
  {  // SnapKV G4: 4 heads, T = 40, W = 8, average pooling over 5
    Cache cache(Type::f32, 4, 8, 16);
    cache.kv.heads = 4;
    Tensor q(Type::f32, {8, 4, 8}), out(Type::f32, {4, 40});
    known_inputs(rng, cache, q, 31, 32, 40, 40, 32);
    ok(Call("observe_scores").tensor(out).tensor(q).kv(cache).real(scale).integer(0).run(), "G4");
    const double want[] = {.15555, .2213, .27208, .25966, .24545}, tail[] = {.17655, .18968, .18033, .14941, .09912};
    const auto pooled = [&](int64_t j) {
      double s = 0;
      for (int64_t c = j - 2; c <= j + 2; ++c) s += c >= 0 && c < 32 ? out.get(c) : 0;
      return s / 5;
    };
    for (int j = 0; j < 5; ++j) expect(fabs(pooled(j) - want[j]) < 6e-6 && fabs(pooled(27 + j) - tail[j]) < 6e-6, "G4 column %d: %.5f %.5f", j, pooled(j), pooled(27 + j));
  }
  {  // SnapKV G4c: two kv heads, group mean
    Cache cache(Type::f32, 2, 8, 16);
    cache.kv.heads = 2;
    Tensor q(Type::f32, {8, 4, 8}), out(Type::f32, {2, 40}), kept(Type::i32, {2, 12}), prefix(Type::f32, {2, 32});
    known_inputs(rng, cache, q, 31, 32, 40, 40, 32);
    ok(Call("observe_scores").tensor(out).tensor(q).kv(cache).real(scale).integer(1).run(), "G4c");
    for (int h = 0; h < 2; ++h) {
      for (int j = 0; j < 32; ++j) {
        double s = 0;
        for (int c = j - 2; c <= j + 2; ++c) s += c >= 0 && c < 32 ? out.get(h * 40 + c) : 0;
        prefix.put(h * 32 + j, s / 5);
      }
    }
    const double want[] = {.16751, .24691, .28322, .28435, .25277};
    for (int j = 0; j < 5; ++j) expect(fabs(prefix.get(j) - want[j]) < 6e-6, "G4c column %d: %.5f", j, prefix.get(j));
    ok(Call("topk").tensor(kept).tensor(prefix).integer(12).integer(1).run(), "G4c topk");
    const int set[2][12] = {{1, 2, 3, 4, 5, 9, 10, 12, 13, 14, 15, 16}, {2, 4, 5, 6, 7, 8, 10, 22, 23, 24, 25, 26}};
    bool same = true;
    for (int i = 0; i < 24; ++i) same &= kept.get(i) == set[i / 12][i % 12];
    expect(same, "G4c kept rows");
  }
  {  // H2O G1: column sums of the 24 prompt rows
    Cache cache(Type::f32, 2, 8, 16);
    cache.kv.heads = 2;
    Tensor q(Type::f32, {24, 2, 8}), out(Type::f32, {2, 24});
    known_inputs(rng, cache, q, 1, 2, 32, 24, 0);
    ok(Call("observe_scores").tensor(out).tensor(q).kv(cache).real(scale).integer(0).run(), "G1");
    const double want[] = {5.5011, 2.0518, 2.0924, 1.0504, 1.265, 2.036, .8926, 1.4844, .7132, .7911, .9094, .8148,
                           1.2491, .784,   .3051,  .7291,  .122,  .0778, .4801, .2253,  .2391, .1101, .0518, .0245};
    for (int j = 0; j < 24; ++j) expect(fabs(out.get(j) - want[j]) < 6e-5, "G1 column %d: %.4f", j, out.get(j));
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
