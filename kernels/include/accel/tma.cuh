// The tensor memory accelerator (sm_90): tensor maps on the host, box copies to shared memory on the device.
//
// A tensor map describes a strided tensor in global memory and the box that one copy takes from it. We use three
// dimensions, 16-bit elements, boxes 64 elements (128 bytes) wide and the 128-byte swizzle: row r of the box is at
// 128 * r in shared memory, and its 16-byte chunk c at place c ^ (r & 7). That is what wgmma reads (accel/wgmma.cuh); the
// destination is aligned to 1024 bytes. Elements of the box outside the tensor, before its start too, read as zero and
// count as bytes copied. CUDA driver API, cuTensorMapEncodeTiled; PTX ISA, cp.async.bulk.tensor.
#ifndef ACCEL_TMA_CUH
#define ACCEL_TMA_CUH

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "accel/mbarrier.cuh"

namespace accel::cuda {

using TensorMapEncode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                     const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                     CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// The driver's function, found through cudart so that nothing links to libcuda. Null: the driver is too old.
inline TensorMapEncode tensor_map_encode() {
  static const TensorMapEncode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
    if (error != cudaSuccess || found != cudaDriverEntryPointSuccess) function = nullptr;
    if (error != cudaSuccess) cudaGetLastError();
    return reinterpret_cast<TensorMapEncode>(function);
  }();
  return encode;
}

struct TensorShape {
  void* data;              // 16-byte aligned
  uint64_t size[3];        // in elements, the contiguous dimension first
  uint64_t stride[2];      // of dimensions 1 and 2, in bytes, multiples of 16
  uint32_t box[2];         // of dimensions 1 and 2; dimension 0: 64
};

inline CUresult make_tensor_map(CUtensorMap* map, CUtensorMapDataType type, const TensorShape& shape) {
  const TensorMapEncode encode = tensor_map_encode();
  if (encode == nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  const cuuint64_t size[3] = {shape.size[0], shape.size[1], shape.size[2]};
  const cuuint64_t stride[2] = {shape.stride[0], shape.stride[1]};
  const cuuint32_t box[3] = {64, shape.box[0], shape.box[1]};
  const cuuint32_t step[3] = {1, 1, 1};
  return encode(map, type, 3, shape.data, size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

__device__ inline void prefetch_tensor_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// How long L2 should keep what a copy reads.
__device__ inline uint64_t keep_in_l2() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ inline uint64_t read_once() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Starts the copy of the box whose first element is (x, y, z); its bytes are counted by `barrier`.
__device__ inline void tma_load(void* to, const CUtensorMap* map, uint64_t* barrier, int x, int y, int z,
                                uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "l"(policy)
      : "memory");
}

}  // namespace accel::cuda
#endif
