// Words that go to many places on the device in one launch: page numbers into tables, heads into their array.
#ifndef ACCEL_CUDA_RUNTIME_SCATTER_H
#define ACCEL_CUDA_RUNTIME_SCATTER_H

#include <vector>

#include "common/command.h"
#include "cuda/runtime/device_code.h"
#include "cuda/runtime/pinned.h"

namespace accel::cuda {

class Scatter {
 public:
  Scatter(UploadRing& ring, cudaStream_t stream) : ring_(ring), stream_(stream) {}

  void add(void* to, const void* from, size_t bytes);  // whole words
  // A command's new entries of page lists; the command has them no longer.
  void add_tables(Command& command);
  // Launches what was added, if anything.
  void launch();

 private:
  void launch_part(size_t begin, size_t end);

  UploadRing& ring_;
  cudaStream_t stream_;
  std::vector<ScatterRun> runs_;
  std::vector<uint32_t> words_;
};

}  // namespace accel::cuda
#endif
