// kv_export, kv_import, kv_check: a layer of a cache out of its pages and back, in words of 4 bytes, which is what all sizes
// are multiples of, or in single ones when the tensor begins somewhere else. The way to the host is slower than any of this.
// Semantics: cpu/ops/kv_transfer.cc.
#include "common/kv_dense.h"
#include "cuda/kernels.h"
#include "cuda/ops/vectors.cuh"

namespace accel::cuda {
namespace {

constexpr int threads = 256;

struct Layer {
  KvPages pages;
  KvDenseShape shape;

  // Byte `at` of a head's block; what follows up to the next multiple of 4 is next to it.
  __device__ uint8_t* byte(const accel_kv_head& head, const KvDense& size, int64_t at) const {
    if (at < size.keys) return pages.key(head, row(head.plain_keys, at)) + at % shape.row_bytes;
    at -= size.keys;
    if (at < size.values) return pages.value(head, row(head.plain_values, at)) + at % shape.row_bytes;
    at -= size.values;
    if (at < size.encoded_keys) return pages.stream(head.encoded_key_pages, at);
    at -= size.encoded_keys;
    if (at < size.encoded_values) return pages.stream(head.encoded_value_pages, at);
    at -= size.encoded_values;
    const int64_t r = at / shape.record_bytes;
    return reinterpret_cast<uint8_t*>(pages.record(head, static_cast<int>(r))) + (at - r * shape.record_bytes);
  }
  __device__ int row(int32_t first, int64_t at) const { return first + static_cast<int>(at / shape.row_bytes); }
};

// Bytes [offset, offset + n) of the block between pages and `bytes`; blockIdx.y is the head.
template <class Word, bool to_pages>
__global__ void __launch_bounds__(threads)
    transfer(const __grid_constant__ Layer layer, uint8_t* bytes, int64_t offset, int64_t n) {
  __shared__ int64_t first;
  const int h = static_cast<int>(blockIdx.y);
  if (threadIdx.x < 32) {
    unsigned long long before = 0;
    for (int i = static_cast<int>(threadIdx.x); i < h; i += 32) before += layer.shape.of(layer.pages.at(0, i)).total();
    for (int step = 16; step > 0; step /= 2) before += __shfl_xor_sync(0xffffffffu, before, step);
    first = static_cast<int64_t>(before);
  }
  __syncthreads();
  const accel_kv_head& head = layer.pages.at(0, h);
  const KvDense size = layer.shape.of(head);
  const int64_t begin = offset > first ? offset : first;
  const int64_t end = min(offset + n, first + size.total());
  constexpr int64_t word = sizeof(Word);
  const int64_t stride = word * threads * gridDim.x;
  for (int64_t at = begin + word * (blockIdx.x * threads + threadIdx.x); at < end; at += stride) {
    Word* page = reinterpret_cast<Word*>(layer.byte(head, size, at - first));
    Word* dense = reinterpret_cast<Word*>(bytes + (at - offset));
    if constexpr (to_pages) *page = *dense;
    else *dense = *page;
  }
}

template <bool to_pages>
int run_transfer(const accel_call* call, const char* name, int kv_at, int bytes_at) {
  const accel_kv& kv = *call->args[kv_at].kv;
  const int64_t n = dim(call, bytes_at, 0);
  call->ran(call, name);
  if (n == 0) return ACCEL_OK;
  const int64_t blocks = divide_up(n, 16ll * threads);
  const dim3 grid(static_cast<unsigned>(blocks < 512 ? blocks : 512), static_cast<unsigned>(kv.heads));
  const Layer layer = {kv_pages(kv), kv_dense_shape(kv)};
  uint8_t* bytes = data<uint8_t>(tensor(call, bytes_at));
  const auto launch = [&](auto* kernel) {
    kernel<<<grid, threads, 0, stream_of(call)>>>(layer, bytes, call->args[2].i, n);
    return launched(call);
  };
  return aligned({bytes}, {}, 4) ? launch(transfer<uint32_t, to_pages>) : launch(transfer<uint8_t, to_pages>);
}

// ---- kv_export  bytes:tensor u8[n], kv:kv+, offset:int

int kv_export(const accel_call* call) { return run_transfer<false>(call, "kv_export", 1, 0); }

// ---- kv_import  kv:kv+, bytes:tensor u8[n], offset:int

int kv_import(const accel_call* call) { return run_transfer<true>(call, "kv_import", 0, 1); }

// ---- kv_check  kv:kv+, limit:int: one thread a row

__global__ void __launch_bounds__(threads) check_records(const __grid_constant__ KvPages kv, int limit, int tallies,
                                                         accel_device_error* error, int32_t position_check,
                                                         int32_t tally_check) {
  const accel_kv_head& head = kv.at(0, static_cast<int>(blockIdx.y));
  const int row = static_cast<int>(blockIdx.x) * threads + static_cast<int>(threadIdx.x);
  if (row >= head.rows) return;
  const int32_t* record = kv.record(head, row);
  const int32_t previous = row > 0 ? kv.position(head, row - 1) : -1;
  if (record[0] <= previous || record[0] >= limit) accel_report(error, position_check, row, record[0]);
  for (int t = 0; t < tallies; t++) {
    if ((record[1 + t] & 0x7fffffff) > 0x7f800000) accel_report(error, tally_check, row, t);
  }
}

int kv_check(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  call->ran(call, "kv_check");
  if (kv.record_bytes == 0 || kv.row_limit == 0) return ACCEL_OK;
  const int32_t position_check = call->device_check(
      call, "ERR_ACCEL_ARGUMENT",
      "kv_check: row %lld has position %lld; positions must ascend from 0 and be below the limit");
  const int32_t tally_check = call->device_check(call, "ERR_ACCEL_NAN", "kv_check: in row %lld, tally %lld is NaN");
  const dim3 grid(static_cast<unsigned>(divide_up(kv.row_limit, threads)), static_cast<unsigned>(kv.heads));
  check_records<<<grid, threads, 0, stream_of(call)>>>(kv_pages(kv), static_cast<int>(call->args[1].i), kv.tallies,
                                                       call->device_error, position_check, tally_check);
  return launched(call);
}

const OpKernel kernels[] = {{"kv_export", kv_export}, {"kv_import", kv_import}, {"kv_check", kv_check}};

}  // namespace

OpKernels kv_transfer_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
