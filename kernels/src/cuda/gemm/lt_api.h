// The part of the cuBLASLt API that we use, declared from its documentation (docs.nvidia.com/cuda/cublas, "Using the
// cuBLASLt API") so that neither the headers nor the library are needed to build. Values are part of that ABI and the
// same in CUDA 12 and 13. Handles are opaque pointers.
#ifndef ACCEL_CUDA_GEMM_LT_API_H
#define ACCEL_CUDA_GEMM_LT_API_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

namespace accel::cuda::lt {

using Handle = void*;
using MatmulDesc = void*;
using MatrixLayout = void*;
using Preference = void*;
using Status = int;                       // cublasStatus_t, 0 = success

enum : int { kCompute32F = 68 };          // cublasComputeType_t: fp32, no TF32
enum : int { kReal32F = 0, kReal16F = 2, kReal16BF = 14 };                               // cudaDataType_t
enum : int32_t { kOpTranspose = 1 };      // cublasOperation_t
enum : int {                              // cublasLtMatmulDescAttributes_t
  kDescTransA = 3,                        // int32_t
  kDescEpilogue = 7,                      // uint32_t
  kDescBiasPointer = 8                    // const void*
};
enum : uint32_t { kEpilogueDefault = 1, kEpilogueBias = 4 };                             // cublasLtEpilogue_t
enum : int {                              // cublasLtMatmulPreferenceAttributes_t
  kPrefMaxWorkspaceBytes = 1,             // uint64_t
  kPrefReductionSchemeMask = 3,           // uint32_t
  kPrefMinAlignmentA = 5,                 // uint32_t, and B, C, D: bytes
  kPrefMinAlignmentB = 6,
  kPrefMinAlignmentC = 7,
  kPrefMinAlignmentD = 8
};
enum : uint32_t { kReductionComputeType = 2 };                                           // cublasLtReductionScheme_t

struct Algorithm {                        // cublasLtMatmulAlgo_t
  uint64_t data[8];
};
struct HeuristicResult {                  // cublasLtMatmulHeuristicResult_t
  Algorithm algorithm;
  size_t workspace;
  Status state;
  float waves;
  int reserved[4];
};

struct Api {
  Status (*create)(Handle*);
  size_t (*version)();
  Status (*desc_create)(MatmulDesc*, int compute, int scale_type);
  Status (*desc_destroy)(MatmulDesc);
  Status (*desc_set)(MatmulDesc, int attribute, const void* value, size_t bytes);
  Status (*layout_create)(MatrixLayout*, int type, uint64_t rows, uint64_t columns, int64_t leading);
  Status (*layout_destroy)(MatrixLayout);
  Status (*preference_create)(Preference*);
  Status (*preference_destroy)(Preference);
  Status (*preference_set)(Preference, int attribute, const void* value, size_t bytes);
  Status (*heuristic)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d, Preference,
                      int requested, HeuristicResult* results, int* returned);
  Status (*check)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d, const Algorithm*,
                  HeuristicResult* result);
  Status (*matmul)(Handle, MatmulDesc, const void* alpha, const void* a, MatrixLayout, const void* b, MatrixLayout,
                   const void* beta, const void* c, MatrixLayout, void* d, MatrixLayout, const Algorithm*,
                   void* workspace, size_t workspace_bytes, cudaStream_t);
};

// The library, found once: at $ACCEL_CUBLASLT if that is set, else by name (.13, .12, unversioned), else in the usual
// folders of the toolkit. Null when there is none. `tried` then says what was looked for and why it failed.
const Api* load(const char** tried);

}  // namespace accel::cuda::lt
#endif
