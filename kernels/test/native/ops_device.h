// Running the op tests' cases on CUDA: tensors and the cache are copied to the device, the op's CUDA function is called
// as the runtime would call it, and what it left is copied back.
#ifndef ACCEL_TEST_OPS_DEVICE_H
#define ACCEL_TEST_OPS_DEVICE_H

#include <string>
#include <vector>

#include "accel/op.h"

namespace test {

// Bytes behind a tensor (and behind the cache's pages) that must survive every op; they hold 0xee.
constexpr int guard_bytes = 64;

// What the cases run on, and how.
struct Setup {
  bool cuda = false;
  bool small = false;      // sizes for a sanitizer that makes everything a hundred times slower
  bool stale = false;      // CUDA: host row counts are those of an earlier step, as in a replayed graph
  int shift = 0;           // CUDA: tensors start this many elements behind a 256-byte boundary
};
inline Setup setup;

// Empty if there is a device to test on, else why not.
std::string no_cuda();

// Runs the CUDA function of `op`. "" if all went well, else "CODE: message".
std::string run_on_cuda(const char* op, const std::vector<accel_arg>& args, std::vector<std::string>& kernels);

// The device's name and capability, for the report.
std::string cuda_name();

}  // namespace test
#endif
