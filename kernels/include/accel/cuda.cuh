// Device code that kernels of op libraries share: element types, rows of the paged cache, data errors, launches.
#ifndef ACCEL_CUDA_CUH
#define ACCEL_CUDA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "accel/op.h"

namespace accel::cuda {

// ---- element types: float, __nv_bfloat16, __half. Arithmetic is fp32.

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }

template <class T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) { return x; }
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }
template <>
__device__ inline __half from_float<__half>(float x) { return __float2half_rn(x); }

// Calls f with a null pointer to the element type: with_float(t->dtype, [&](auto* e) { using T = std::remove_pointer_t<decltype(e)>; ... })
template <class F>
inline int with_float(accel_dtype dtype, F&& f) {
  if (dtype.code == ACCEL_BFLOAT) return f(static_cast<__nv_bfloat16*>(nullptr));
  if (dtype.bits == 16) return f(static_cast<__half*>(nullptr));
  return f(static_cast<float*>(nullptr));
}

template <class T = void>
inline T* data(const accel_tensor* tensor) {
  return tensor == nullptr ? nullptr
                           : reinterpret_cast<T*>(static_cast<uint8_t*>(tensor->data) + tensor->byte_offset);
}
inline int64_t elements(const accel_tensor* t) {
  int64_t n = 1;
  for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
  return n;
}
inline cudaStream_t stream_of(const accel_call* call) { return static_cast<cudaStream_t>(call->stream); }

// ---- rows of the paged cache (slot rule in accel/op.h)

// One layer's cache for a batch, as kernels get it (by value).
struct KvPages {
  uint8_t* base;
  int64_t page_bytes;
  const accel_kv_head* head;  // device memory, [sequences * heads]
  int32_t heads;
  int32_t sequences;
  int32_t rows_per_page;
  int32_t records_per_page;
  int32_t row_bytes;          // of a key or value row
  int32_t record_words;       // 1 + tallies; 0: no records, row r has position r

  __device__ const accel_kv_head& at(int sequence, int h) const { return head[sequence * heads + h]; }
  __device__ static int slot(const accel_kv_head& h, int row) { return row < h.gap_at ? row : row + h.gap; }
  __device__ uint8_t* row(const int32_t* pages, int slot) const {
    const int page = slot / rows_per_page;
    return base + pages[page] * page_bytes + (slot - page * rows_per_page) * (int64_t)row_bytes;
  }
  __device__ uint8_t* key(const accel_kv_head& h, int r) const { return row(h.key_pages, slot(h, r)); }
  __device__ uint8_t* value(const accel_kv_head& h, int r) const { return row(h.value_pages, slot(h, r)); }
  // A row's record: its position, then its tallies (float32).
  __device__ int32_t* record(const accel_kv_head& h, int r) const {
    const int s = slot(h, r), page = s / records_per_page;
    return reinterpret_cast<int32_t*>(base + h.record_pages[page] * page_bytes) +
           (s - page * records_per_page) * record_words;
  }
  __device__ float* tally(const accel_kv_head& h, int r, int which) const {
    return reinterpret_cast<float*>(record(h, r)) + 1 + which;
  }
  __device__ int32_t position(const accel_kv_head& h, int r) const { return record_words == 0 ? r : record(h, r)[0]; }
  // The first row that the query whose own row is `own` sees through a window of so many positions (0: no limit; ADR
  // 0017). Rows are in the order of their positions and may have left, so it is at most window - 1 rows back. Reads
  // records: a kernel may do so only when those that appended rows are done.
  __device__ int window_begin(const accel_kv_head& h, int own, int window) const {
    if (window <= 0) return 0;
    int low = max(0, own - window + 1), high = own;
    if (record_words == 0 || low >= high) return low;
    const int reach = position(h, own) - window + 1;
    if (position(h, low) >= reach) return low;  // nothing has left since, as everywhere before the first eviction
#pragma unroll 1
    while (low < high) {
      const int middle = (low + high) / 2;
      if (position(h, middle) < reach) low = middle + 1;
      else high = middle;
    }
    return low;
  }
  // The other way round: the first row whose query no longer sees row r.
  __device__ int window_end(const accel_kv_head& h, int r, int window) const {
    if (window <= 0 || r >= h.rows) return h.rows;
    int low = r + 1, high = min(h.rows, r + window);
    if (record_words == 0 || low >= high) return high;
    const int reach = position(h, r) + window;
    if (position(h, high - 1) < reach) return high;
#pragma unroll 1
    while (low < high) {
      const int middle = (low + high) / 2;
      if (position(h, middle) < reach) low = middle + 1;
      else high = middle;
    }
    return low;
  }
  // A place in a stream of encoded items: `pages` is the head's encoded_key_pages or encoded_value_pages. Valid up to the
  // next multiple of 16.
  __device__ uint8_t* stream(const int32_t* pages, int64_t byte) const {
    const int page = static_cast<int>(byte / page_bytes);
    return base + pages[page] * page_bytes + (byte - page * page_bytes);
  }
};

// A window argument for kernels. One that is wider than any cache is none.
inline int window_of(const accel_arg& window) { return window.i < 1 << 30 ? static_cast<int>(window.i) : 0; }

inline KvPages kv_pages(const accel_kv& kv) {
  return {kv.base,
          kv.page_bytes,
          kv.device_head,
          kv.heads,
          kv.sequences,
          kv.rows_per_page,
          kv.records_per_page,
          static_cast<int32_t>(kv.head_dim * (kv.dtype.bits / 8)),
          kv.record_bytes / 4};
}

// ---- data errors

// Tells the stream what is wrong; only the first report since the last synchronize counts.
__device__ inline void accel_report(accel_device_error* error, int32_t check, int64_t index, int64_t value) {
  if (atomicCAS(&error->check, 0, check) == 0) {
    error->index = index;
    error->value = value;
    __threadfence_system();
  }
}

// ---- launches

// Turns a launch error into a failure of the op. Call after every launch: `return launched(call);`
inline int launched(const accel_call* call) {
  cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return ACCEL_OK;
  return call->fail(call, "ERR_ACCEL_INTERNAL", "a CUDA launch failed: %s", cudaGetErrorString(error));
}

// Whether page tables and lengths are older than the kernel before this one, so that a kernel may read them before
// pdl_wait(): a replayed graph finds them in memory that was filled before it started; otherwise a kernel just before this
// one may have written them.
inline bool tables_settled(const accel_call* call) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(stream_of(call), &capture);
  return capture == cudaStreamCaptureStatusActive;
}

// Programmatic dependent launch (sm_90): the kernel may start while its predecessor drains. Every thread of a kernel
// launched this way calls pdl_wait() before it touches memory that earlier kernels write or read; before that it may
// only load constants (weights). pdl_release() lets the successor start early; call it once per thread, anywhere.
__device__ inline void pdl_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ inline void pdl_release() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <class... Parameters, class... Arguments>
inline void launch_pdl(const accel_call* call, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
                       Arguments&&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream_of(call);
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  // Half of a multiprocessor's memory as shared memory, for every kernel of a chain: a kernel that wants another split
  // cannot start before the multiprocessor has drained, and one that inherits a small L1 reads slowly.
  attributes[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
  attributes[1].val.sharedMemCarveout = 50;
  config.attrs = attributes;
  config.numAttrs = call->capability >= 90 ? 2 : 0;
  cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

}  // namespace accel::cuda
#endif
