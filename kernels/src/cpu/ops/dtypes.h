// Element types of the CPU ops and their storage formats. No code of a particular instruction set here.
#ifndef ACCEL_CPU_OPS_DTYPES_H
#define ACCEL_CPU_OPS_DTYPES_H

#include <stdint.h>
#include <string.h>

#include "accel/tensor.h"

namespace accel::cpu {

enum class Type : uint8_t { f32, bf16, f16, f64, i32, u8, other };

// 16-bit storage. Arithmetic is always fp32; these only load and store.
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

constexpr Type type_of(accel_dtype dtype) {
  switch (dtype.code * 256 + dtype.bits) {
    case ACCEL_FLOAT * 256 + 32: return Type::f32;
    case ACCEL_FLOAT * 256 + 16: return Type::f16;
    case ACCEL_FLOAT * 256 + 64: return Type::f64;
    case ACCEL_BFLOAT * 256 + 16: return Type::bf16;
    case ACCEL_INT * 256 + 32: return Type::i32;
    case ACCEL_UINT * 256 + 8: return Type::u8;
    default: return Type::other;
  }
}

constexpr int type_bytes(Type type) {
  switch (type) {
    case Type::f64: return 8;
    case Type::f32:
    case Type::i32: return 4;
    case Type::bf16:
    case Type::f16: return 2;
    default: return 1;
  }
}

constexpr const char* type_name(Type type) {
  switch (type) {
    case Type::f32: return "float32";
    case Type::bf16: return "bfloat16";
    case Type::f16: return "float16";
    case Type::f64: return "float64";
    case Type::i32: return "int32";
    case Type::u8: return "uint8";
    default: return "unsupported";
  }
}

constexpr bool is_activation(Type type) {
  return type == Type::f32 || type == Type::bf16 || type == Type::f16;
}

}  // namespace accel::cpu
#endif
