// Every built-in op against scalar fp64 twins: on the CPU at every instruction set level this machine has, or on CUDA.
//
//   ops_test                  all levels, one child process each (the level is decided once per process)
//   ops_test --level          the level of ACCEL_CPU_ISA only
//   ops_test --device cuda    the same cases on the first CUDA device; exit status 77 if there is none
//     --only NAME             tests whose name contains NAME
//     --small                 sizes for compute-sanitizer
//     --stale                 CUDA: the host's row counts are out of date, as in a replayed graph
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
  for (int i = 0; i < (setup.small ? 600 : 20000); ++i) {
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

void check_tally_ops(Random& rng) {
  Cache kv(Type::f32, 2, 16, 4, 2), plain(Type::f32, 2, 16, 4), ragged(Type::f32, 2, 16, 4, 2);
  kv.add({5, 5}, {0, 0}, {0, 0});
  plain.add({5, 5}, {0, 0}, {0, 0});
  ragged.add({5, 4}, {0, 0}, {0, 0});
  for (Cache* cache : {&kv, &plain, &ragged}) {
    cache->build(rng);
    cache->fill(rng, 1);
  }
  Tensor out(Type::f32, {2, 5}), narrow(Type::f32, {2, 4}), three(Type::f32, {3, 5}), sums(Type::f32, {4, 7}), i(Type::i32, {2}), j(Type::i32, {2, 1});
  Tensor q = random_tensor(rng, Type::f32, {1, 4, 16}), lse(Type::f32, {1, 4}), two(Type::f32, {2, 4, 16});
  const auto columns = [&](Tensor& to, int reduce, int accumulate, std::vector<int> ranges) {
    return Call("column_sums").tensor(to).tensor(q).tensor(lse).kv(kv).real(1).integer(reduce).integer(accumulate).ints(ranges).none().integer(0).run();
  };
  refused(columns(narrow, 1, 0, {}), "ERR_ACCEL_SHAPE", "out has 4 columns but kv 5 rows");
  refused(columns(out, 0, 0, {}), "ERR_ACCEL_SHAPE", "out must be [Hs,at least n] = [4, any]");
  refused(columns(out, 2, 1, {}), "ERR_ACCEL_ARGUMENT", "maximum cannot be accumulated");
  refused(columns(out, 1, 2, {}), "ERR_ACCEL_ARGUMENT", "accumulate");
  refused(columns(out, 1, 0, {4, 3}), "ERR_ACCEL_ARGUMENT", "[4, 3)");
  refused(columns(out, 1, 0, {0, 1, 2, 3}), "ERR_ACCEL_SHAPE", "ranges");
  const auto add = [&](Cache& to, Tensor& from, int tally, int reduce) { return Call("tally_add").kv(to).tensor(from).integer(tally).integer(reduce).run(); };
  refused(add(kv, sums, 2, 1), "ERR_ACCEL_ARGUMENT", "tally 2 does not exist: rows of kv have 2");
  refused(add(kv, sums, -1, 1), "ERR_ACCEL_ARGUMENT", "tally -1");
  refused(add(plain, sums, 0, 1), "ERR_ACCEL_ARGUMENT", "rows of kv have 0");
  refused(add(kv, sums, 0, 0), "ERR_ACCEL_ARGUMENT", "reduce");
  refused(add(kv, sums, 0, 5), "ERR_ACCEL_ARGUMENT", "reduce");
  refused(add(kv, three, 0, 1), "ERR_ACCEL_SHAPE", "multiple of kv's 2");
  refused(add(kv, narrow, 0, 1), "ERR_ACCEL_SHAPE", "sums has 4 columns but head 0 of kv 5 rows");
  const auto step = [&](Cache& to, Tensor& query, int tally, int reduce, int accumulate, std::vector<int> ranges) {
    return Call("tally_step").kv(to).tensor(query).tensor(lse).real(1).integer(tally).integer(reduce).integer(accumulate).ints(ranges).integer(0).run();
  };
  refused(step(kv, two, 0, 1, 0, {}), "ERR_ACCEL_SHAPE", "q must be [B,Hq,d] = [1, any, 16]");
  refused(step(plain, q, 0, 1, 0, {}), "ERR_ACCEL_ARGUMENT", "tally 0");
  refused(step(kv, q, 0, 0, 0, {}), "ERR_ACCEL_ARGUMENT", "reduce");
  refused(step(kv, q, 0, 1, 3, {}), "ERR_ACCEL_ARGUMENT", "accumulate");
  refused(step(kv, q, 0, 1, 0, {1}), "ERR_ACCEL_SHAPE", "ranges");
  const auto read = [&](Cache& from, Tensor& to, int first, int last) { return Call("tally_read").tensor(to).kv(from).integer(1).integer(first).integer(last).run(); };
  refused(read(kv, narrow, 0, 0), "ERR_ACCEL_SHAPE", "out must be [Hk,n] = [2, 5]");
  refused(read(ragged, out, 0, 0), "ERR_ACCEL_SHAPE", "head 0 has 5, head 1 has 4");
  refused(read(kv, out, -1, 0), "ERR_ACCEL_ARGUMENT", "first is -1");
  refused(Call("tally_write").kv(kv).tensor(narrow).integer(0).run(), "ERR_ACCEL_SHAPE", "values must be [Hk,n]");
  refused(Call("tally_write").kv(ragged).tensor(out).integer(0).run(), "ERR_ACCEL_SHAPE", "same number of rows");
  refused(Call("kv_remove").kv(kv).tensor(j).integer(0).run(), "ERR_ACCEL_SHAPE", "rows must be [Hk] = [2]");
  refused(Call("kv_remove").kv(kv).tensor(i).integer(-1).run(), "ERR_ACCEL_ARGUMENT", "keep is -1");
  refused(Call("kv_remove").kv(ragged).tensor(i).integer(4).run(), "ERR_ACCEL_ARGUMENT", "no row of head 1 can leave: it has 4");
  refused(Call("take_columns").tensor(out).tensor(out).tensor(j).run(), "ERR_ACCEL_SHAPE", "out must be [H,k] = [2, 1]");
  refused(Call("kv_gather").kv(kv).kv(plain).tensor(j).ints({1, 1}).run(), "ERR_ACCEL_SHAPE", "rows of dst have 2 tallies but those of src 0");
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
  refused(Call("observe_scores").tensor(s).tensor(q).kv(cache).real(1).integer(4).integer(0).run(), "ERR_ACCEL_ARGUMENT", "reduce");
  refused(Call("observe_scores").tensor(s).tensor(q).kv(cache).real(1).integer(1).integer(0).run(), "ERR_ACCEL_SHAPE", "out must be [Hs,n]");
  Tensor k(Type::f32, {2, 2, 16}), table(Type::f32, {2, 8, 2}), long_table(Type::f32, {2, 9, 2});
  const auto append = [&](Tensor& query, Tensor& angles, std::vector<int> lens, int interleaved) {
    return Call("rope_append").tensor(query).tensor(k).tensor(k).kv(cache).tensor(angles).tensor(p).ints(lens).integer(interleaved).run();
  };
  ok(append(q, table, {2}, 0), "rope_append");
  refused(append(q, long_table, {2}, 0), "ERR_ACCEL_SHAPE", "table rotates 18 channels but k has head_dim 16");
  refused(append(wide, table, {2}, 0), "ERR_ACCEL_SHAPE", "q must be [T,Hq,d]");
  refused(append(q, table, {6}, 0), "ERR_ACCEL_ARGUMENT", "reserve");
  refused(append(q, table, {2}, 2), "ERR_ACCEL_ARGUMENT", "interleaved");
  check_tally_ops(rng);
  cache.kv.head_dim = 20;
  refused(run(o, q, {2}, 0, {}), "ERR_ACCEL_SHAPE", "head_dim 20");
}

const struct {
  const char* name;
  void (*run)();
  bool any_address;  // takes tensors that start at any element
} tests[] = {{"cast", test_cast, true},
             {"elementwise", test_elementwise, true},
             {"rope", test_rope, true},
             {"rope_append", test_rope_append, true},
             {"kv", test_kv, true},
             {"kv_remove", test_kv_remove, true},
             {"kv_transfer", test_kv_transfer, true},
             {"linear", test_linear, false},
             {"attention", test_attention, false},
             {"signals", test_signals, false},
             {"known", test_known, false},
             {"column_sums", test_column_sums, false},
             {"tallies", test_tallies, true},
             {"tally_step", test_tally_step, false},
             {"topk", test_topk, false},
             {"take_columns", test_take_columns, true},
             {"sample", test_sample, false},
             {"checks", test_checks, false}};

int run_tests(const char* only, const char* where) {
  for (const auto& t : tests) {
    if (only != nullptr && strstr(t.name, only) == nullptr) continue;
    for (setup.shift = 0; setup.shift <= (setup.cuda && t.any_address ? 1 : 0); ++setup.shift) {
      const int p = passed, f = failed;
      t.run();
      printf("  %-14s %d passed, %d failed%s\n", t.name, passed - p, failed - f, setup.shift ? " (off the boundary)" : "");
    }
  }
  if (passed + failed == 0) {
    printf("no test is called %s\n", only);
    return 2;
  }
  printf("%s: %d passed, %d failed\n", where, passed, failed);
  return failed == 0 ? 0 : 1;
}

int run_level(const char* only) {
  if (accel::cpu::isa_error() != nullptr) {
    printf("skipped: %s\n", accel::cpu::isa_error());
    return 0;
  }
  return run_tests(only, accel::cpu::isa_name(accel::cpu::isa()));
}

int run_all_levels(char** argv) {
  int bad = 0;
  for (const char* level : {"base", "avx2", "avx512", "avx512bf16"}) {
    printf("%s\n", level);
    const pid_t child = fork();
    if (child == 0) {
      setenv("ACCEL_CPU_ISA", level, 1);
      std::vector<char*> arguments(argv, argv + 1);
      char flag[] = "--level";
      arguments.push_back(flag);
      for (char** a = argv + 1; *a != nullptr; ++a) arguments.push_back(*a);
      arguments.push_back(nullptr);
      execv("/proc/self/exe", arguments.data());
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

int run_cuda(const char* only) {
  constexpr int skipped = 77;  // ctest's SKIP_RETURN_CODE
  const std::string reason = no_cuda();
  if (!reason.empty()) {
    printf("skipped: %s\n", reason.c_str());
    return skipped;
  }
  return run_tests(only, cuda_name().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  const char* only = nullptr;
  bool level = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const char* next = i + 1 < argc ? argv[i + 1] : "";
    if (argument == "--level") level = true;
    else if (argument == "--small") setup.small = true;
    else if (argument == "--stale") setup.stale = true;
    else if (argument == "--only" && *next) only = argv[++i];
    else if (argument == "--device" && (strcmp(next, "cpu") == 0 || strcmp(next, "cuda") == 0)) setup.cuda = strcmp(argv[++i], "cuda") == 0;
    else {
      printf("usage: ops_test [--device cpu|cuda] [--only NAME] [--small] [--stale] [--level]\n");
      return 2;
    }
  }
  if (setup.cuda) return run_cuda(only);
  return level ? run_level(only) : run_all_levels(argv);
}
