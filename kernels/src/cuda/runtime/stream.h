// A CUDA stream as a queue of the runtime: the worker launches and goes on; the waiter tells what is done.
#ifndef ACCEL_CUDA_RUNTIME_STREAM_H
#define ACCEL_CUDA_RUNTIME_STREAM_H

#include <memory>
#include <optional>
#include <vector>

#include "common/backend.h"
#include "cuda/runtime/arena.h"
#include "cuda/runtime/backend.h"
#include "cuda/runtime/check.h"
#include "cuda/runtime/checks.h"
#include "cuda/runtime/graphs.h"
#include "cuda/runtime/scatter.h"
#include "cuda/runtime/waiter.h"

namespace accel::cuda {

class CudaStream final : public StreamBackend {
 public:
  explicit CudaStream(CudaBackend& backend);
  ~CudaStream() override;

  void prepare(accel_call& call, Command& command) override;
  void update_tables(Command& command) override;
  accel_op_fn function(const accel_op& op) const override { return op.cuda; }
  void op_done() override;
  void upload(void* device, const void* host, size_t bytes) override;
  void download(void* host, const void* device, size_t bytes) override;
  void copy_pages(uint8_t* base, size_t page_bytes, const int32_t* pairs, size_t count) override;
  void discard_chunks(uint8_t* base, const std::vector<size_t>& chunks, uint64_t number) override;
  void then(std::function<void(const Failure*)> done) override;

  bool has_graphs() const override { return true; }
  GraphStep graph_find(Command* const* ops, size_t count) override;
  void capture_begin() override;
  bool capture_end(const Failure* failure, KernelCounts counts) override;
  const KernelCounts& graph_replay(Command* const* ops, size_t count) override;
  void graph_eager(const char* reason) override { graphs_->eager(reason); }
  GraphCounts graph_counts() override { return graphs_->counts(); }

 private:
  void launching();
  void launched(int64_t launches);
  void bind(Command& command);
  const void* upload_for_op(const void* host, size_t bytes);
  void small_upload(uint8_t* device, const uint8_t* host, size_t bytes);
  // Has `done` called when the work so far is done.
  void arrive(Arrival arrival);

  // The stream whose op runs on this thread.
  static thread_local CudaStream* current_;

  CudaBackend& backend_;
  cudaStream_t stream_ = nullptr;
  accel_device_error* error_ = nullptr;  // device memory
  std::shared_ptr<Progress> progress_;
  Checks checks_;
  std::unique_ptr<Waiter> waiter_;
  std::unique_ptr<UploadRing> ring_;
  std::unique_ptr<Scatter> scatter_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Graphs> graphs_;

  std::optional<InsideCuda> inside_;     // while an op runs
  const accel_op* op_ = nullptr;         // that runs
  std::vector<std::pair<accel_kv*, const accel_kv_head*>> bound_;  // KV arguments and what device_head was
  std::vector<Download> downloads_;      // since the last `then`
  bool may_report_ = false;              // a kernel with a data check was launched since the last `then`
  bool capturing_ = false;
  bool reported_before_ = false;         // may_report_ when the capture began
  int64_t unmarked_ = 0;                 // launches since the last mark
};

}  // namespace accel::cuda
#endif
