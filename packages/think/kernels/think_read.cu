// think_read on CUDA (definition in think_read.cc). One thread an element.
#include <type_traits>

#include "accel/cuda.cuh"
#include "think.h"

namespace accel_think {
namespace {

using namespace accel::cuda;

__global__ void __launch_bounds__(kMostChannels) read_channels(int32_t* out, const KvPages kv, int kept) {
  pdl_release();
  pdl_wait();
  const int c = threadIdx.x;
  if (c >= kept) return;
  const int32_t* pages = kv.at(0, blockIdx.x).encoded_key_pages;
  out[blockIdx.x * kept + c] = *reinterpret_cast<const uint16_t*>(kv.stream(pages, 2 * c));
}

template <class T>
__global__ void __launch_bounds__(256) read_keys(T* out, const KvPages kv, int rows, int kept) {
  pdl_release();
  pdl_wait();
  const int64_t i = blockIdx.x * 256ll + threadIdx.x;
  const int row = static_cast<int>(i / kept), c = static_cast<int>(i % kept);
  if (row >= rows) return;
  const accel_kv_head& head = kv.at(0, blockIdx.y);
  T value = from_float<T>(0.f);
  if (row < head.encoded_keys) {
    const int64_t at = header_bytes(kept) + row / kItemRows * item_bytes(kept, sizeof(T));
    const int64_t within = (c * kItemRows + row % kItemRows) * static_cast<int64_t>(sizeof(T));
    value = *reinterpret_cast<const T*>(kv.stream(head.encoded_key_pages, at + within));
  }
  out[blockIdx.y * static_cast<int64_t>(rows) * kept + i] = value;
}

}  // namespace

int read_cuda(const accel_call* call) {
  using namespace read;
  const accel_kv& kv = *call->args[kKv].kv;
  const int kept = static_cast<int>(call->args[kKept].i);
  const auto heads = static_cast<unsigned>(kv.heads);
  call->ran(call, "think_read");
  if (int32_t* channels = data<int32_t>(call->args[kChannels].tensor)) {
    launch_pdl(call, read_channels, dim3(heads), dim3(kMostChannels), 0, channels, kv_pages(kv), kept);
    if (launched(call) != ACCEL_OK) return ACCEL_FAILED;
  }
  const accel_tensor* k = call->args[kK].tensor;
  if (k == nullptr || k->shape[1] == 0) return ACCEL_OK;
  const auto blocks = static_cast<unsigned>((k->shape[1] * kept + 255) / 256);
  return with_float(kv.dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    launch_pdl(call, read_keys<T>, dim3(blocks, heads), dim3(256), 0, data<T>(k), kv_pages(kv),
               static_cast<int>(k->shape[1]), kept);
    return launched(call);
  });
}

}  // namespace accel_think
