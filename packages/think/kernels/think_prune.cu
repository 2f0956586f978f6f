// think_prune on CUDA (definition in think_prune.cc). One block an item.
//
// 16 rows come into shared memory as they lie, and leave in pieces of 16 bytes, which are some rows of one channel. Which
// items a head has to write is read on the device; blocks beyond do nothing.
#include <type_traits>

#include "accel/cuda.cuh"
#include "think.h"

namespace accel_think {
namespace {

using namespace accel::cuda;

constexpr int kThreads = 128;

template <class T>
__global__ void __launch_bounds__(kThreads) prune_items(const KvPages kv, int dim, int kept) {
  constexpr int rows_of_piece = 16 / sizeof(T);
  // Four bytes more a row, so that rows of a channel lie in different banks.
  __shared__ T keys[kItemRows][kMostChannels + 4 / sizeof(T)];
  __shared__ uint16_t list[kMostChannels];
  pdl_release();
  pdl_wait();
  const accel_kv_head& head = kv.at(blockIdx.z, blockIdx.y);
  const int first = head.plain_keys, end = head.encoded_keys, item = first / kItemRows + static_cast<int>(blockIdx.x);
  const int begin = item * kItemRows;
  if (first >= end || begin >= end) return;
  for (int c = threadIdx.x; c < kept; c += kThreads) {
    list[c] = *reinterpret_cast<const uint16_t*>(kv.stream(head.encoded_key_pages, 2 * c));
  }
  for (int i = threadIdx.x; i < kItemRows * dim; i += kThreads) {
    const int r = i / dim, c = i - r * dim, row = begin + r;
    keys[r][c] = row >= first && row < end ? reinterpret_cast<const T*>(kv.key(head, row))[c] : from_float<T>(0.f);
  }
  __syncthreads();
  const int64_t at = header_bytes(kept) + item * item_bytes(kept, sizeof(T));
  for (int piece = threadIdx.x; piece < kItemRows * kept / rows_of_piece; piece += kThreads) {
    const int c = piece * rows_of_piece / kItemRows, r = piece * rows_of_piece % kItemRows;
    uint4* to = reinterpret_cast<uint4*>(kv.stream(head.encoded_key_pages, at + 16 * piece));
    // A first item may hold older rows already.
    uint4 bits = begin + r < first ? *to : uint4{};
    T* rows = reinterpret_cast<T*>(&bits);
#pragma unroll
    for (int i = 0; i < rows_of_piece; i++) {
      if (begin + r + i >= first) rows[i] = keys[r + i][list[c]];
    }
    *to = bits;
  }
}

}  // namespace

int prune_cuda(const accel_call* call) {
  using namespace prune;
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t limit = call->args[kLimit].i;
  call->ran(call, "think_prune");
  if (limit == 0) return ACCEL_OK;
  // One item more than full ones: rows may begin and end inside items.
  const dim3 grid(static_cast<unsigned>((limit + kItemRows - 1) / kItemRows + 1), static_cast<unsigned>(kv.heads),
                  static_cast<unsigned>(kv.sequences));
  return with_float(kv.dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    launch_pdl(call, prune_items<T>, grid, dim3(kThreads), 0, kv_pages(kv), kv.head_dim,
               static_cast<int>(call->args[kChannels].i));
    return launched(call);
  });
}

}  // namespace accel_think
