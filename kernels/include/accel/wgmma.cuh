// Warpgroup matrix multiply-accumulate (wgmma, sm_90a): 128 threads multiply a 64 x 16 block by a 16 x N block.
//
// Operands in shared memory are tiles of 128-byte rows (64 elements) in the 128-byte swizzle that TMA writes: groups of
// 8 rows are 1024-byte atoms, aligned to 1024 bytes. A tile wider than 64 elements is several such panels, one after
// the other. Two ways to read a panel:
//   k-major   rows are m or n, the 64 elements are k. Stride offset 1024 (next 8 rows), leading offset unused. The next
//             k16 step is 32 bytes further inside the atom, the hardware unswizzles by address.
//   mn-major  rows are k, the 64 elements are n. Stride offset 1024 (next 8 of k), leading offset = bytes of a panel
//             (next 64 of n). The next k16 step is 2048 bytes further.
// The accumulator of thread t (warp w, lane l): register 4 c + 2 h + e is row 16 w + l / 4 + 8 h, column
// 8 c + 2 (l % 4) + e. Two such column groups, packed to 16-bit pairs, are the A registers of a k16 step.
// wgmma runs behind the program's back: fence, issue, commit, wait, and touch none of its registers in between.
// PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions"; layouts as in CUTLASS's sm90 descriptor notes.
#ifndef ACCEL_WGMMA_CUH
#define ACCEL_WGMMA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "accel/mbarrier.cuh"

namespace accel::cuda {

// A descriptor holds byte counts / 16: adding bytes / 16 to it moves the start address.
__device__ inline uint64_t wgmma_descriptor(uint32_t address, uint32_t leading_bytes, uint32_t stride_bytes) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return kSwizzle128 | uint64_t{stride_bytes >> 4} << 32 | uint64_t{leading_bytes >> 4} << 16 |
         uint64_t{(address & 0x3ffff) >> 4};
}
__device__ inline uint64_t k_major_descriptor(uint32_t address) { return wgmma_descriptor(address, 16, 1024); }
__device__ inline uint64_t mn_major_descriptor(uint32_t address, uint32_t panel_bytes) {
  return wgmma_descriptor(address, panel_bytes, 1024);
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most kPending committed groups run.
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Tells the compiler that registers change here: no use of them moves across.
template <int N>
__device__ inline void pin(float (&registers)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(registers[i]));
}
template <int N>
__device__ inline void pin(uint32_t (&registers)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+r"(registers[i]));
}

// clang-format off
#define ACCEL_F8(r, i) "+f"(r[i]), "+f"(r[i + 1]), "+f"(r[i + 2]), "+f"(r[i + 3]), \
                       "+f"(r[i + 4]), "+f"(r[i + 5]), "+f"(r[i + 6]), "+f"(r[i + 7])
#define ACCEL_F32(r, i) ACCEL_F8(r, i), ACCEL_F8(r, i + 8), ACCEL_F8(r, i + 16), ACCEL_F8(r, i + 24)
#define ACCEL_NEW_F8(r, i) "=f"(r[i]), "=f"(r[i + 1]), "=f"(r[i + 2]), "=f"(r[i + 3]), \
                           "=f"(r[i + 4]), "=f"(r[i + 5]), "=f"(r[i + 6]), "=f"(r[i + 7])
#define ACCEL_NEW_F32(r, i) \
  ACCEL_NEW_F8(r, i), ACCEL_NEW_F8(r, i + 8), ACCEL_NEW_F8(r, i + 16), ACCEL_NEW_F8(r, i + 24)

// d (+)= A B, both k-major in shared memory; the sum starts at zero when `accumulate` is 0.
#define ACCEL_WGMMA_SHARED_128(type)                                                                            \
  asm volatile(                                                                                                 \
      "{\n.reg .pred keep;\nsetp.ne.b32 keep, %66, 0;\n"                                                        \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {"                                         \
      ACCEL_REGISTER_NAMES_64                                                                                   \
      "}, %64, %65, keep, 1, 1, 0, 0;\n}\n"                                                                     \
      : ACCEL_F32(d, 0), ACCEL_F32(d, 32)                                                                       \
      : "l"(a), "l"(b), "r"(accumulate))

