#include "isa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace accel::cpu {
namespace {

constexpr Isa kLevels[] = {Isa::base, Isa::avx2, Isa::avx512, Isa::avx512bf16};

// The levels are ordered: a machine that has one has all below it. `__builtin_cpu_supports` also checks that the
// operating system saves the wide registers.
bool supported(Isa level) {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
  if (level == Isa::base) return true;
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))) return false;
  if (level == Isa::avx2) return true;
  if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")))
    return false;
  if (level == Isa::avx512) return true;
  return __builtin_cpu_supports("avx512bf16");
#else
  return level == Isa::base;
#endif
}

struct Choice {
  Isa level = Isa::base;
  char error[256] = {};
};

Choice choose() {
  Choice choice;
  Isa best = Isa::base;
  for (Isa level : kLevels)
    if (supported(level)) best = level;
  choice.level = best;
  const char* wanted = getenv("ACCEL_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return choice;
  for (Isa level : kLevels) {
    if (strcmp(wanted, isa_name(level)) != 0) continue;
    if (supported(level)) {
      choice.level = level;
    } else {
      snprintf(choice.error, sizeof choice.error,
               "ACCEL_CPU_ISA=%s: this machine does not have that instruction set; the best it has is %s. "
               "Unset ACCEL_CPU_ISA to use it.",
               wanted, isa_name(best));
    }
    return choice;
  }
  snprintf(choice.error, sizeof choice.error,
           "ACCEL_CPU_ISA=%.64s is not an instruction set level; use base, avx2, avx512 or avx512bf16, or unset it.",
           wanted);
  return choice;
}

const Choice& chosen() {
  static const Choice choice = choose();
  return choice;
}

}  // namespace

Isa isa() { return chosen().level; }

const char* isa_error() { return chosen().error[0] != '\0' ? chosen().error : nullptr; }

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::base: return "base";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::avx512bf16: return "avx512bf16";
  }
  return "unknown";
}

}  // namespace accel::cpu
