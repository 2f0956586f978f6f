// Packs queries and keys for the score product (layouts: xattention_score.cuh). Rows are copied in pieces of 16 bytes,
// or of two where something is not aligned for that; a piece that no token has is zeros. A thread copies a piece; their
// number fits 32 bits (65536 blocks of keys, strides from 4 on), and divisions of 64 bits would take longer than copying.
#ifndef ACCEL_XATTENTION_PACK_CUH
#define ACCEL_XATTENTION_PACK_CUH

#include "accel/cuda.cuh"
#include "xattention.h"

namespace accel_xattention {

constexpr int kPackThreads = 256;

// What is packed: `rows` reduced rows for each of gridDim.y slices, slice y being number y % stride of head y / stride.
struct Pack {
  void* to;  // [heads][stride][rows][row bytes]
  int stride, row_bytes;
  int64_t rows;
  int64_t first;   // token of row 0
  int64_t tokens;  // that there are

  // Queries: [tokens][heads][row bytes].
  const uint8_t* q;
  int heads;
};

// Reduced columns of the cache, tokens in order.
template <class Piece>
__global__ void __launch_bounds__(kPackThreads) pack_keys(const Pack p, const accel::cuda::KvPages pages) {
  const uint32_t pieces = p.row_bytes / sizeof(Piece), slice = blockIdx.y % p.stride;
  const accel_kv_head& head = pages.at(0, blockIdx.y / p.stride);
  Piece* to = static_cast<Piece*>(p.to) + blockIdx.y * p.rows * pieces;
  const uint32_t i = blockIdx.x * kPackThreads + threadIdx.x, row = i / pieces;
  if (row >= p.rows) return;
  const int64_t token = static_cast<int64_t>(row) * p.stride + slice;
  to[i] =
      token < p.tokens ? reinterpret_cast<const Piece*>(pages.key(head, static_cast<int>(token)))[i % pieces] : Piece{};
}

// Reduced rows of the queries, tokens of a row in reversed order.
template <class Piece>
__global__ void __launch_bounds__(kPackThreads) pack_queries(const Pack p) {
  const uint32_t pieces = p.row_bytes / sizeof(Piece), slice = blockIdx.y % p.stride, head = blockIdx.y / p.stride;
  Piece* to = static_cast<Piece*>(p.to) + blockIdx.y * p.rows * pieces;
  const uint32_t i = blockIdx.x * kPackThreads + threadIdx.x, row = i / pieces;
  if (row >= p.rows) return;
  const int64_t token = p.first + static_cast<int64_t>(row) * p.stride + p.stride - 1 - slice;
  to[i] = token < p.tokens ? reinterpret_cast<const Piece*>(p.q + (token * p.heads + head) * p.row_bytes)[i % pieces]
                           : Piece{};
}

inline dim3 pack_grid(const Pack& p, int64_t slices, int piece_bytes) {
  const int64_t blocks = ceil_div(p.rows * (p.row_bytes / piece_bytes), kPackThreads);
  return dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(slices));
}

}  // namespace accel_xattention
#endif
