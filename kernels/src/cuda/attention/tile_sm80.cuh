// Tiles of a cache head and of queries in shared memory, for kernels built from cp.async and mma.sync (sm_80 and up).
//
// A tile is rows x head_dim elements of 16 bits, row after row, its 16-byte chunks swizzled (accel/mma.cuh). Cache rows
// come straight from their pages, whatever the page size: each thread finds the address of one row of the next step
// while the current one is computed, and leaves it in shared memory for the threads that copy.
//
// The product of a step is 32 rows a warp by 64 columns: two 16-row fragments share every B fragment, which halves the
// shared memory traffic that bounds mma.sync on Hopper (16 rows a warp would need more than 128 bytes a clock).
#ifndef ACCEL_CUDA_TILE_SM80_CUH
#define ACCEL_CUDA_TILE_SM80_CUH

#include "accel/mma.cuh"

namespace accel::cuda {

constexpr int sm80_threads = 128;        // 4 warps
constexpr int sm80_rows = 128;           // A rows of a block, 32 a warp
constexpr int sm80_step = 64;            // B rows of a step

template <int D>
constexpr int tile_bytes(int rows) {
  return rows * D * 2;
}

// Where a cache row is: found early (one dependent load), turned into an address late.
struct RowPlace {
  int page;
  int row;                               // in the page
};
__device__ inline RowPlace row_place(const KvPages& pages, const accel_kv_head& head, const int32_t* list, int row) {
  const int slot = KvPages::slot(head, row), page = slot / pages.rows_per_page;
  return {list[page], slot - page * pages.rows_per_page};
}
__device__ inline const uint8_t* row_address(const KvPages& pages, const RowPlace& place) {
  return pages.base + place.page * pages.page_bytes + place.row * static_cast<int64_t>(pages.row_bytes);
}

// Copies `rows` rows whose addresses lie in shared memory; rows from `valid` on become zeros. All threads take part.
template <int D, int rows>
__device__ inline void copy_cache_rows(uint32_t tile, const uint8_t* const* address, int valid) {
  constexpr int chunks = D / 8;
  const int chunk = threadIdx.x % chunks;
#pragma unroll
  for (int i = 0; i < rows * chunks / sm80_threads; i++) {
    const int row = threadIdx.x / chunks + i * (sm80_threads / chunks);
    cp_async16(tile + swizzle<chunks>(row, chunk), address[row] + chunk * 16, row < valid);
  }
}

// The same for rows `stride` bytes apart. Rows from `padded` on are left as they are.
template <int D, int rows>
__device__ inline void copy_strided_rows(uint32_t tile, const uint8_t* from, int64_t stride, int valid,
                                         int padded = rows) {
  constexpr int chunks = D / 8;
  const int chunk = threadIdx.x % chunks;
#pragma unroll
  for (int i = 0; i < rows * chunks / sm80_threads; i++) {
    const int row = threadIdx.x / chunks + i * (sm80_threads / chunks);
    if (row >= padded) break;
    // A row that is not there keeps an address that is.
    cp_async16(tile + swizzle<chunks>(row, chunk), from + (row < valid ? row * stride : 0) + chunk * 16, row < valid);
  }
}

// This lane's ldmatrix addresses in a tile. Later rows are an offset away; later channels, because of the swizzle and
// because rows are aligned to their size, an exclusive or: chunk c + 2 of a row is at address ^ 32.
template <int D>
__device__ inline uint32_t lane_a(uint32_t tile, int first_row) {           // A operand, 16 rows x 16 channels
  const int lane = threadIdx.x % 32;
  return tile + swizzle<D / 8>(first_row + lane % 16, lane / 16);
}
template <int D>
__device__ inline uint32_t lane_b(uint32_t tile) {                          // B operand of A B^T, 16 rows x 16 channels
  const int lane = threadIdx.x % 32;
  return tile + swizzle<D / 8>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
}
template <int D>
__device__ inline uint32_t lane_b_trans(uint32_t tile) {                    // B operand of P V: same shape as A
  return lane_a<D>(tile, 0);
}

// s[32 x 64] = A[32 rows of this warp] B[64 rows]^T over D channels.
template <class T, int D>
__device__ inline void multiply_abt(float (&s)[2][8][4], uint32_t a_tile, uint32_t b_tile) {
#pragma unroll
  for (int m = 0; m < 2; m++) {
#pragma unroll
    for (int n = 0; n < 8; n++) s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0.0f;
  }
  const uint32_t a_lane = lane_a<D>(a_tile, threadIdx.x / 32 * 32), b_lane = lane_b<D>(b_tile);
#pragma unroll
  for (int k = 0; k < D / 16; k++) {
    uint32_t a[2][4];
    ldmatrix_x4(a[0], a_lane ^ (k * 32));
    ldmatrix_x4(a[1], (a_lane ^ (k * 32)) + 16 * D * 2);
#pragma unroll
    for (int n = 0; n < 4; n++) {
      uint32_t b[4];
      ldmatrix_x4(b, (b_lane ^ (k * 32)) + n * 16 * D * 2);
#pragma unroll
      for (int m = 0; m < 2; m++) {
        mma_m16n8k16<T>(s[m][2 * n], a[m], b[0], b[1]);
        mma_m16n8k16<T>(s[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

}  // namespace accel::cuda
#endif
