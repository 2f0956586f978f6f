// What a bracket of ops is, without what may change between two rounds of it: rows and page lists.
#ifndef ACCEL_CUDA_RUNTIME_GRAPH_PLAN_H
#define ACCEL_CUDA_RUNTIME_GRAPH_PLAN_H

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/command.h"

namespace accel::cuda {

// Many ops of a step see the same heads (a layer's append and its attention): they share a slot, and the heads of a
// slot go to the device once. Which arguments share is part of the key.
struct GraphPlan {
  // Ops, tensors (address, dtype, shape), numbers, lists, geometry and row limit of caches.
  std::vector<uint64_t> key;
  uint64_t hash = 0;
  struct Slot {
    const accel_kv* kv;  // one of those that share it
    size_t offset;       // in the graph's array of heads, in bytes
  };
  std::vector<Slot> slots;
  std::vector<size_t> slot_of;  // each KV argument, in order
  size_t heads_bytes = 0;

  void make(Command* const* ops, size_t count);

 private:
  void put(const accel_arg& arg);
  void put_kv(const accel_kv& kv);
};

}  // namespace accel::cuda
#endif
