// The driver's functions for virtual memory, asked for at run time: the library does not link the driver, so that it
// loads where there is none.
#ifndef ACCEL_CUDA_RUNTIME_DRIVER_H
#define ACCEL_CUDA_RUNTIME_DRIVER_H

#include <cuda.h>

#include <cstddef>

namespace accel::cuda {

struct Driver {
  CUresult (*error_string)(CUresult, const char**);
  CUresult (*granularity)(size_t*, const CUmemAllocationProp*, CUmemAllocationGranularity_flags);
  CUresult (*reserve)(CUdeviceptr*, size_t, size_t, CUdeviceptr, unsigned long long);
  CUresult (*free_reserved)(CUdeviceptr, size_t);
  CUresult (*create)(CUmemGenericAllocationHandle*, size_t, const CUmemAllocationProp*, unsigned long long);
  CUresult (*release)(CUmemGenericAllocationHandle);
  CUresult (*map)(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long);
  CUresult (*unmap)(CUdeviceptr, size_t);
  CUresult (*set_access)(CUdeviceptr, size_t, const CUmemAccessDesc*, size_t);
};

// Throws ERR_ACCEL_INTERNAL when the driver lacks one.
const Driver& driver();

// Throws ERR_ACCEL_INTERNAL with the driver's text.
void check(CUresult result, const char* what);

}  // namespace accel::cuda
#endif
