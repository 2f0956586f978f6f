// think_queries and think_scores on CUDA (definitions in think_scores.cc).
//
// Keys are read once: a block adds up the squares of 256 rows of a head, its threads side by side on the channels of a
// row, several rows at a time. A second kernel adds up the blocks in row order. No sum depends on timing.
#include <algorithm>
#include <type_traits>

#include "accel/cuda.cuh"
#include "think.h"

namespace accel_think {
namespace {

using namespace accel::cuda;

template <class T>
__global__ void __launch_bounds__(128) query_means(float* out, const T* q, int w, int heads, int group, int dim,
                                                   bool most) {
  pdl_release();
  pdl_wait();
  const int head = blockIdx.x;
  for (int c = threadIdx.x; c < dim; c += blockDim.x) {
    float result = 0;
    for (int h = head * group; h < (head + 1) * group; h++) {
      float sum = 0;
#pragma unroll 8
      for (int row = 0; row < w; row++) {
        const float x = to_float(q[(static_cast<int64_t>(row) * heads + h) * dim + c]);
        sum += x * x;
      }
      const float mean = __fdiv_rn(sum, static_cast<float>(w));
      result = most ? (mean <= result ? result : mean) : result + mean;
    }
    out[head * dim + c] = most ? result : __fdiv_rn(result, static_cast<float>(group));
  }
}

struct Scores {
  KvPages kv;
  float* out;
  const float* queries;
  float* parts;  // [heads, blocks, dim]
  int rows, blocks, dim;

  __device__ int rows_of(int head) const { return min(rows, kv.at(0, head).rows); }
};

template <class T>
__global__ void __launch_bounds__(kMostChannels) square_sums(const Scores s) {
  __shared__ float strand_sums[kMostChannels];
  pdl_release();
  pdl_wait();
  const int head = blockIdx.y, begin = blockIdx.x * scores::kBlock, end = min(begin + scores::kBlock, s.rows_of(head));
  const int strands = blockDim.x / s.dim, channel = threadIdx.x % s.dim, strand = threadIdx.x / s.dim;
  const accel_kv_head& pages = s.kv.at(0, head);
  float sum = 0;
  if (strand < strands) {
#pragma unroll 8
    for (int row = begin + strand; row < end; row += strands) {
      const float x = to_float(reinterpret_cast<const T*>(s.kv.key(pages, row))[channel]);
      sum += x * x;
    }
  }
  strand_sums[threadIdx.x] = sum;
  __syncthreads();
  if (strand != 0) return;
  for (int other = 1; other < strands; other++) sum += strand_sums[other * s.dim + channel];
  s.parts[(static_cast<int64_t>(head) * s.blocks + blockIdx.x) * s.dim + channel] = sum;
}

__global__ void __launch_bounds__(kMostChannels) channel_scores(const Scores s) {
  pdl_release();
  pdl_wait();
  const int head = blockIdx.x, channel = threadIdx.x, rows = s.rows_of(head);
  if (channel >= s.dim) return;
  const float* part = s.parts + static_cast<int64_t>(head) * s.blocks * s.dim + channel;
  float sum = 0;
#pragma unroll 8
  for (int b = 0; b < (rows + scores::kBlock - 1) / scores::kBlock; b++) sum += part[static_cast<int64_t>(b) * s.dim];
  const int i = head * s.dim + channel;
  s.out[i] = s.queries[i] * __fdiv_rn(sum, static_cast<float>(rows));
}

}  // namespace

int queries_cuda(const accel_call* call) {
  using namespace queries;
  const accel_tensor *out = call->args[kOut].tensor, *q = call->args[kQ].tensor;
  const int heads = static_cast<int>(q->shape[1]), kv_heads = static_cast<int>(out->shape[0]);
  call->ran(call, "think_queries");
  return with_float(q->dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    launch_pdl(call, query_means<T>, dim3(static_cast<unsigned>(kv_heads)), dim3(128), 0, data<float>(out),
               data<const T>(q), static_cast<int>(q->shape[0]), heads, heads / kv_heads,
               static_cast<int>(q->shape[2]), call->args[kReduce].i == kMax);
    return launched(call);
  });
}

int scores_cuda(const accel_call* call) {
  using namespace scores;
  const accel_kv& kv = *call->args[kKv].kv;
  Scores s = {};
  s.kv = kv_pages(kv);
  s.out = data<float>(call->args[kOut].tensor);
  s.queries = data<const float>(call->args[kQueries].tensor);
  s.rows = static_cast<int>(std::min<int64_t>(call->args[kRows].i, kv.row_limit));
  s.blocks = (s.rows + kBlock - 1) / kBlock;
  s.dim = kv.head_dim;
  s.parts = static_cast<float*>(call->scratch(call, sizeof(float) * kv.heads * s.blocks * s.dim));
  const auto heads = static_cast<unsigned>(kv.heads);
  call->ran(call, "think_scores");
  const int summed = with_float(kv.dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    launch_pdl(call, square_sums<T>, dim3(static_cast<unsigned>(s.blocks), heads), dim3(kMostChannels), 0, s);
    return launched(call);
  });
  if (summed != ACCEL_OK) return summed;
  launch_pdl(call, channel_scores, dim3(heads), dim3(kMostChannels), 0, s);
  return launched(call);
}

}  // namespace accel_think
