// block_mass on CUDA: the attention that lies in each 128 x 128 block. Formula and check: cpu/ops/block_mass.cc.
//
// It serves whoever looks at a choice of blocks, not the path of a prompt, so it is the plain kernel: any dtype and head
// dimension, fp32 products from shared memory. A CTA has one block of one query head and goes over its rows 32 at a
// time, as fp32 padded against bank conflicts. Lane l of warp w has row l and, of the row block's queries, 4 (w + 8 step)
// to 4 (w + 8 step) + 3, which share what is read of a key. Sums are fp32 in a fixed order: a lane's own terms, then
// lanes, then warps. No atomics.
#include "accel/cuda.cuh"
#include "cuda/kernels.h"

namespace accel::cuda {
namespace {

constexpr int block = 128, keys_at_once = 32, warps = 8, queries_at_once = 4;

struct BlockMass {
  const void* q;
  const float* lse;
  KvPages pages;
  float* out;          // [query heads][row blocks][columns]
  int n, queries, query_heads, group, head_dim;
  int window;          // in positions; 0: none
  float scale;
};

size_t shared_bytes(int head_dim) {
  return ((keys_at_once * (head_dim + 1)) + warps * queries_at_once * head_dim + warps) * sizeof(float);
}

// Grid: (columns, row blocks, query heads).
template <class T>
__global__ void __launch_bounds__(32 * warps) block_mass_any(const BlockMass p) {
  extern __shared__ float shared[];
  pdl_wait();
  const int d = p.head_dim, stride = d + 1;
  float* keys = shared;                                            // [32][d + 1]
  float* rows = keys + keys_at_once * stride;                      // [warps][4][d]
  float* totals = rows + warps * queries_at_once * d;              // [warps]
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int j = blockIdx.x, i = blockIdx.y, h = blockIdx.z;
  const int first = i * block, count = min(block, p.queries - first), last = p.n - p.queries + first;
  const int begin = j * block, end = min(min(begin + block, p.n), last + count);
  float* out = p.out + (static_cast<int64_t>(h) * gridDim.y + i) * gridDim.x + j;
  if (begin >= end) {                                              // beyond the diagonal; the same for the whole CTA
    if (threadIdx.x == 0) *out = 0;
    return;
  }

  const accel_kv_head& head = p.pages.at(0, h / p.group);
  float* mine = rows + warp * queries_at_once * d;
  float total = 0;
  for (int k0 = begin; k0 < end; k0 += keys_at_once) {
    __syncthreads();
    for (int r = warp; r < keys_at_once && k0 + r < end; r += warps) {
      const T* row = reinterpret_cast<const T*>(p.pages.key(head, k0 + r));
      for (int c = lane; c < d; c += 32) keys[r * stride + c] = to_float(row[c]);
    }
    const int until = p.pages.window_end(head, k0 + lane, p.window) - (p.n - p.queries) - first;  // queries of the row block
    __syncthreads();
    for (int t0 = warp * queries_at_once; t0 < count; t0 += warps * queries_at_once) {
      __syncwarp();
      for (int u = 0; u < queries_at_once && t0 + u < count; u++) {
        const int64_t at = static_cast<int64_t>(first + t0 + u) * p.query_heads + h;
        for (int c = lane; c < d; c += 32) mine[u * d + c] = to_float(static_cast<const T*>(p.q)[at * d + c]);
      }
      __syncwarp();
      float logit[queries_at_once] = {};
      for (int c = 0; c < d; c++) {
        const float k = keys[lane * stride + c];
#pragma unroll
        for (int u = 0; u < queries_at_once; u++) logit[u] = fmaf(k, mine[u * d + c], logit[u]);
      }
#pragma unroll
      for (int u = 0; u < queries_at_once; u++) {
        if (t0 + u >= min(count, until) || k0 + lane >= end || k0 + lane > last + t0 + u) continue;
        const float lse = p.lse[static_cast<int64_t>(first + t0 + u) * p.query_heads + h];
        if (lse != -INFINITY) total += expf(logit[u] * p.scale - lse);
      }
    }
  }
  for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
  if (lane == 0) totals[warp] = total;
  __syncthreads();
  if (threadIdx.x != 0) return;
  float sum = 0;
  for (int w = 0; w < warps; w++) sum += totals[w];
  *out = sum / static_cast<float>(count);
}

// out:tensor f32[Hq,RB,C], q:tensor[m,Hq,d], kv:kv, lse:tensor f32[m,Hq], scale:float, window:int
int block_mass(const accel_call* call) {
  const accel_tensor* out = call->args[0].tensor;
  const accel_tensor* q = call->args[1].tensor;
  const accel_kv& kv = *call->args[2].kv;
  BlockMass p = {};
  p.q = data(q);
  p.lse = data<float>(call->args[3].tensor);
  p.pages = kv_pages(kv);
  p.out = data<float>(out);
  p.n = kv.head[0].rows;
  p.queries = static_cast<int>(q->shape[0]);
  p.query_heads = static_cast<int>(q->shape[1]);
  p.group = p.query_heads / kv.heads;
  p.head_dim = kv.head_dim;
  p.scale = static_cast<float>(call->args[4].f);
  p.window = window_of(call->args[5]);
  call->ran(call, "block_mass");
  if (p.queries == 0) return ACCEL_OK;
  if (out->shape[1] > 65535 || p.query_heads > 65535) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "block_mass: %lld row blocks of %d heads are too many for one launch",
                      static_cast<long long>(out->shape[1]), p.query_heads);
  }
  const dim3 grid(static_cast<unsigned>(out->shape[2]), static_cast<unsigned>(out->shape[1]),
                  static_cast<unsigned>(p.query_heads));
  const size_t bytes = shared_bytes(p.head_dim);
  return with_float(q->dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    // Heads wider than 181 need more than the 48 KB a kernel gets unasked.
    cudaFuncSetAttribute(block_mass_any<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    launch_pdl(call, block_mass_any<T>, grid, dim3(32 * warps), bytes, p);
    return launched(call);
  });
}

const OpKernel kernels[] = {{"block_mass", block_mass}};

}  // namespace

OpKernels block_mass_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