// d (+)= A B, A in registers, B k-major in shared memory. d is added to (ACCEL_F32, "1") or new (ACCEL_NEW_F32, "0").
#define ACCEL_WGMMA_K_MAJOR_128(type, out, keep)                                                                \
  asm volatile(                                                                                                 \
      "{\n.reg .pred keep;\nsetp.ne.b32 keep, " keep ", 0;\n"                                                   \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {"                                         \
      ACCEL_REGISTER_NAMES_64                                                                                   \
      "}, {%64, %65, %66, %67}, %68, keep, 1, 1, 0;\n}\n"                                                       \
      : out(d, 0), out(d, 32)                                                                                   \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

// d += A B, A in registers, B mn-major in shared memory.
#define ACCEL_WGMMA_REGISTERS_128(type)                                                                         \
  asm volatile(                                                                                                 \
      "{\n.reg .pred keep;\nsetp.eq.b32 keep, 0, 0;\n"                                                          \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {"                                         \
      ACCEL_REGISTER_NAMES_64                                                                                   \
      "}, {%64, %65, %66, %67}, %68, keep, 1, 1, 1;\n}\n"                                                       \
      : ACCEL_F32(d, 0), ACCEL_F32(d, 32)                                                                       \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
#define ACCEL_WGMMA_REGISTERS_64(type)                                                                          \
  asm volatile(                                                                                                 \
      "{\n.reg .pred keep;\nsetp.eq.b32 keep, 0, 0;\n"                                                          \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {"                                          \
      ACCEL_REGISTER_NAMES_32                                                                                   \
      "}, {%32, %33, %34, %35}, %36, keep, 1, 1, 1;\n}\n"                                                       \
      : ACCEL_F32(d, 0)                                                                                         \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

#define ACCEL_REGISTER_NAMES_32 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define ACCEL_REGISTER_NAMES_64 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
// clang-format on

// 64 x 128 (+)= 64 x 16 times 128 x 16 transposed.
template <class T>
__device__ inline void wgmma_shared(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
  if constexpr (std::is_same_v<T, __half>) {
    ACCEL_WGMMA_SHARED_128("f16");
  } else {
    ACCEL_WGMMA_SHARED_128("bf16");
  }
}

// 64 x 128 (+)= 64 x 16 (four registers a thread) times 128 x 16 transposed. Not kAdd: d is new, what it
// was before is no operand. ptxas then does not take its registers for an accumulator's while they hold something else.
template <class T, bool kAdd>
__device__ inline void wgmma_registers_k_major(float (&d)[64], const uint32_t* a, uint64_t b) {
  if constexpr (std::is_same_v<T, __half>) {
    if constexpr (kAdd) {
      ACCEL_WGMMA_K_MAJOR_128("f16", ACCEL_F32, "1");
    } else {
      ACCEL_WGMMA_K_MAJOR_128("f16", ACCEL_NEW_F32, "0");
    }
  } else {
    if constexpr (kAdd) {
      ACCEL_WGMMA_K_MAJOR_128("bf16", ACCEL_F32, "1");
    } else {
      ACCEL_WGMMA_K_MAJOR_128("bf16", ACCEL_NEW_F32, "0");
    }
  }
}

// 64 x 128 or 64 x 64 += 64 x 16 (four registers a thread) times 16 x N.
template <class T>
__device__ inline void wgmma_registers(float (&d)[64], const uint32_t* a, uint64_t b) {
  if constexpr (std::is_same_v<T, __half>) {
    ACCEL_WGMMA_REGISTERS_128("f16");
  } else {
    ACCEL_WGMMA_REGISTERS_128("bf16");
  }
}
template <class T>
__device__ inline void wgmma_registers(float (&d)[32], const uint32_t* a, uint64_t b) {
  if constexpr (std::is_same_v<T, __half>) {
    ACCEL_WGMMA_REGISTERS_64("f16");
  } else {
    ACCEL_WGMMA_REGISTERS_64("bf16");
  }
}

#undef ACCEL_F8
#undef ACCEL_F32
#undef ACCEL_NEW_F8
#undef ACCEL_NEW_F32
#undef ACCEL_REGISTER_NAMES_32
#undef ACCEL_REGISTER_NAMES_64
#undef ACCEL_WGMMA_SHARED_128
#undef ACCEL_WGMMA_K_MAJOR_128
#undef ACCEL_WGMMA_REGISTERS_128
#undef ACCEL_WGMMA_REGISTERS_64

}  // namespace accel::cuda
#endif
