// Statistics and profiles on tensor cores (mma.sync, sm_80 and up), for 16-bit elements and head dims 64 and 128.
//
// A block of 4 warps works through the tiles of a split for one query head. The observed queries are A fragments in
// registers from first to last, 32 rows a warp; keys come straight from their pages, 64 at a time, through two buffers
// (cp.async) while the step before is computed. Every B fragment serves two A fragments. Grid: (heads, splits), so that
// the heads of a group read the same keys at the same time.
//
//   row_statistics  per row a running maximum and sum (Milakov and Gimelshein 2018); four lanes share a row
//   profiles        probabilities of a tile go to shared memory, [128][136] fp32; then a thread adds up a column and
//                   two diagonals, rows in ascending order as on the CPU (flexprefill_tile.cuh)
#include <type_traits>

#include "flexprefill_tile.cuh"

namespace accel_flexprefill {
namespace {

using accel::cuda::cp_async16;
using accel::cuda::ldmatrix_x4;
using accel::cuda::shared_address;
using accel::cuda::swizzle;

constexpr int kThreads = 128, kStep = 64, kStepsOfTile = kTile / kStep;

template <int D>
struct Ring {
  static constexpr int kStepBytes = kStep * D * 2;
  alignas(1024) uint8_t keys[2][kStepBytes];  // the queries at first
  const uint8_t* address[2][kStep];           // of the keys of a step
};
template <int D>
struct ProfileShared {
  Ring<D> ring;
  alignas(16) float tile[kTile * kPitch];
  float2 rows[kTile];
};

// The keys of a split, step after step.
template <class T, int D>
class Keys {
 public:
  __device__ Keys(const Work& w, Ring<D>& ring, int kv_head, int first_key, int steps)
      : w_(w), ring_(ring), head_(w.pages.at(0, kv_head)), first_key_(first_key), steps_(steps) {}

  // After this, turn() gives the first step.
  __device__ void start() {
    find(0);
    __syncthreads();
    copy(0);
    find(1);
  }
  // Waits until step i is there for everybody, starts the copy of the one after, and gives step i's place.
  __device__ uint32_t turn(int i) {
    accel::cuda::cp_async_wait<0>();
    __syncthreads();
    copy(i + 1);
    find(i + 2);
    return shared_address(ring_.keys[i % 2]);
  }

 private:
  // Addresses of step i; the copy of step i - 2, which used the same place, started before the last barrier. Keys behind
  // the last one repeat it: they are masked.
  __device__ void find(int i) {
    if (i >= steps_ || threadIdx.x >= kStep) return;
    const int key = min(first_key_ + i * kStep + static_cast<int>(threadIdx.x), w_.p.n - 1);
    ring_.address[i % 2][threadIdx.x] = w_.pages.key(head_, key);
  }
  __device__ void copy(int i) {
    if (i < steps_) {
      constexpr int chunks = D / 8;
      const int chunk = threadIdx.x % chunks;
      const uint32_t to = shared_address(ring_.keys[i % 2]);
#pragma unroll
      for (int row = threadIdx.x / chunks; row < kStep; row += kThreads / chunks) {
        cp_async16(to + swizzle<chunks>(row, chunk), ring_.address[i % 2][row] + chunk * 16);
      }
    }
    accel::cuda::cp_async_commit();
  }

