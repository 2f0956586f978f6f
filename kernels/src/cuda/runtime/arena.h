// Scratch memory of a stream's ops. Ops run one after another, so each starts again at the beginning; memory that
// proved too small is replaced by one block that is large enough. Blocks that a graph was captured with stay.
#ifndef ACCEL_CUDA_RUNTIME_ARENA_H
#define ACCEL_CUDA_RUNTIME_ARENA_H

#include <vector>

#include "cuda/runtime/memory.h"

namespace accel::cuda {

class Arena {
 public:
  explicit Arena(DeviceMemory& memory) : memory_(memory) {}
  ~Arena();

  // 256-byte aligned, for the op that runs.
  void* take(size_t bytes);
  void op_done();
  // What is taken from here on is for a graph.
  void capturing(bool yes) { capturing_ = yes; }

 private:
  struct Block {
    uint8_t* data;
    size_t bytes;
    size_t used;
    bool captured;
  };
  DeviceMemory& memory_;
  std::vector<Block> blocks_;  // largest first
  size_t wanted_ = 4 << 20;    // size of the next block, at least
  bool capturing_ = false;
};

}  // namespace accel::cuda
#endif
