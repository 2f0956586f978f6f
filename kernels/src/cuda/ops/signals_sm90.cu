// Column sums of the attention matrix for Hopper: TMA, wgmma and warp specialisation. The mathematics is that of
// signals_columns.cuh, its twin for mma.sync.
//
// A block of threads has one producer warp, which loads queries (signals_sm90_producer.cuh), and two consumer
// warpgroups, which hold 128 keys each in registers, multiply and add up (signals_sm90_consumer.cuh). Keys are read
// once a block and straight from their pages, whatever the page size; a head may have a gap. Blocks of early keys have
// the most queries: ascending order is heaviest first.
#include "cuda/ops/signals_sm90_consumer.cuh"
#include "cuda/ops/signals_sm90_producer.cuh"

namespace accel::cuda {
namespace columns {

// Grid: (rows of out, blocks of 256 columns from p.begin on).
template <class T, int D>
__global__ void __launch_bounds__(kThreads, 1)
    column_sums_sm90(const Columns p, const __grid_constant__ CUtensorMap queries) {
  extern __shared__ __align__(1024) uint8_t memory[];
  Shared<D>& shared = *reinterpret_cast<Shared<D>*>(memory);
  if (threadIdx.x == 0) {
    prefetch_tensor_map(&queries);
    shared.initialise();
  }
  __syncthreads();
  const Steps steps(p);
  if (steps.count == 0) return;
  const int warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);  // the compiler sees that it is the warp's
  if (warpgroup == 0) {
    give_registers<kProducerRegisters>();
    if (threadIdx.x < 32) produce<D>(p, steps, shared, &queries);
  } else {
    take_registers<kConsumerRegisters>();
    consume<T, D>(p, steps, shared, warpgroup - 1);
  }
}

namespace {

template <class T, int D>
int launch(const accel_call* call, const Columns& p, int columns, const CUtensorMap& queries) {
  const auto kernel = column_sums_sm90<T, D>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared<D>));
  const dim3 grid(p.query_heads / p.block_heads, (columns + sm90_keys - 1) / sm90_keys);
  kernel<<<grid, kThreads, sizeof(Shared<D>), stream_of(call)>>>(p, queries);
  return launched(call);
}

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace
}  // namespace columns

bool columns_sm90_supports(const accel_call* call, const Columns& p, const accel_kv& kv) {
  return call->capability == 90 && kv.dtype.bits == 16 && (kv.head_dim == 64 || kv.head_dim == 128) &&
         p.queries > 0 && columns::aligned(p.q) && columns::aligned(kv.base) && kv.page_bytes % 16 == 0 &&
         tensor_map_encode() != nullptr;
}

int run_columns_sm90(const accel_call* call, const Columns& p, const accel_kv& kv, int columns) {
  const bool bfloat = kv.dtype.code == ACCEL_BFLOAT;
  const uint64_t d = kv.head_dim, heads = p.query_heads, row = p.pages.row_bytes;
  const TensorShape shape = {
      const_cast<void*>(p.q), {d, heads, static_cast<uint64_t>(p.queries)}, {row, row * heads}, {1, columns::kQueries}};
  CUtensorMap queries;
  const CUresult result =
      make_tensor_map(&queries, bfloat ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, shape);
  if (result != CUDA_SUCCESS) {
    return call->fail(call, "ERR_ACCEL_INTERNAL", "cuTensorMapEncodeTiled failed with %d", static_cast<int>(result));
  }
  const auto run = [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    return d == 128 ? columns::launch<T, 128>(call, p, columns, queries)
                    : columns::launch<T, 64>(call, p, columns, queries);
  };
  return bfloat ? run(static_cast<__nv_bfloat16*>(nullptr)) : run(static_cast<__half*>(nullptr));
}

}  // namespace accel::cuda
