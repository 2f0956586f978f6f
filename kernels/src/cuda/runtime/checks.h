// What kernels may find wrong with data: they report a number, and this table knows the message.
#ifndef ACCEL_CUDA_RUNTIME_CHECKS_H
#define ACCEL_CUDA_RUNTIME_CHECKS_H

#include <mutex>
#include <optional>
#include <vector>

#include "accel/op.h"
#include "common/error.h"

namespace accel::cuda {

class Checks {
 public:
  // `op`, `code` and `format` live as long as the process. The same three give the same number.
  int32_t add(const char* op, const char* code, const char* format);
  // Nothing when no kernel reported anything.
  std::optional<Failure> found(const accel_device_error& error);

 private:
  struct Check {
    const char* op;
    const char* code;
    const char* format;
  };
  std::mutex mutex_;
  std::vector<Check> checks_;
};

}  // namespace accel::cuda
#endif
