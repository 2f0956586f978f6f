// attention, observe_scores and column_sums against their twins and against published numbers.
#include "ops_cases.h"

namespace test {
namespace {

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
  // On CUDA the weights of 16-bit values are rounded to their type before the second product (as in FlashAttention), and
  // exp2 and log2 are the hardware's.
  const bool sharp = a.scale_q > 1;
  const double rounded_weights = a.type == Type::bf16 ? 0x1p-8 : a.type == Type::f16 ? 0x1p-11 : sharp ? 6e-5 : 4e-6;
  const double unit = setup.cuda ? rounded_weights : sharp ? 1.5e-5 : 1e-6;
  const double lse_unit = (sharp ? 3e-5 : 2e-6) * (setup.cuda ? 4 : 1);
  const double e = excess(out, want, unit), el = excess(lse, want_lse, lse_unit);
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
    if (setup.cuda) {
      // The keys are split by how many blocks there is work for, so the order of the sums is the batch's.
      const std::vector<double> part(want.begin() + token * heads * a.d, want.begin() + (token + m) * heads * a.d);
      expect(excess(o1, part, unit) < 1.1, "attention of sequence %zu alone: %g", b, excess(o1, part, unit));
    } else {
      expect(memcmp(o1.bytes.data(), out.bytes.data() + token * row, (size_t)(m * row)) == 0, "attention of sequence %zu differs alone", b);
    }
    token += m;
  }
}

}  // namespace

void test_attention() {
  Random rng(5);
  for (const Type t : activations) {
    for (const int d : {8, 24, 64, 72, 80, 96, 128, 256}) {
      if (setup.small && d != 24 && d != 64 && d != 128) continue;
      for (const int g : {1, 2, 3, 5, 8}) {
        if (setup.small && g != 1 && g != 5) continue;
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
  for (int round = 0; round < (setup.small ? 6 : 150); ++round) {
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
  if (setup.small) return;
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
  const double limit = setup.cuda ? 20 : 5;  // exp2 is the hardware's there
  for (int round = 0; round < (setup.small ? 6 : 60); ++round) {
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
    ok(Call("observe_scores").tensor(out).tensor(q).kv(cache).real(scale).integer(reduce).integer(0).run(), "observe_scores");
    ok(Call("observe_scores", 1).tensor(again).tensor(q).kv(cache).real(scale).integer(reduce).integer(0).run(), "observe_scores");
    expect(out.bytes == again.bytes, "observe_scores differs with the number of threads");
    const auto want = reference_columns(q, cache, scale, reduce);
    expect(excess(out, want, 3e-6) < limit, "observe_scores %s m=%d n=%d g=%d reduce=%d: %g", type_name(t), m, n, g, reduce, excess(out, want, 3e-6));
    Tensor o(t, {m, heads * g, d}), lse(Type::f32, {m, heads * g});
    ok(Call("attention").tensor(o).tensor(lse).tensor(q).kv(cache).ints({m}).real(scale).integer(1).integer(0).ints({}).run(), "attention");
    ok(Call("column_sums").tensor(sums).tensor(q).tensor(lse).kv(cache).real(scale).integer(reduce).integer(0).ints({}).none().integer(0).run(), "column_sums");
    expect(excess(sums, want, 3e-6) < limit, "column_sums %s m=%d n=%d g=%d reduce=%d: %g", type_name(t), m, n, g, reduce, excess(sums, want, 3e-6));
  }
  if (setup.small) return;
  // More rows than one flush of the fp32 sums.
  Cache cache(Type::f32, 1, 8, 16);
  cache.add({1200}, {0}, {0});
  cache.build(rng);
  cache.fill(rng, 1);
  Tensor q = random_tensor(rng, Type::f32, {1200, 2, 8}, 3), out(Type::f32, {1, 1200});
  ok(Call("observe_scores").tensor(out).tensor(q).kv(cache).real(0.35).integer(2).integer(0).run(), "observe_scores");
  const auto want = reference_columns(q, cache, 0.35, 2);
  expect(excess(out, want, 3e-6) < 2 * limit, "observe_scores over 1200 queries: %g", excess(out, want, 3e-6));
}

namespace {

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

}  // namespace

void test_known() {
  Random rng(7);
  const double scale = 1 / sqrt(8);
  expect(generated(0, 1) == 0.1467951536178589 && generated(999, 1) == -0.35192012786865234, "generator");
  {  // SnapKV G4: 4 heads, T = 40, W = 8, average pooling over 5
    Cache cache(Type::f32, 4, 8, 16);
    cache.kv.heads = 4;
    Tensor q(Type::f32, {8, 4, 8}), out(Type::f32, {4, 40});
    known_inputs(rng, cache, q, 31, 32, 40, 40, 32);
    ok(Call("observe_scores").tensor(out).tensor(q).kv(cache).real(scale).integer(0).integer(0).run(), "G4");
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
    ok(Call("observe_scores").tensor(out).tensor(q).kv(cache).real(scale).integer(1).integer(0).run(), "G4c");
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
    ok(Call("observe_scores").tensor(out).tensor(q).kv(cache).real(scale).integer(0).integer(0).run(), "G1");
    const double want[] = {5.5011, 2.0518, 2.0924, 1.0504, 1.265, 2.036, .8926, 1.4844, .7132, .7911, .9094, .8148,
                           1.2491, .784,   .3051,  .7291,  .122,  .0778, .4801, .2253,  .2391, .1101, .0518, .0245};
    for (int j = 0; j < 24; ++j) expect(fabs(out.get(j) - want[j]) < 6e-5, "G1 column %d: %.4f", j, out.get(j));
  }
}

}  // namespace test
