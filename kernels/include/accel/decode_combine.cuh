// Split-KV decoding, the second kernel: joins the segments of a unit.
//
// One block per (unit, packed row of the R that a unit has room for). With state {m_s, l_s} and values v_s of segment s and m = max m_s:
//   l = sum_s l_s 2^(m_s - m),  out = sum_s v_s 2^(m_s - m) / l,  lse = (m + log2 l) ln 2
// in an order that depends on the number of segments alone. D / 4 threads hold a row; the others take further segments.
#ifndef ACCEL_DECODE_COMBINE_CUH
#define ACCEL_DECODE_COMBINE_CUH

#include <float.h>

#include "accel/decode_plan.cuh"
#include "accel/mma.cuh"

namespace accel::cuda {

template <class T, int D, int R>
__global__ void __launch_bounds__(128) decode_combine(const __grid_constant__ DecodeArguments a) {
  constexpr int columns = D / 4, strands = 128 / columns;
  __shared__ float4 part[strands][columns];
  pdl_release();
  pdl_wait();
  const int row = blockIdx.y, lane = threadIdx.x % 32;
  const DecodeUnit u = decode_unit<R>(a, blockIdx.x);
  if (row >= u.rows) return;
  const int2 cover = a.cover[blockIdx.x];
  const float2* states = a.states + (int64_t)cover.x * R + row;

  float top = -FLT_MAX;
  for (int s = lane; s < cover.y; s += 32) top = fmaxf(top, states[s * R].x);
  for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
  float sum = 0;
  for (int s = lane; s < cover.y; s += 32) sum += states[s * R].y * exp2_fast(states[s * R].x - top);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);

  const int column = threadIdx.x % columns, strand = threadIdx.x / columns;
  const float* values = a.values + ((int64_t)cover.x * R + row) * D + column * 4;
  float4 acc = {0, 0, 0, 0};
#pragma unroll 4
  for (int s = strand; s < cover.y; s += strands) {
    const float4 x = *reinterpret_cast<const float4*>(values + (int64_t)s * R * D);
    const float w = exp2_fast(states[s * R].x - top);
    acc = {acc.x + x.x * w, acc.y + x.y * w, acc.z + x.z * w, acc.w + x.w * w};
  }
  part[strand][column] = acc;
  __syncthreads();
  const int query = (u.row + row) / a.group, head = u.head * a.group + (u.row + row) % a.group;
  const int64_t to = (int64_t)(u.token + query) * a.query_heads + head;
  if (strand == 0) {
    for (int i = 1; i < strands; i++) {
      const float4 x = part[i][column];
      acc = {acc.x + x.x, acc.y + x.y, acc.z + x.z, acc.w + x.w};
    }
    const float inverse = sum == 0 ? 0.f : 1.f / sum;  // nothing visible: zeros
    const uint2 packed = {pack_pair<T>(acc.x * inverse, acc.y * inverse), pack_pair<T>(acc.z * inverse, acc.w * inverse)};
    *reinterpret_cast<uint2*>(static_cast<T*>(a.out) + to * D + column * 4) = packed;
  }
  if (threadIdx.x == 0 && a.lse != nullptr) {
    a.lse[to] = sum == 0 ? -INFINITY : (top + log2f(sum)) * 0.6931471805599453f;
  }
}

}  // namespace accel::cuda
#endif
