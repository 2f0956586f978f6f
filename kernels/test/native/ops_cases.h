// What the op tests share: counting, and comparing with a twin.
#ifndef ACCEL_TEST_OPS_CASES_H
#define ACCEL_TEST_OPS_CASES_H

#include "ops_reference.h"

namespace test {

inline int passed = 0, failed = 0;

inline void expect(bool good, const char* format, ...) {
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

inline void ok(const std::string& error, const char* what) { expect(error.empty(), "%s: %s", what, error.c_str()); }

inline void refused(const std::string& error, const char* code, const char* part) {
  expect(error.rfind(code, 0) == 0 && error.find(part) != std::string::npos, "expected %s naming %s, got: %s", code, part, error.c_str());
}

inline const Type activations[] = {Type::f32, Type::bf16, Type::f16};

// Largest difference, as a multiple of `unit` + `rel` * |want| (rel: rounding of the result's dtype).
inline double excess(Tensor& got, const std::vector<double>& want, double unit) {
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

inline std::vector<int> repeat(int n, int value) { return std::vector<int>((size_t)n, value); }

// In ops_cache_cases.cc.
void test_rope();
void test_rope_append();
void test_kv();
void test_kv_remove();
void test_kv_transfer();

// In ops_linear_cases.cc.
void test_linear();

// In ops_select_cases.cc.
void test_topk();
void test_take_columns();
void test_sample();

// In ops_tally_cases.cc.
void test_column_sums();
void test_tallies();
void test_tally_step();

// In ops_attention_cases.cc.
void test_attention();
void test_signals();
void test_known();

}  // namespace test
#endif
