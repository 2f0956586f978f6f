// cake_statistics on CUDA (definition in statistics.cc): a pass for the queries' log-sum-exp, one for the statistics, each
// over all keys once, and two small kernels that join what blocks left. On tensor cores: sweep.cuh. For float32 and other
// head dimensions the kernels below, which keep 32 keys of a kv head in shared memory as fp32.
//
// Used at the end of a prompt, never in a graph: the number of rows is the host's.
#include "statistics.cuh"
#include "sweep.cuh"

namespace accel_cakekv {
namespace {

using accel::cuda::launch_pdl;
using accel::cuda::launched;

// ---- any dtype, any head dimension

constexpr int kAnyKeys = 32, kAnyWarps = 8;

size_t any_bytes(int head_dim) {
  return sizeof(double) * (3 * kAnyKeys * kAnyWarps + 2 * kAnyWarps) +
         sizeof(float) * (kAnyKeys * (head_dim + 1) + kAnyWarps * head_dim);
}

// Grid: (key tiles, kv heads). Lane l of warp w has key l and the queries w, w + 8, ...
template <class T, bool statistics>
__global__ void __launch_bounds__(32 * kAnyWarps) sweep_any(const Sweep p, int head_dim) {
  extern __shared__ __align__(16) uint8_t shared[];
  accel::cuda::pdl_wait();
  double* sums = reinterpret_cast<double*>(shared);  // [warps][keys]: sum, then sum of squares
  double* squares = sums + kAnyKeys * kAnyWarps;
  double* entropies = squares + kAnyKeys * kAnyWarps;
  double* totals = entropies + kAnyKeys * kAnyWarps;               // [warps][2]
  float* keys = reinterpret_cast<float*>(totals + 2 * kAnyWarps);  // [keys][head_dim + 1]
  float* queries = keys + kAnyKeys * (head_dim + 1);               // [warps][head_dim]
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, kv_head = blockIdx.y;
  const int first_key = static_cast<int>(blockIdx.x) * kAnyKeys, key = first_key + lane;

  const accel_kv_head& head = p.pages.at(0, kv_head);
  for (int r = warp; r < kAnyKeys && first_key + r < p.rows; r += kAnyWarps) {
    const T* row = reinterpret_cast<const T*>(p.pages.key(head, first_key + r));
    for (int c = lane; c < head_dim; c += 32) keys[r * (head_dim + 1) + c] = accel::cuda::to_float(row[c]);
  }
  __syncthreads();
  const int until = p.seen_until(head, key);
  double group = 0, dispersion = 0, shift = 0;
  for (int h = kv_head * p.group; h < (kv_head + 1) * p.group; h++) {
    double sum = 0, square = 0, entropy = 0;
    for (int i = warp; i < p.queries; i += kAnyWarps) {
      const T* q = static_cast<const T*>(p.q) + (static_cast<int64_t>(i) * p.query_heads + h) * head_dim;
      __syncwarp();  // each warp writes and reads its own query
      for (int c = lane; c < head_dim; c += 32) queries[warp * head_dim + c] = accel::cuda::to_float(q[c]);
      __syncwarp();
      float dot = 0;
      if (key < p.rows) {
        for (int c = 0; c < head_dim; c++)
          dot = fmaf(keys[lane * (head_dim + 1) + c], queries[warp * head_dim + c], dot);
      }
      if constexpr (statistics) {
        if (key < p.columns && i < until) {
          const float x = exp2f(dot * p.scale * kLog2e - p.lse[static_cast<int64_t>(h) * p.queries + i]);
          sum += x;
          square += static_cast<double>(x) * x;
          entropy += x * logf(x + kLogFloor);
        }
      } else {
        const float x = key < p.rows && key <= p.rows - p.queries + i && i < until ? dot * p.scale * kLog2e : -INFINITY;
        float top = x;
#pragma unroll
        for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
        float part = top == -INFINITY ? 0.0f : exp2f(x - top);
#pragma unroll
        for (int step = 16; step > 0; step /= 2) part += __shfl_xor_sync(~0u, part, step);
        if (lane == 0) {
          p.parts[(static_cast<int64_t>(blockIdx.x) * p.query_heads + h) * p.queries + i] = make_float2(top, part);
        }
      }
    }
    if constexpr (statistics) {
      sums[warp * kAnyKeys + lane] = sum;
      squares[warp * kAnyKeys + lane] = square;
      entropies[warp * kAnyKeys + lane] = entropy;
      __syncthreads();
      if (warp == 0) {
        for (int w = 1; w < kAnyWarps; w++) {
          sum += sums[w * kAnyKeys + lane];
          square += squares[w * kAnyKeys + lane];
          entropy += entropies[w * kAnyKeys + lane];
        }
        const double mean = sum / p.queries, about = square - sum * mean;
        const double variance = p.queries > 1 && about > 0 ? about / (p.queries - 1) : 0;
        group += mean + p.gamma * variance;
        shift += variance;
        dispersion -= entropy;
      }
      __syncthreads();
    }
  }
  if constexpr (statistics) {
    if (warp == 0 && key < p.rows && p.indicator != nullptr) {
      p.indicator[static_cast<int64_t>(kv_head) * p.rows + key] =
          key < p.columns ? static_cast<float>(group / p.group) : 0.0f;
    }
    store_totals<kAnyWarps>(p, totals, dispersion, shift);
  }
}

// ---- joining

constexpr int kJoinLanes = 32;

// lse of 32 queries of one head from their parts; every query sees its own row. Grid: (query heads, 32 queries each).
__global__ void __launch_bounds__(32 * kJoinLanes)
    join_lse(const float2* parts, float* lse, int count, int query_heads, int queries) {
  __shared__ float2 shared[kJoinLanes][32];
  accel::cuda::pdl_wait();
  accel::cuda::pdl_release();
  const int query = static_cast<int>(blockIdx.y) * 32 + threadIdx.x % 32, own = threadIdx.x / 32, h = blockIdx.x;
  float top = -INFINITY, sum = 0;
  const auto add = [&](float2 part) {
    if (part.x == -INFINITY) return;
    const float most = fmaxf(top, part.x);
    sum = (top == -INFINITY ? 0.0f : sum * exp2f(top - most)) + part.y * exp2f(part.x - most);
    top = most;
  };
  if (query < queries) {
    for (int i = own; i < count; i += kJoinLanes)
      add(parts[(static_cast<int64_t>(i) * query_heads + h) * queries + query]);
  }
  shared[own][threadIdx.x % 32] = make_float2(top, sum);
  __syncthreads();
  if (own != 0 || query >= queries) return;
  for (int i = 1; i < kJoinLanes; i++) add(shared[i][threadIdx.x]);
  lse[static_cast<int64_t>(h) * queries + query] = top + log2f(sum);
}

// Adds up what the blocks left. One block.
__global__ void __launch_bounds__(256) join_sums(const double* blocks, double* out, int64_t count) {
  __shared__ double shared[2][256];
  accel::cuda::pdl_wait();
  accel::cuda::pdl_release();
  double a = 0, b = 0;
  for (int64_t i = threadIdx.x; i < count; i += 256) {
    a += blocks[2 * i];
    b += blocks[2 * i + 1];
  }
  shared[0][threadIdx.x] = a;
  shared[1][threadIdx.x] = b;
  for (int step = 128; step > 0; step /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < step) {
      shared[0][threadIdx.x] += shared[0][threadIdx.x + step];
      shared[1][threadIdx.x] += shared[1][threadIdx.x + step];
    }
  }
  if (threadIdx.x == 0) {
    out[0] = shared[0][0];
    out[1] = shared[1][0];
  }
}

// ---- launches

struct Launch {
  int kv_heads, tiles, parts;
};

int join(const accel_call* call, const Sweep& p, int parts, float* lse) {
  launch_pdl(call, join_lse, dim3(p.query_heads, (p.queries + 31) / 32), dim3(32 * kJoinLanes), 0, p.parts, lse, parts,
             p.query_heads, p.queries);
  return launched(call);
}

template <class T, int D>
int run_sweeps(const accel_call* call, const Sweep& p, Launch at, float* lse) {
  constexpr int bytes = SweepLayout<D>::bytes;
  const dim3 grid(at.tiles, at.kv_heads);
  cudaFuncSetAttribute(sweep_tile<T, D, false>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  cudaFuncSetAttribute(sweep_tile<T, D, true>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  launch_pdl(call, sweep_tile<T, D, false>, grid, dim3(kSweepThreads), bytes, p);
  if (const int status = launched(call)) return status;
  if (const int status = join(call, p, at.parts, lse)) return status;
  launch_pdl(call, sweep_tile<T, D, true>, grid, dim3(kSweepThreads), bytes, p);
  return launched(call);
}

template <class T>
int run_any(const accel_call* call, const Sweep& p, Launch at, float* lse, int head_dim) {
  const size_t bytes = any_bytes(head_dim);
  const dim3 grid(at.tiles, at.kv_heads);
  cudaFuncSetAttribute(sweep_any<T, false>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  cudaFuncSetAttribute(sweep_any<T, true>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  launch_pdl(call, sweep_any<T, false>, grid, dim3(32 * kAnyWarps), bytes, p, head_dim);
  if (const int status = launched(call)) return status;
  if (const int status = join(call, p, at.parts, lse)) return status;
  launch_pdl(call, sweep_any<T, true>, grid, dim3(32 * kAnyWarps), bytes, p, head_dim);
  return launched(call);
}

bool tensor_cores(const accel_call* call, const accel_tensor* q, const accel_kv& kv) {
  const auto aligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  return call->capability >= 80 && q->dtype.bits == 16 && (kv.head_dim == 64 || kv.head_dim == 128) &&
         aligned(accel::cuda::data(q)) && aligned(kv.base) && kv.page_bytes % 16 == 0;
}

}  // namespace

int statistics_cuda(const accel_call* call) {
  const accel_tensor* q = call->args[kQueries].tensor;
  const accel_kv& kv = *call->args[kStatisticsKv].kv;
  const bool fast = tensor_cores(call, q, kv);
  Sweep p = {};
  p.q = accel::cuda::data(q);
  p.pages = accel::cuda::kv_pages(kv);
  p.rows = kv.head[0].rows;
  p.columns = p.rows - static_cast<int>(call->args[kStatisticsWindow].i);
  p.queries = static_cast<int>(q->shape[0]);
  p.query_heads = static_cast<int>(q->shape[1]);
  p.group = p.query_heads / kv.heads;
  p.sliding = accel::cuda::window_of(call->args[kSliding]);
  p.scale = static_cast<float>(call->args[kScale].f);
  p.gamma = static_cast<float>(call->args[kGamma].f);
  p.indicator = tensor_data<float>(call->args[kIndicator]);

  const int keys = fast ? kSweepKeys : kAnyKeys;
  Launch at = {kv.heads, (p.rows + keys - 1) / keys, 0};
  at.parts = at.tiles * (fast ? kPartsPerTile : 1);
  const size_t queries = static_cast<size_t>(p.queries) * p.query_heads,
               blocks = static_cast<size_t>(at.tiles) * kv.heads;
  float* lse = static_cast<float*>(call->scratch(call, sizeof(float) * queries));
  p.lse = lse;
  p.parts = static_cast<float2*>(call->scratch(call, sizeof(float2) * queries * at.parts));
  p.sums = static_cast<double*>(call->scratch(call, sizeof(double) * 2 * blocks));

  const int status = accel::cuda::with_float(q->dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    if constexpr (sizeof(T) == 2) {
      if (fast) return kv.head_dim == 64 ? run_sweeps<T, 64>(call, p, at, lse) : run_sweeps<T, 128>(call, p, at, lse);
    }
    return run_any<T>(call, p, at, lse, kv.head_dim);
  });
  if (status != ACCEL_OK) return status;
  call->ran(call, "cake_statistics");
  double* sums = tensor_data<double>(call->args[kSums]);
  if (sums == nullptr) return ACCEL_OK;
  launch_pdl(call, join_sums, dim3(1), dim3(256), 0, p.sums, sums, static_cast<int64_t>(blocks));
  return launched(call);
}

}  // namespace accel_cakekv
