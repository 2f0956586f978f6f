// A kind of device. The CPU is the first; others are shared libraries found at run time (see backend_registry.h), so
// the addon links none of them. Everything above this line of the runtime (tensors, streams, pages, ops) is the same
// for all devices.
#ifndef ACCEL_COMMON_BACKEND_H
#define ACCEL_COMMON_BACKEND_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "accel/op.h"
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

// One in-order queue of work of a device. All functions are called by the stream's worker thread only.
class StreamBackend {
 public:
  virtual ~StreamBackend() = default;
  // Fills in the parts of a call that belong to the device: device, threads, stream, parallel, scratch.
  virtual void prepare(accel_call& call) = 0;
  // The function of an op for this device; NULL when the op has none.
  virtual accel_op_fn function(const accel_op& op) const = 0;
  // After each op: scratch memory is free again.
  virtual void op_done() = 0;
  // Copies between host and device memory. The host memory may be reused when they return.
  virtual void upload(void* device, const void* host, size_t bytes) = 0;
  virtual void download(void* host, const void* device, size_t bytes) = 0;
  // Copies whole pages inside one pool: page pairs[2i] to page pairs[2i + 1].
  virtual void copy_pages(uint8_t* base, size_t page_bytes, const int32_t* pairs, size_t count) = 0;
  // Gives the memory behind free pages back; their content is lost. runs = (first page, pages) pairs.
  virtual void discard_pages(uint8_t* base, size_t page_bytes, const int32_t* runs, size_t count) = 0;
  // Returns when all work so far is done; throws what went wrong in it.
  virtual void wait() = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual accel_device device() const = 0;
  virtual DeviceInfo info() const = 0;
  // Throws when the device cannot be used as configured (bad environment variable, unsupported level).
  virtual void check() const = 0;

  // Memory for a tensor, aligned to 64 bytes. Throws ERR_ACCEL_OUT_OF_MEMORY; `what` names it there.
  virtual void* allocate(size_t bytes, const char* what) = 0;
  virtual void release(void* data, size_t bytes) = 0;
  // Fills fresh memory that no stream has seen yet.
  virtual void fill(void* device, const void* host, size_t bytes) = 0;
  // Address space for a page pool. Memory is taken when a page is first written.
  virtual uint8_t* reserve_pages(size_t bytes) = 0;
  virtual void release_pages(uint8_t* base, size_t bytes) = 0;

  virtual std::unique_ptr<StreamBackend> create_stream() = 0;

  Ledger& ledger() { return ledger_; }

 private:
  Ledger ledger_;
};

}  // namespace accel
#endif
