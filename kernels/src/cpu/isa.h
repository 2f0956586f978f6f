// Which instruction set the CPU kernels use.
//
// Every kernel family `f` is written once in `f.inc.h` and compiled in one translation unit per level
// (`f_base.cc`, `f_avx2.cc`, `f_avx512.cc`, `f_avx512bf16.cc`; the build sets the flags from the suffix). Each unit
// puts its code into a namespace of its own and exports one table of function pointers, so no instruction of a
// higher level can leak into code that runs on a lower one.
#ifndef ACCEL_CPU_ISA_H
#define ACCEL_CPU_ISA_H

namespace accel::cpu {

enum class Isa { base, avx2, avx512, avx512bf16 };

// The best level this machine has, or the one ACCEL_CPU_ISA names. Decided once.
// An unknown or unsupported ACCEL_CPU_ISA makes isa_error() non-null; Device::open reports it.
Isa isa();
const char* isa_error();
const char* isa_name(Isa isa);

}  // namespace accel::cpu
#endif
