// think_channels on CUDA (definition in think_channels.cc). One block a head, one thread a channel.
#include "accel/cuda.cuh"
#include "think.h"

namespace accel_think {
namespace {

using namespace accel::cuda;

__global__ void __launch_bounds__(kMostChannels)
    choose_channels(const KvPages kv, const float* scores, int dim, int kept, accel_device_error* error,
                    int32_t check) {
  __shared__ float score[kMostChannels];
  __shared__ int kept_of_warp[kMostChannels / 32];
  __shared__ __align__(16) uint16_t list[kMostChannels];
  pdl_release();
  pdl_wait();
  const int head = blockIdx.x, channel = threadIdx.x, lane = channel % 32, warp = channel / 32;
  if (channel < dim) {
    score[channel] = scores[head * dim + channel];
    if (isnan(score[channel])) accel_report(error, check, head, channel);
  }
  list[channel] = 0;
  __syncthreads();
  const bool keep = channel < dim && is_kept(score, dim, channel, dim - kept);
  const unsigned mask = __ballot_sync(~0u, keep);
  if (lane == 0) kept_of_warp[warp] = __popc(mask);
  __syncthreads();
  int place = __popc(mask & ((1u << lane) - 1));
  for (int w = 0; w < warp; w++) place += kept_of_warp[w];
  if (keep) list[place] = static_cast<uint16_t>(channel);
  __syncthreads();
  const int32_t* pages = kv.at(0, head).encoded_key_pages;
  for (int byte = 16 * threadIdx.x; byte < header_bytes(kept); byte += 16 * blockDim.x) {
    *reinterpret_cast<uint4*>(kv.stream(pages, byte)) = *reinterpret_cast<const uint4*>(list + byte / 2);
  }
}

}  // namespace

int channels_cuda(const accel_call* call) {
  using namespace channels;
  const accel_kv& kv = *call->args[kKv].kv;
  const int32_t check = call->device_check(call, "ERR_ACCEL_NAN",
                                           "think_channels: the score of head %lld, channel %lld is not a number");
  call->ran(call, "think_channels");
  launch_pdl(call, choose_channels, dim3(static_cast<unsigned>(kv.heads)), dim3(kMostChannels), 0, kv_pages(kv),
             data<const float>(call->args[kScores].tensor), kv.head_dim, static_cast<int>(call->args[kChannels].i),
             call->device_error, check);
  return launched(call);
}

}  // namespace accel_think
