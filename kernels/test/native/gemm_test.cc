// Compares `linear` at every instruction set this machine has with a double-precision reference.
//   gemm_test [cases] [seed]
#include <math.h>
#include <string.h>

#include <limits>
#include <random>

#include "../../src/cpu/builtin.h"
#include "../../src/cpu/gemm/gemm.h"
#include "host.h"

using namespace accel::cpu;
using accel::test::arg;
using accel::test::Host;
using accel::test::View;

namespace {

int passed = 0, failed = 0;

void expect(bool ok, const std::string& what) {
  (ok ? passed : failed)++;
  if (!ok && failed <= 40) printf("FAIL %s\n", what.c_str());
}

const accel_dtype kTypes[] = {{ACCEL_FLOAT, 32, 1}, {ACCEL_BFLOAT, 16, 1}, {ACCEL_FLOAT, 16, 1}};
const char* const kTypeNames[] = {"f32", "bf16", "f16"};

// Independent of the kernels' conversions: by way of double arithmetic.
double decode(int type, const uint8_t* p) {
  if (type == 0) {
    float f;
    memcpy(&f, p, 4);
    return f;
  }
  uint16_t h;
  memcpy(&h, p, 2);
  const int exponent_bits = type == 1 ? 8 : 5, fraction_bits = 15 - exponent_bits;
  const int exponent = (h >> fraction_bits) & ((1 << exponent_bits) - 1), fraction = h & ((1 << fraction_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  double v;
  if (exponent == (1 << exponent_bits) - 1) v = fraction ? NAN : INFINITY;
  else if (exponent == 0) v = ldexp(fraction, 1 - bias - fraction_bits);
  else v = ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
  return h & 0x8000 ? -v : v;
}
// Round to nearest even; for finite values in the normal range.
void encode(int type, double v, uint8_t* p) {
  if (type == 0) {
    const float f = float(v);
    memcpy(p, &f, 4);
    return;
  }
  const int exponent_bits = type == 1 ? 8 : 5, fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  uint16_t h = signbit(v) ? 0x8000 : 0;
  const int all_ones = ((1 << exponent_bits) - 1) << fraction_bits;
  if (isnan(v)) h |= all_ones | 1 << (fraction_bits - 1);
  else if (isinf(v)) h |= all_ones;
  else if (v != 0) {
    int e;
    frexp(v, &e);
    e = e - 1 < 1 - bias ? 1 - bias : e - 1;
    const long steps = lrint(ldexp(fabs(v), fraction_bits - e));   // includes the hidden bit when normal
    h |= uint16_t(steps + (long(e + bias - 1) << fraction_bits));
  }
  memcpy(p, &h, 2);
}
double unit_roundoff(int type) { return type == 0 ? 0x1p-24 : type == 1 ? 0x1p-8 : 0x1p-11; }

struct Buffer {
  int type;
  std::vector<uint8_t> bytes;
  Buffer(int t, int64_t count) : type(t), bytes(size_t(count) * (t == 0 ? 4 : 2) + 64, 0xff) {}  // 0xff: NaN all over
  size_t size() const { return type == 0 ? 4 : 2; }
  double get(int64_t i) const { return decode(type, &bytes[size_t(i) * size()]); }
  std::vector<double> all(int64_t count) const {
    std::vector<double> values(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) values[size_t(i)] = get(i);
    return values;
  }
  void set(int64_t i, double v) { encode(type, v, &bytes[size_t(i) * size()]); }
};

struct Case {
  int64_t m, n, k;
  int in, out;
  bool bias, accumulate;
  LinearPath path;
  Isa isa;
  std::string name() const {
    char text[160];
    const char* p = path == LinearPath::gemm ? "gemm" : path == LinearPath::dot ? "dot" : "auto";
    snprintf(text, sizeof text, "%s %s M=%ld N=%ld K=%ld %s->%s bias=%d acc=%d", isa_name(isa), p, long(m), long(n), long(k),
             kTypeNames[in], kTypeNames[out], bias, accumulate);
    return text;
  }
};

struct Data {
  Buffer x, w, bias, old;
  Data(const Case& c, std::mt19937_64& rng)
      : x(c.in, c.m * c.k), w(c.in, c.n * c.k), bias(c.in, c.n), old(c.out, c.m * c.n) {
    std::normal_distribution<double> normal;
    for (int64_t i = 0; i < c.m * c.k; ++i) x.set(i, normal(rng));
    for (int64_t i = 0; i < c.n * c.k; ++i) w.set(i, normal(rng));
    for (int64_t i = 0; i < c.n; ++i) bias.set(i, normal(rng));
    if (c.accumulate)
      for (int64_t i = 0; i < c.m * c.n; ++i) old.set(i, normal(rng));
  }
};

bool run(Host& host, const Case& c, Data& d, Buffer& out, int64_t first_row, int64_t rows) {
  out.bytes = d.old.bytes;
  View to(&out.bytes[size_t(first_row * c.n) * out.size()], kTypes[c.out], rows, c.n);
  View x(&d.x.bytes[size_t(first_row * c.k) * d.x.size()], kTypes[c.in], rows, c.k);
  View w(d.w.bytes.data(), kTypes[c.in], c.n, c.k), bias(d.bias.bytes.data(), kTypes[c.in], c.n);
  const accel_arg args[] = {arg(&to.tensor), arg(&x.tensor), arg(&w.tensor), arg(c.bias ? &bias.tensor : nullptr),
                            arg(int64_t(c.accumulate))};
  return host.run(args, 5, check_linear,
                  [&](const accel_call* call) { return run_linear(call, *linear_kernels(c.isa), c.path); });
}

// |error| <= rounding of the output, of the product before the old value is added (finish.inc.h), and (K + 2) fp32
// roundings of the sum of magnitudes.
bool close(const Case& c, const Data& d, const Buffer& out, std::string* where) {
  const std::vector<double> x = d.x.all(c.m * c.k), w = d.w.all(c.n * c.k);
  for (int64_t i = 0; i < c.m; ++i)
    for (int64_t j = 0; j < c.n; ++j) {
      double sum = 0, size = 0;
      for (int64_t k = 0; k < c.k; ++k) {
        const double t = x[size_t(i * c.k + k)] * w[size_t(j * c.k + k)];
        sum += t;
        size += fabs(t);
      }
      if (c.bias) sum += d.bias.get(j), size += fabs(d.bias.get(j));
      const double product = c.accumulate ? fabs(sum) : 0;
      if (c.accumulate) sum += d.old.get(i * c.n + j), size += fabs(d.old.get(i * c.n + j));
      const double got = out.get(i * c.n + j);
      // Below the normal range an fp16 is a multiple of 2^-24.
      const double smallest = c.out == 2 ? 0x1p-25 : 1e-30;
      const double bound = unit_roundoff(c.out) * (fabs(sum) + product) * 1.01 + 0x1p-24 * size * (2 + 0.25 * double(c.k)) + smallest;
      if (!(fabs(got - sum) <= bound)) {
        char text[128];
        snprintf(text, sizeof text, " at [%ld,%ld]: %.9g, expected %.9g (bound %.2g)", long(i), long(j), got, sum, bound);
        *where = text;
        return false;
      }
    }
  for (size_t i = out.bytes.size() - 64; i < out.bytes.size(); ++i)
    if (out.bytes[i] != 0xff) {
      *where = ": wrote behind the output";
      return false;
    }
  return true;
}

void test_case(Host& one, Host& many, const Case& c, std::mt19937_64& rng) {
  Data d(c, rng);
  Buffer out(c.out, c.m * c.n), again(c.out, c.m * c.n);
  if (!run(many, c, d, out, 0, c.m)) return expect(false, c.name() + " " + many.error);
  std::string where;
  const bool right = close(c, d, out, &where);
  expect(right, c.name() + where);
  run(one, c, d, again, 0, c.m);
  expect(out.bytes == again.bytes, c.name() + ": the result depends on the number of threads");
  // The last row alone, by the same path, is bit-identical to the row in the batch.
  Case alone = c;
  if (alone.path == LinearPath::automatic)
    alone.path = many.kernel.find(".dot.") != std::string::npos ? LinearPath::dot : LinearPath::gemm;
  run(one, alone, d, again, c.m - 1, 1);
  const size_t row = size_t(c.n) * out.size(), at = size_t(c.m - 1) * row;
  expect(memcmp(&out.bytes[at], &again.bytes[at], row) == 0, c.name() + ": a row of the batch differs from the row alone");
}

void test_specials(Host& host, Isa isa) {
  for (int type = 0; type < 3; ++type)
    for (LinearPath path : {LinearPath::gemm, LinearPath::dot}) {
      Case c{3, 21, 77, type, type, false, false, path, isa};
      std::mt19937_64 rng(5);
      Data d(c, rng);
      d.x.set(0 * c.k + 76, INFINITY);
      d.x.set(1 * c.k + 3, NAN);
      d.w.set(20 * c.k + 76, 0.0);            // inf * 0
      Buffer out(type, c.m * c.n);
      run(host, c, d, out, 0, c.m);
      bool ok = isnan(out.get(20));
      for (int j = 0; j < 20; ++j) ok = ok && isinf(out.get(j)) && (out.get(j) > 0) == (d.w.get(j * c.k + 76) > 0);
      for (int j = 0; j < 21; ++j) ok = ok && isnan(out.get(c.n + j)) && isfinite(out.get(2 * c.n + j));
      expect(ok, c.name() + ": NaN or infinity does not propagate as IEEE says, or leaks into another row");
    }
  // Every bf16 and fp16 value survives x * 1 (subnormals aside on vdpbf16ps, which flushes them).
  for (int type = 1; type < 3; ++type)
    for (LinearPath path : {LinearPath::gemm, LinearPath::dot}) {
      Buffer out(type, 65536);
      Case row{1, 65536, 1, type, type, false, false, path, isa};
      std::mt19937_64 rng(1);
      Case small{1, 1, 1, type, type, false, false, path, isa};
      Data d(small, rng);
      d.x.set(0, 1.0);
      d.w.bytes.resize(65536 * 2 + 64);
      for (int v = 0; v < 65536; ++v) memcpy(&d.w.bytes[size_t(v) * 2], &v, 2);
      d.old.bytes.assign(65536 * 2 + 64, 0xff);
      run(host, row, d, out, 0, 1);
      int wrong = 0;
      for (int v = 0; v < 65536; ++v) {
        const double want = d.w.get(v), got = out.get(v);
        const bool flushed = isa == Isa::avx512bf16 && type == 1 && fabs(want) < 0x1p-126;
        if (!(want == got || (isnan(want) && isnan(got)) || (flushed && got == 0))) ++wrong;
      }
      expect(wrong == 0, row.name() + ": " + std::to_string(wrong) + " values change when multiplied by one");
    }
}

void test_rounding(Host& host, Isa isa) {
  // f32 sums that fall between two 16-bit values: out = x * w with products that need rounding, against encode().
  for (int type = 1; type < 3; ++type) {
    std::mt19937_64 rng(11);
    Case c{8, 4096, 1, type, type, false, false, LinearPath::automatic, isa};
    Data d(c, rng);
    std::uniform_int_distribution<int> exponent(-13, 0);
    for (int64_t i = 0; i < c.n; ++i) d.w.set(i, d.w.get(i) * ldexp(1, exponent(rng)));
    Buffer out(type, c.m * c.n);
    run(host, c, d, out, 0, c.m);
    int wrong = 0;
    for (int64_t i = 0; i < c.m; ++i)
      for (int64_t j = 0; j < c.n; ++j) {
        uint8_t want[2];
        encode(type, d.x.get(i) * d.w.get(j), want);   // the product is exact in fp32
        wrong += memcmp(want, &out.bytes[size_t(i * c.n + j) * 2], 2) != 0;
      }
    expect(wrong == 0, c.name() + ": " + std::to_string(wrong) + " results are not rounded to nearest even");
  }
}

void test_checks(Host& host) {
  float data[64] = {};
  View x(data, kTypes[0], 2, 8), w(data, kTypes[0], 3, 8), out(data, kTypes[0], 2, 3), bias(data, kTypes[0], 3);
  View bad_w(data, kTypes[0], 3, 7), half_w(data, kTypes[1], 3, 8), bad_out(data, kTypes[0], 3, 2), bad_bias(data, kTypes[0], 2);
  View integers(data, {ACCEL_INT, 32, 1}, 2, 8), half_out(data, kTypes[2], 2, 3);
  auto code = [&](const View& o, const View& a, const View& b, const View* c) {
    const accel_arg args[] = {arg(&o.tensor), arg(&a.tensor), arg(&b.tensor), arg(c ? &c->tensor : nullptr), arg(int64_t(0))};
    host.run(args, 5, check_linear, [](const accel_call*) { return ACCEL_OK; });
    return host.error.substr(0, host.error.find(':'));
  };
  expect(code(out, x, w, &bias) == "", "valid arguments are accepted: " + host.error);
  expect(code(out, x, bad_w, nullptr) == "ERR_ACCEL_SHAPE", "K mismatch");
  expect(code(bad_out, x, w, nullptr) == "ERR_ACCEL_SHAPE", "out shape");
  expect(code(out, x, w, &bad_bias) == "ERR_ACCEL_SHAPE", "bias shape");
  expect(code(out, x, half_w, nullptr) == "ERR_ACCEL_DTYPE", "weight dtype");
  expect(code(out, integers, w, nullptr) == "ERR_ACCEL_DTYPE", "integer x");
  expect(code(half_out, x, w, nullptr) == "ERR_ACCEL_DTYPE", "narrower out");
  expect(code(bias, x, w, nullptr) == "ERR_ACCEL_SHAPE", "1-d out");
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? atoi(argv[1]) : 120;
  const uint64_t seed = argc > 2 ? strtoull(argv[2], nullptr, 10) : 1;
  if (isa_error() != nullptr) return fprintf(stderr, "%s\n", isa_error()), 2;
  Host one(1), many(5);
  test_checks(one);
  for (int level = 0; level <= int(isa()); ++level) {
    const Isa isa = Isa(level);
    const int before = failed;
    std::mt19937_64 rng(seed);
    auto pick = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng); };
    const LinearPath paths[] = {LinearPath::automatic, LinearPath::gemm, LinearPath::dot};
    // Every M up to 33 and the sizes around tile edges.
    for (int64_t m = 1; m <= 33; ++m) {
      const int in = int(m % 3);
      test_case(one, many, {m, 35, 67, in, in, m % 2 == 0, m % 4 == 1, LinearPath::automatic, isa}, rng);
    }
    const int64_t sizes[][3] = {{1, 1, 1},    {1, 64, 256}, {2, 1, 300},   {5, 33, 1},    {33, 1, 1},   {97, 129, 257},
                                {7, 31, 513}, {13, 32, 31}, {200, 17, 65}, {48, 40, 1100}, {3, 200, 16}, {12, 32, 512}};
    for (const auto& s : sizes)
      for (int in = 0; in < 3; ++in)
        for (LinearPath path : paths)
          for (int flags = 0; flags < 4; ++flags)
            test_case(one, many, {s[0], s[1], s[2], in, flags == 3 ? 0 : in, (flags & 1) != 0, (flags & 2) != 0, path, isa}, rng);
    for (int i = 0; i < cases; ++i) {
      const int in = int(pick(0, 2));
      test_case(one, many,
                {pick(1, 150), pick(1, 150), pick(1, pick(0, 4) ? 200 : 1300), in, pick(0, 1) ? in : 0, pick(0, 1) != 0,
                 pick(0, 1) != 0, paths[pick(0, 2)], isa},
                rng);
    }
    test_specials(one, isa);
    test_rounding(one, isa);
    printf("%-11s %s\n", isa_name(isa), failed == before ? "ok" : "FAILED");
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