  const Work& w_;
  Ring<D>& ring_;
  const accel_kv_head& head_;
  const int first_key_, steps_;
};

// A fragments of this warp's 32 queries, by way of the buffers of keys, which hold 128 rows. Rows that are not there are 0.
template <class T, int D>
__device__ void load_queries(uint32_t (&a)[2][D / 16][4], const Work& w, Ring<D>& ring, int h) {
  constexpr int chunks = D / 8;
  const Problem& p = w.p;
  const int chunk = threadIdx.x % chunks;
  const uint32_t to = shared_address(ring.keys[0]);
  const int64_t stride = static_cast<int64_t>(p.heads) * D;
  const T* q = static_cast<const T*>(p.q) + p.first_query() * stride + static_cast<int64_t>(h) * D;
  for (int row = threadIdx.x / chunks; row < kTile; row += kThreads / chunks) {
    const bool there = row < p.rows;
    cp_async16(to + swizzle<chunks>(row, chunk), q + (there ? row * stride : 0) + chunk * 8, there);
  }
  accel::cuda::cp_async_commit();
  accel::cuda::cp_async_wait<0>();
  __syncthreads();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int m = 0; m < 2; m++) {
    const uint32_t from = to + swizzle<chunks>(warp * 32 + m * 16 + lane % 16, lane / 16);
#pragma unroll
    for (int k = 0; k < D / 16; k++) ldmatrix_x4(a[m][k], from ^ (k * 32));
  }
  __syncthreads();  // keys may come
}

// s[32 x 64] = this warp's queries times the keys of a step.
template <class T, int D>
__device__ void multiply(float (&s)[2][8][4], const uint32_t (&a)[2][D / 16][4], uint32_t keys) {
  const int lane = threadIdx.x % 32;
  const uint32_t from = keys + swizzle<D / 8>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
  for (int m = 0; m < 2; m++) {
#pragma unroll
    for (int n = 0; n < 8; n++) s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0.0f;
  }
#pragma unroll
  for (int k = 0; k < D / 16; k++) {
#pragma unroll
    for (int n = 0; n < 4; n++) {
      uint32_t b[4];
      ldmatrix_x4(b, (from ^ (k * 32)) + n * 16 * D * 2);
#pragma unroll
      for (int m = 0; m < 2; m++) {
        accel::cuda::mma_m16n8k16<T>(s[m][2 * n], a[m][k], b[0], b[1]);
        accel::cuda::mma_m16n8k16<T>(s[m][2 * n + 1], a[m][k], b[2], b[3]);
      }
    }
  }
}

// This thread's rows are row() + 16 m + 8 half, its columns 8 n + column() and the one after.
__device__ inline int row_of_thread() { return threadIdx.x / 32 * 32 + threadIdx.x % 32 / 4; }
__device__ inline int column_of_thread() { return threadIdx.x % 4 * 2; }

// Logits of keys that a query does not see become -inf. first_key is the step's.
__device__ inline void hide(float (&s)[2][8][4], const Problem& p, int first_key) {
  if (first_key + kStep - 1 <= p.first_visible()) return;
  const int most = p.first_visible() + row_of_thread() - first_key - column_of_thread();
#pragma unroll
  for (int m = 0; m < 2; m++) {
#pragma unroll
    for (int n = 0; n < 8; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        if (8 * n + e % 2 > most + 16 * m + e / 2 * 8) s[m][n][e] = -INFINITY;
      }
    }
  }
}

template <class T, int D>
__global__ void __launch_bounds__(kThreads, 2) row_statistics(const Work w) {
  extern __shared__ __align__(1024) uint8_t memory[];
  Ring<D>& ring = *reinterpret_cast<Ring<D>*>(memory);
  const Problem& p = w.p;
  const int h = blockIdx.x, first = blockIdx.y * w.span, last = min(first + w.span, p.tiles);
  const int steps = (last - first) * kStepsOfTile;
  uint32_t a[2][D / 16][4];
  load_queries<T, D>(a, w, ring, h);
  Keys<T, D> keys(w, ring, h / p.group, first * kTile, steps);
  keys.start();

  float most[2][2], sum[2][2];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    most[i / 2][i % 2] = kLowest;
    sum[i / 2][i % 2] = 0.0f;
  }
#pragma unroll 1
  for (int i = 0; i < steps; i++) {
    const uint32_t here = keys.turn(i);
    float s[2][8][4];
    multiply<T, D>(s, a, here);
    hide(s, p, first * kTile + i * kStep);
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float larger = s[m][0][2 * half];
#pragma unroll
        for (int n = 0; n < 8; n++) larger = fmaxf(larger, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
        larger = fmaxf(accel::cuda::quad_max(larger) * p.scale, most[m][half]);
        float added = 0.0f;
#pragma unroll
        for (int n = 0; n < 8; n++) {
          added += exp2_fast(fmaf(s[m][n][2 * half], p.scale, -larger)) +
                   exp2_fast(fmaf(s[m][n][2 * half + 1], p.scale, -larger));
        }
        sum[m][half] = fmaf(sum[m][half], exp2_fast(most[m][half] - larger), added);
        most[m][half] = larger;
      }
    }
  }
  float2* out = w.statistics + (static_cast<int64_t>(h) * w.splits + blockIdx.y) * kTile + row_of_thread();
