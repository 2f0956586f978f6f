// Warp-level building blocks for sm_80 and up: asynchronous copies to shared memory, ldmatrix, mma.sync m16n8k16.
//
// Fragments of m16n8k16 (16-bit A and B, fp32 C); lane l, g = l / 4, t = l % 4 (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
//   A[16 x 16]  a[0]: row g,     columns 2t, 2t+1     a[1]: row g + 8, columns 2t, 2t+1
//               a[2]: row g,     columns 2t+8, 2t+9   a[3]: row g + 8, columns 2t+8, 2t+9
//   B[16 x 8]   b0:   rows 2t, 2t+1, column g         b1:   rows 2t+8, 2t+9, column g
//   C[16 x 8]   c[0], c[1]: row g, columns 2t, 2t+1   c[2], c[3]: row g + 8, columns 2t, 2t+1
// So two adjacent C tiles, rounded in pairs, are an A fragment: {c0[0:2], c0[2:4], c1[0:2], c1[2:4]}.
//
// ldmatrix x4 loads four 8 x 8 matrices of 16-bit elements. Lanes 8i .. 8i+7 give the addresses of the eight 16-byte
// rows of matrix i; lane l receives in r[i] the elements 2t, 2t+1 of row g (.trans: of column g). Hence
//   A from row-major memory [16 x 16]:       address of row l % 16, chunk l / 16                      -> a[0..3]
//   B (two column tiles) from K[16 keys x 16 channels], S = Q K^T: row (l % 8) + (l / 16) * 8, chunk (l / 8) % 2
//     -> r[0], r[1] = B of keys 0..7, r[2], r[3] = B of keys 8..15
//   B (two column tiles) from V[16 keys x 16 channels], O = P V, .trans: row l % 16, chunk l / 16
//     -> r[0], r[1] = B of channels 0..7, r[2], r[3] = B of channels 8..15
// A chunk is 16 bytes, 8 elements. `swizzle` spreads the rows of a tile over the banks.
#ifndef ACCEL_MMA_CUH
#define ACCEL_MMA_CUH

#include <stdint.h>

#include "accel/cuda.cuh"

namespace accel::cuda {

// The 32-bit shared-window address that the instructions below take.
__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Byte offset of a 16-byte chunk in a tile of rows of `row_chunks` chunks (a multiple of 8): eight consecutive rows
// at one logical chunk fall into eight different 16-byte bank groups.
template <int row_chunks>
__device__ inline uint32_t swizzle(int row, int chunk) {
  static_assert(row_chunks % 8 == 0, "rows of 128 bytes or a multiple");
  return static_cast<uint32_t>((row * row_chunks + (chunk ^ (row & 7))) * 16);
}

// ---- cp.async

// Copies 16 bytes past L1; writes zeros instead, and reads nothing, if not valid. Both addresses 16-byte aligned.
__device__ inline void cp_async16(uint32_t shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `pending` of this thread's groups are in flight. A barrier must follow before other threads read.
template <int pending>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// ---- ldmatrix

__device__ inline void ldmatrix_x4(uint32_t (&r)[4], uint32_t shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared)
               : "memory");
}
__device__ inline void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared)
               : "memory");
}
__device__ inline void ldmatrix_x2(uint32_t (&r)[2], uint32_t shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared)
               : "memory");
}

// ---- mma.sync: c += a b. Element type T: __nv_bfloat16 or __half.

template <class T>
__device__ inline void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <>
__device__ inline void mma_m16n8k16<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ inline void mma_m16n8k16<__half>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two floats rounded to T, `low` in the low half: a pair of adjacent elements of a fragment.
template <class T>
__device__ inline uint32_t pack_pair(float low, float high);
template <>
__device__ inline uint32_t pack_pair<__nv_bfloat16>(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
template <>
__device__ inline uint32_t pack_pair<__half>(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// ---- small arithmetic of softmax loops

// 2^x on the special function unit; -inf gives 0, +inf gives +inf.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Over the four lanes that share the rows of a C fragment.
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

}  // namespace accel::cuda
#endif
