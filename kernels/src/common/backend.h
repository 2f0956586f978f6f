// A kind of device. The CPU is the first; others are shared libraries found at run time (see backend_registry.h), so
// the addon links none of them. Everything above this line of the runtime (tensors, streams, pages, ops) is the same
// for all devices.
#ifndef ACCEL_COMMON_BACKEND_H
#define ACCEL_COMMON_BACKEND_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "accel/op.h"
#include "common/command.h"
#include "common/memory.h"

namespace accel {

struct DeviceInfo {
  std::string id;    // what Device.open takes: "cpu", "cuda:0"
  std::string kind;  // "cpu", "cuda"
  std::string name;
  std::string isa;
  int threads;
  MemoryInfo memory;
};

// What became of the brackets of Stream.graph().
struct GraphCounts {
  int64_t captured = 0;
  int64_t replayed = 0;
  int64_t eager = 0;
  std::string reason;  // why one was not captured, last
};

// How often each kernel ran, by the address of its name.
using KernelCounts = std::vector<std::pair<const char*, int64_t>>;

enum class GraphStep { eager, capture, replay };

// One in-order queue of work of a device. Functions are called by the stream's worker thread only, unless they say
// otherwise. They start work and do not wait for it; `then` tells when it is done.
class StreamBackend {
 public:
  virtual ~StreamBackend() = default;
  // Fills in the parts of a call that belong to the device, and of the command's KV arguments.
  virtual void prepare(accel_call& call, Command& command) = 0;
  // Brings page lists up to date for a command that will not run.
  virtual void update_tables(Command&) {}
  // The function of an op for this device; NULL when the op has none.
  virtual accel_op_fn function(const accel_op& op) const = 0;
  // After each op: scratch memory is free again.
  virtual void op_done() = 0;
  // Copies to device memory. The host memory may be reused when it returns.
  virtual void upload(void* device, const void* host, size_t bytes) = 0;
  // Copies to host memory, which holds the data when the function next given to `then` runs.
  virtual void download(void* host, const void* device, size_t bytes) = 0;
  // Copies whole pages inside one pool: page pairs[2i] to page pairs[2i + 1].
  virtual void copy_pages(uint8_t* base, size_t page_bytes, const int32_t* pairs, size_t count) = 0;
  // Gives the memory behind free pages back; their content is lost. runs = (first page, pages) pairs. Only for devices
  // whose pools are not committed in chunks.
  virtual void discard_pages(uint8_t*, size_t, const int32_t*, size_t) {}
  // Gives chunks back that `Backend::mark_discard` was told of, when work so far is done.
  virtual void discard_chunks(uint8_t*, const std::vector<size_t>&, uint64_t) {}
  // Calls `done` when all work so far is done, with what went wrong in it or NULL; on some thread, in order, maybe at
  // once.
  virtual void then(std::function<void(const Failure*)> done) = 0;

  // Brackets of ops that repeat. `graph_find` says what to do with one: run its ops, run them between `capture_begin`
  // and `capture_end` and then replay, or replay what was captured. `capture_end` returns whether there is a graph now;
  // `failure` says why there cannot be one.
  virtual bool has_graphs() const { return false; }
  virtual GraphStep graph_find(Command* const*, size_t) { return GraphStep::eager; }
  virtual void capture_begin() {}
  virtual bool capture_end(const Failure*, KernelCounts) { return false; }
  virtual const KernelCounts& graph_replay(Command* const*, size_t) { return no_kernels_; }
  virtual void graph_eager(const char*) {}
  // From any thread.
  virtual GraphCounts graph_counts() { return {}; }

 private:
  KernelCounts no_kernels_;
};

// Who first touches fresh memory: work of a stream, or the host. Memory whose last work has been launched but is not
// done can go to the former.
enum class FirstUse { stream, host };

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string id() const = 0;
  virtual accel_device device() const = 0;
  virtual DeviceInfo info() const = 0;
  // Throws when the device cannot be used as configured (bad environment variable, unsupported level).
  virtual void check() const = 0;

  // Memory for a tensor, aligned to 64 bytes. Throws ERR_ACCEL_OUT_OF_MEMORY; `what` names it there.
  virtual void* allocate(size_t bytes, const char* what, FirstUse use) = 0;
  // From any thread; work that was launched before may still use the memory.
  virtual void release(void* data, size_t bytes) = 0;
  // Fills fresh memory that no stream has seen yet; it was allocated for FirstUse::host.
  virtual void fill(void* device, const void* host, size_t bytes) = 0;
  virtual void reset_peak() {}

  // Address space for a page pool. Where page_chunk() is 0, memory is taken when a page is first written.
  virtual uint8_t* reserve_pages(size_t bytes) = 0;
  virtual void release_pages(uint8_t* base, size_t bytes) = 0;
  // Elsewhere it is taken in chunks of page_chunk() bytes: commit_pages puts memory behind one, unless it has some.
  virtual size_t page_chunk() const { return 0; }
  virtual void commit_pages(uint8_t* /*base*/, size_t /*offset*/, size_t /*bytes*/) {}
  // Says that chunks hold no pages now. Their memory goes when the stream comes to discard_chunks with the number that
  // this returns, except for those that were committed again in between.
  virtual uint64_t mark_discard(uint8_t* /*base*/, const std::vector<size_t>& /*chunks*/) { return 0; }

  virtual std::unique_ptr<StreamBackend> create_stream() = 0;

  Ledger& ledger() { return ledger_; }

 private:
  Ledger ledger_;
};

}  // namespace accel
#endif