#pragma unroll
  for (int m = 0; m < 2; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float total = accel::cuda::quad_sum(sum[m][half]);
      if (threadIdx.x % 4 == 0) out[16 * m + 8 * half] = {most[m][half], total};
    }
  }
}

template <class T, int D>
__global__ void __launch_bounds__(kThreads, 2) profiles(const Work w) {
  extern __shared__ __align__(1024) uint8_t memory[];
  ProfileShared<D>& shared = *reinterpret_cast<ProfileShared<D>*>(memory);
  const Problem& p = w.p;
  const int h = blockIdx.x, first = blockIdx.y * w.span, last = min(first + w.span, p.tiles);
  const int steps = (last - first) * kStepsOfTile;
  shared.rows[threadIdx.x] = join_statistics(w, h, threadIdx.x);
  uint32_t a[2][D / 16][4];
  load_queries<T, D>(a, w, shared.ring, h);
  float2 row[2][2];
#pragma unroll
  for (int i = 0; i < 4; i++) row[i / 2][i % 2] = shared.rows[row_of_thread() + 16 * (i / 2) + 8 * (i % 2)];
  Keys<T, D> keys(w, shared.ring, h / p.group, first * kTile, steps);
  keys.start();

#pragma unroll 1
  for (int i = 0; i < steps; i++) {
    const uint32_t here = keys.turn(i);  // its barrier: the tile before has been added up
    float s[2][8][4];
    multiply<T, D>(s, a, here);
    hide(s, p, first * kTile + i * kStep);
    float* to = shared.tile + row_of_thread() * kPitch + i % kStepsOfTile * kStep + column_of_thread();
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const float2 r = row[m][half];
#pragma unroll
        for (int n = 0; n < 8; n++) {
          const float x = exp2_fast(fmaf(s[m][n][2 * half], p.scale, -r.x)) * r.y;
          const float y = exp2_fast(fmaf(s[m][n][2 * half + 1], p.scale, -r.x)) * r.y;
          *reinterpret_cast<float2*>(to + (16 * m + 8 * half) * kPitch + 8 * n) = {x, y};
        }
      }
    }
    if (i % kStepsOfTile == kStepsOfTile - 1) {
      __syncthreads();
      sum_tile(w, shared.tile, h, first + i / kStepsOfTile, threadIdx.x);
    }
  }
}

template <class T, int D>
int launch(const accel_call* call, const Work& w) {
  const dim3 grid(w.p.heads, w.splits);
  cudaFuncSetAttribute(row_statistics<T, D>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Ring<D>));
  cudaFuncSetAttribute(profiles<T, D>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(ProfileShared<D>));
  row_statistics<T, D><<<grid, kThreads, sizeof(Ring<D>), accel::cuda::stream_of(call)>>>(w);
  if (accel::cuda::launched(call) != ACCEL_OK) return ACCEL_FAILED;
  profiles<T, D><<<grid, kThreads, sizeof(ProfileShared<D>), accel::cuda::stream_of(call)>>>(w);
  return accel::cuda::launched(call);
}

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// Cards of 99 KB a block have no room for the probabilities of a tile beside keys of 128 channels.
bool fits(const accel_call* call, int dim) {
  int most = 0;
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, call->device.index);
  return (dim == 128 ? sizeof(ProfileShared<128>) : sizeof(ProfileShared<64>)) <= static_cast<size_t>(most);
}

}  // namespace

bool mma_supports(const accel_call* call, const Work& w) {
  const accel_kv& kv = *call->args[kKv].kv;
  return call->capability >= 80 && kv.dtype.bits == 16 && (kv.head_dim == 64 || kv.head_dim == 128) && aligned(w.p.q) &&
         aligned(kv.base) && kv.page_bytes % 16 == 0 && fits(call, kv.head_dim);
}

int launch_profiles_mma(const accel_call* call, const Work& w) {
  const accel_kv& kv = *call->args[kKv].kv;
  if (kv.dtype.code == ACCEL_BFLOAT) {
    return w.p.dim == 128 ? launch<__nv_bfloat16, 128>(call, w) : launch<__nv_bfloat16, 64>(call, w);
  }
  return w.p.dim == 128 ? launch<__half, 128>(call, w) : launch<__half, 64>(call, w);
}

}  // namespace accel_flexprefill
