// Brackets of ops as CUDA graphs. A decode step has some hundred kernels of a few microseconds each; launched one by
// one, the gaps between them would take as long as the weights take to be read.
//
// A bracket that comes for the first time runs op by op, the second time it is captured, and from then on replayed.
// Everything in a graph is constant but the heads of its caches: these lie in the graph's own memory and are written
// before each launch. A graph keeps no tensor alive: it is replayed only for commands with the same addresses, and those
// commands hold what is there.
#ifndef ACCEL_CUDA_RUNTIME_GRAPHS_H
#define ACCEL_CUDA_RUNTIME_GRAPHS_H

#include <memory>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "common/backend.h"
#include "cuda/runtime/graph_plan.h"
#include "cuda/runtime/memory.h"
#include "cuda/runtime/scatter.h"

namespace accel::cuda {

struct Graph {
  explicit Graph(DeviceMemory& memory) : memory(memory) {}
  ~Graph();
  Graph(const Graph&) = delete;

  DeviceMemory& memory;
  std::vector<uint64_t> key;
  uint64_t hash = 0;
  cudaGraphExec_t exec = nullptr;
  uint8_t* heads = nullptr;
  size_t heads_bytes = 0;
  std::vector<std::pair<void*, size_t>> blocks;  // what ops uploaded while they were captured
  KernelCounts kernels;
  bool reports = false;  // one of its kernels may report a data error
  uint64_t used = 0;     // round of the last replay
  uint64_t time = 0;     // of letting go, by the clock
};

class Graphs {
 public:
  Graphs(DeviceMemory& memory, Progress& progress, cudaStream_t stream)
      : memory_(memory), progress_(progress), stream_(stream) {}

  GraphStep find(Command* const* ops, size_t count);
  // Never throws: what goes wrong makes capture_end return false.
  void capture_begin();
  // Points a command's KV arguments to the graph's memory; keeps what they pointed to in `bound`.
  void bind(Command& command, std::vector<std::pair<accel_kv*, const accel_kv_head*>>& bound);
  void* capture_memory(size_t bytes);
  bool capture_end(const Failure* failure, KernelCounts kernels, bool reports);
  // Launches the graph that was found or made, with what else is in `scatter`.
  const Graph& replay(Scatter& scatter);
  void eager(const char* reason);
  GraphCounts counts();

 private:
  void keep(std::unique_ptr<Graph> graph);
  void sweep();

  DeviceMemory& memory_;
  Progress& progress_;
  cudaStream_t stream_;
  GraphPlan plan_;                               // of the present bracket
  Graph* found_ = nullptr;                       // its graph
  std::vector<std::unique_ptr<Graph>> graphs_;
  std::vector<std::unique_ptr<Graph>> retired_;  // may still be running
  std::unordered_set<uint64_t> seen_;            // brackets that ran once
  std::unordered_set<uint64_t> refused_;         // brackets that cannot be captured
  uint64_t rounds_ = 0;

  std::optional<DeviceMemory::Capture> capture_;
  std::unique_ptr<Graph> making_;
  std::optional<Failure> failure_;
  size_t next_kv_ = 0;                           // KV argument that `bind` comes to next

  std::mutex mutex_;
  GraphCounts counts_;
};

}  // namespace accel::cuda
#endif
