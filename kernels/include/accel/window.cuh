// The first row that each query of a batch sees through a sliding window, found by a kernel of its own: split-KV kernels ask for
// it in every block, and have no registers to spare for a search.
#ifndef ACCEL_WINDOW_CUH
#define ACCEL_WINDOW_CUH

#include "accel/cuda.cuh"

namespace accel::cuda {

// begins [queries, kv heads]; query_begin [sequences + 1], the first packed query of each sequence.
static __global__ void __launch_bounds__(128)
    find_window_begins(const __grid_constant__ KvPages pages, const int32_t* query_begin, int queries, int window,
                       int32_t* begins) {
  pdl_release();
  pdl_wait();
  const int i = static_cast<int>(blockIdx.x) * 128 + static_cast<int>(threadIdx.x);
  const int token = i / pages.heads;
  if (token >= queries) return;
  int sequence = 0;
  while (token >= query_begin[sequence + 1]) sequence++;
  const accel_kv_head& head = pages.at(sequence, i - token * pages.heads);
  begins[i] = pages.window_begin(head, head.rows - (query_begin[sequence + 1] - token), window);
}

// Enqueues that; null without a window. `query_begin` is device memory.
inline const int32_t* window_begins(const accel_call* call, const KvPages& pages, const int32_t* query_begin,
                                    int64_t queries, int window) {
  if (window == 0) return nullptr;
  const int64_t count = queries * pages.heads;
  auto* begins = static_cast<int32_t*>(call->scratch(call, static_cast<size_t>(count) * sizeof(int32_t)));
  launch_pdl(call, find_window_begins, dim3(static_cast<unsigned>((count + 127) / 128)), dim3(128), 0, pages, query_begin,
             static_cast<int>(queries), window, begins);
  return begins;
}

}  // namespace accel::cuda
#endif
