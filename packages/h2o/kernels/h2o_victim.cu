// h2o_victim on CUDA (definition in h2o_victim.cc).
//
// A head is the work of one block, or on Hopper of a cluster of up to 8, when it has many rows. A thread looks at every
// blockDim-th row, four loads in flight; the smallest order (score bits, then latest row) is found over a warp with
// shuffles, over the block and over the cluster in shared memory. The minimum does not depend on who looked at which
// row. Row counts come from the device's table, so the launch can be replayed while the cache is full.
#include <cooperative_groups.h>

#include "accel/cuda.cuh"
#include "h2o_victim.h"

namespace accel_h2o {
namespace {

constexpr int kMostBlocks = 8;
constexpr int kAhead = 4;

struct Victims {
  int32_t* out;
  accel::cuda::KvPages kv;
  int tally;
  int keep;
  accel_device_error* error;
  int32_t check;
};

__device__ uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

__device__ uint64_t warp_least(uint64_t x) {
  for (int step = 16; step > 0; step /= 2) x = least(x, __shfl_xor_sync(~0u, x, step));
  return x;
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ int rank() { return static_cast<int>(cooperative_groups::this_cluster().block_rank()); }
__device__ int ranks() { return static_cast<int>(cooperative_groups::this_cluster().num_blocks()); }
#else
__device__ int rank() { return 0; }
__device__ int ranks() { return 1; }
#endif

__global__ void __launch_bounds__(1024) find_victims(Victims args) {
  __shared__ uint64_t of_warp[32];
  accel::cuda::pdl_release();
  accel::cuda::pdl_wait();
  const int h = static_cast<int>(blockIdx.x) / ranks();
  const accel_kv_head& head = args.kv.at(0, h);
  const int end = head.rows - args.keep;
  const int stride = static_cast<int>(blockDim.x) * ranks();
  uint64_t first = kNobody;
  for (int base = rank() * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x); base < end;
       base += kAhead * stride) {
    float score[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; i++) {
      const int row = base + i * stride;
      score[i] = row < end ? *args.kv.tally(head, row, args.tally) : 0.f;
    }
#pragma unroll
    for (int i = 0; i < kAhead; i++) {
      const int row = base + i * stride;
      if (row >= end) continue;
      if (score[i] != score[i]) accel::cuda::accel_report(args.error, args.check, h, row);
      first = least(first, departure(__float_as_uint(score[i]), row));
    }
  }
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  first = warp_least(first);
  if (lane == 0) of_warp[warp] = first;
  __syncthreads();
  if (warp == 0) {
    first = warp_least(lane < static_cast<int>(blockDim.x) / 32 ? of_warp[lane] : kNobody);
    __syncwarp();
    if (lane == 0) of_warp[0] = first;  // the block's
  }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if (ranks() > 1) {
    const auto cluster = cooperative_groups::this_cluster();
    cluster.sync();
    if (rank() == 0 && warp == 0) {
      first = warp_least(lane < ranks() ? *cluster.map_shared_rank(&of_warp[0], lane) : kNobody);
    }
    cluster.sync();  // a block's memory stays until it was read
  }
#endif
  if (rank() == 0 && threadIdx.x == 0) args.out[h] = row_of(first);
}

}  // namespace

int h2o_victim_cuda(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int32_t check = call->device_check(call, "ERR_ACCEL_NAN",
                                           "h2o_victim: the scores of head %lld contain NaN, at row %lld");
  const Victims args = {accel::cuda::data<int32_t>(call->args[kOut].tensor),
                        accel::cuda::kv_pages(kv),
                        static_cast<int>(call->args[kTally].i),
                        static_cast<int>(call->args[kKeep].i),
                        call->device_error,
                        check};
  call->ran(call, "h2o_victim");
  // A row a thread and step while that keeps the block small; 4096 rows a block from there on.
  int threads = 128, blocks = 1;
  while (threads < 1024 && threads * 2 < kv.row_limit) threads *= 2;
  if (call->capability >= 90) {
    while (blocks < kMostBlocks && blocks * 4096 < kv.row_limit) blocks *= 2;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(kv.heads * blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = accel::cuda::stream_of(call);
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {static_cast<unsigned>(blocks), 1, 1};
  config.attrs = attributes;
  config.numAttrs = call->capability >= 90 ? 2 : 0;
  cudaLaunchKernelEx(&config, find_victims, args);
  return accel::cuda::launched(call);
}

}  // namespace accel_h2o
