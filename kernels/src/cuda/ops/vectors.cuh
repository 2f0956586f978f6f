// Elements moved together: a Pack<T, N> is one load or store of N * sizeof(T) bytes (16 at most in one instruction).
// Kernels are compiled for 16 bytes and for one element; the host picks by the addresses and sizes at hand, since a
// tensor may be a view that starts anywhere.
#ifndef ACCEL_CUDA_OPS_VECTORS_CUH
#define ACCEL_CUDA_OPS_VECTORS_CUH

#include <initializer_list>
#include <type_traits>

#include "accel/cuda.cuh"

namespace accel::cuda {

constexpr int pack_alignment(int bytes) { return bytes < 16 ? bytes : 16; }

template <class T, int N>
struct alignas(pack_alignment(N * static_cast<int>(sizeof(T)))) Pack {
  T v[N];
};

template <int N, class T>
__device__ inline Pack<T, N> load_pack(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}
template <int N, class T>
__device__ inline void store_pack(T* p, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(p) = pack;
}

// All addresses and byte counts are multiples of `bytes`.
inline bool aligned(std::initializer_list<const void*> addresses, std::initializer_list<int64_t> counts, int bytes) {
  uintptr_t bits = 0;
  for (const void* p : addresses) bits |= reinterpret_cast<uintptr_t>(p);
  for (const int64_t n : counts) bits |= static_cast<uintptr_t>(n);
  return bits % static_cast<uintptr_t>(bytes) == 0;
}

// Calls f(std::integral_constant<int, N>) with the pack size for T: 16 bytes if `wide`, else one element.
template <class T, class F>
inline int with_pack(bool wide, F&& f) {
  if (wide) return f(std::integral_constant<int, 16 / static_cast<int>(sizeof(T))>());
  return f(std::integral_constant<int, 1>());
}

// Calls f with a null pointer to the widest word that row copies may use; Least is what the row's elements guarantee.
template <class Least, class F>
inline int with_word(std::initializer_list<const void*> addresses, std::initializer_list<int64_t> counts, F&& f) {
  if (aligned(addresses, counts, 16)) return f(static_cast<uint4*>(nullptr));
  if (aligned(addresses, counts, 4)) return f(static_cast<uint32_t*>(nullptr));
  if (sizeof(Least) == 2 || aligned(addresses, counts, 2)) return f(static_cast<uint16_t*>(nullptr));
  if constexpr (sizeof(Least) == 1) return f(static_cast<uint8_t*>(nullptr));
  return ACCEL_FAILED;  // not reached
}

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Threads of a block that has `items` things to do: whole warps, `most` at most.
inline int block_for(int64_t items, int most) {
  const int64_t threads = divide_up(items, 32) * 32;
  return static_cast<int>(threads < 32 ? 32 : threads < most ? threads : most);
}

// Blocks of a grid-stride loop: enough for every thread to do one item, a few waves at most.
inline int grid_for(const accel_call* call, int64_t items, int block) {
  const int64_t most = static_cast<int64_t>(call->multiprocessors) * (2048 / block) * 4;
  const int64_t blocks = divide_up(items, block);
  return static_cast<int>(blocks < most ? blocks : most);
}

inline const accel_tensor* tensor(const accel_call* call, int i) { return call->args[i].tensor; }
inline int64_t dim(const accel_call* call, int i, int axis) { return call->args[i].tensor->shape[axis]; }

}  // namespace accel::cuda
#endif
