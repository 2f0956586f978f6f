#include "cuda/runtime/graphs.h"

#include <algorithm>

#include "cuda/runtime/check.h"
#include "cuda/runtime/kv.h"

namespace accel::cuda {
namespace {

constexpr size_t kMostGraphs = 16;
constexpr size_t kMostSeen = 4096;

void remember(std::unordered_set<uint64_t>& set, uint64_t hash) {
  if (set.size() >= kMostSeen) set.clear();
  set.insert(hash);
}

}  // namespace

Graph::~Graph() {
  if (exiting()) return;
  if (exec) cudaGraphExecDestroy(exec);
  if (heads) memory.give(heads, heads_bytes);
  for (auto [block, bytes] : blocks) memory.give(block, bytes);
}

GraphStep Graphs::find(Command* const* ops, size_t count) {
  sweep();
  plan_.make(ops, count);
  found_ = nullptr;
  for (auto& graph : graphs_) {
    if (graph->hash == plan_.hash && graph->key == plan_.key) found_ = graph.get();
  }
  if (found_) return GraphStep::replay;
  if (seen_.contains(plan_.hash) && !refused_.contains(plan_.hash)) return GraphStep::capture;
  remember(seen_, plan_.hash);
  std::lock_guard lock(mutex_);
  counts_.eager++;
  return GraphStep::eager;
}

void Graphs::capture_begin() {
  failure_.reset();
  next_kv_ = 0;
  try {
    making_ = std::make_unique<Graph>(memory_);
    making_->key = plan_.key;
    making_->hash = plan_.hash;
    making_->heads_bytes = plan_.heads_bytes;
    if (plan_.heads_bytes > 0) {
      making_->heads = static_cast<uint8_t*>(memory_.take(plan_.heads_bytes, "a CUDA graph", FirstUse::stream));
    }
    capture_.emplace(memory_);
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "beginning to capture a graph");
  } catch (const Failure& failure) {
    capture_.reset();
    failure_ = failure;
  }
}

void Graphs::bind(Command& command, std::vector<std::pair<accel_kv*, const accel_kv_head*>>& bound) {
  if (failure_) throw Failure(*failure_);
  for (int32_t i = 0; i < command.nargs; i++) {
    if (command.args[i].kind != ACCEL_ARG_KV) continue;
    auto& kv = const_cast<accel_kv&>(*command.args[i].kv);
    const GraphPlan::Slot& slot = plan_.slots[plan_.slot_of[next_kv_++]];
    kv.row_limit = row_limit(kv);
    auto* heads = reinterpret_cast<const accel_kv_head*>(making_->heads + slot.offset);
    bound.emplace_back(&kv, std::exchange(kv.device_head, heads));
  }
}

void* Graphs::capture_memory(size_t bytes) {
  void* block = memory_.take(bytes, "a CUDA graph", FirstUse::host);
  making_->blocks.emplace_back(block, bytes);
  return block;
}

bool Graphs::capture_end(const Failure* failure, KernelCounts kernels, bool reports) {
  if (failure && !failure_) failure_ = *failure;
  if (capture_) {
    cudaGraph_t graph = nullptr;
    cudaError_t error = cudaStreamEndCapture(stream_, &graph);
    if (error == cudaSuccess && !failure_) error = cudaGraphInstantiate(&making_->exec, graph, 0);
    cudaGetLastError();
    if (graph) cudaGraphDestroy(graph);
    capture_.reset();
    if (error != cudaSuccess && !failure_) {
      failure_.emplace("ERR_ACCEL_INTERNAL", std::string("CUDA: ") + cudaGetErrorString(error));
    }
  }
  if (failure_) {
    making_.reset();
    remember(refused_, plan_.hash);
    std::lock_guard lock(mutex_);
    counts_.eager++;
    counts_.reason = failure_->message();
    return false;
  }
  making_->kernels = std::move(kernels);
  making_->reports = reports;
  found_ = making_.get();
  keep(std::move(making_));
  std::lock_guard lock(mutex_);
  counts_.captured++;
  return true;
}

void Graphs::keep(std::unique_ptr<Graph> graph) {
  graph->used = ++rounds_;
  if (graphs_.size() >= kMostGraphs) {
    auto oldest = std::min_element(graphs_.begin(), graphs_.end(), [](auto& a, auto& b) { return a->used < b->used; });
    (*oldest)->time = memory_.clock().now();
    retired_.push_back(std::move(*oldest));
    graphs_.erase(oldest);
  }
  graphs_.push_back(std::move(graph));
}

void Graphs::sweep() {
  std::erase_if(retired_, [&](auto& graph) { return progress_.past(graph->time); });
}

const Graph& Graphs::replay(Scatter& scatter) {
  for (const GraphPlan::Slot& slot : plan_.slots) {
    scatter.add(found_->heads + slot.offset, slot.kv->device_head, heads_bytes(*slot.kv));
  }
  scatter.launch();
  check(cudaGraphLaunch(found_->exec, stream_), "launching a graph");
  found_->used = ++rounds_;
  std::lock_guard lock(mutex_);
  counts_.replayed++;
  return *found_;
}

void Graphs::eager(const char* reason) {
  std::lock_guard lock(mutex_);
  counts_.eager++;
  counts_.reason = reason;
}

GraphCounts Graphs::counts() {
  std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace accel::cuda
