#include "cuda/runtime/stream.h"

#include <algorithm>
#include <cstring>

#include "cuda/runtime/kv.h"

namespace accel::cuda {
namespace {

constexpr size_t kSmallUpload = 64 << 10;  // these never wait
constexpr int64_t kMarkEvery = 32;         // ops

void no_parallel(const accel_call*, int64_t, int64_t, accel_range_fn, void*) {
  fail("ERR_ACCEL_INTERNAL", "a CUDA op asked for CPU threads");
}

}  // namespace

thread_local CudaStream* CudaStream::current_ = nullptr;

CudaStream::CudaStream(CudaBackend& backend) : backend_(backend), progress_(std::make_shared<Progress>()) {
  DeviceMemory& memory = backend_.memory();
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  error_ = static_cast<accel_device_error*>(memory.take(sizeof(accel_device_error), "a stream", FirstUse::host));
  accel_device_error none = {};
  backend_.staging().fill(error_, &none, sizeof none);
  ring_ = std::make_unique<UploadRing>(stream_);
  scatter_ = std::make_unique<Scatter>(*ring_, stream_);
  arena_ = std::make_unique<Arena>(memory);
  graphs_ = std::make_unique<Graphs>(memory, *progress_, stream_);
  waiter_ = std::make_unique<Waiter>(backend_.properties().index, *progress_, checks_);
  memory.clock().add(progress_);
  if (!memory.clock().one_stream()) {
    // Until now memory may have been given out before the work on it was done, for the one stream there was.
    std::lock_guard lock(memory.capture_mutex());
    check(cudaDeviceSynchronize(), "waiting for the device");
  }
}

CudaStream::~CudaStream() {
  waiter_.reset();
  if (exiting()) {
    (void)graphs_.release();  // CUDA is gone: everything goes with the process
    (void)ring_.release();
    return;
  }
  cudaSetDevice(backend_.properties().index);
  cudaStreamSynchronize(stream_);
  backend_.memory().clock().remove(progress_);
  graphs_.reset();
  arena_.reset();
  ring_.reset();
  backend_.memory().give(error_, sizeof(accel_device_error));
  cudaStreamDestroy(stream_);
}

void CudaStream::launching() {
  if (exiting()) fail("ERR_ACCEL_ABORTED", "the process is ending");
  backend_.use();
  progress_->launch(backend_.memory().clock().tick());
}

void CudaStream::launched(int64_t launches) {
  unmarked_ += launches;
  if (unmarked_ < kMarkEvery) return;
  unmarked_ = 0;
  progress_->mark(stream_, backend_.memory().clock().now());
}

void CudaStream::prepare(accel_call& call, Command& command) {
  inside_.emplace();
  launching();
  current_ = this;
  op_ = command.op;
  const Properties& properties = backend_.properties();
  call.device = backend_.device();
  call.threads = 1;
  call.stream = stream_;
  call.parallel = no_parallel;
  call.scratch = [](const accel_call*, size_t bytes) { return current_->arena_->take(bytes); };
  call.upload = [](const accel_call*, const void* host, size_t bytes) { return current_->upload_for_op(host, bytes); };
  call.device_check = [](const accel_call*, const char* code, const char* format) {
    current_->may_report_ = true;
    return current_->checks_.add(current_->op_->name, code, format);
  };
  call.device_error = error_;
  call.capability = properties.capability;
  call.multiprocessors = properties.multiprocessors;
  bind(command);
}

void CudaStream::bind(Command& command) {
  if (capturing_) {
    graphs_->bind(command, bound_);
    return;
  }
  scatter_->add_tables(command);
  std::optional<Failure> failure;
  for (int32_t i = 0; i < command.nargs; i++) {
    if (command.args[i].kind != ACCEL_ARG_KV) continue;
    auto& kv = const_cast<accel_kv&>(*command.args[i].kv);
    kv.row_limit = row_limit(kv);
    size_t bytes = heads_bytes(kv);
    try {
      void* heads = arena_->take(bytes);
      scatter_->add(heads, kv.device_head, bytes);
      bound_.emplace_back(&kv, std::exchange(kv.device_head, static_cast<accel_kv_head*>(heads)));
    } catch (const Failure& error) {
      failure = error;
      break;
    }
  }
  scatter_->launch();  // in any case: the tables must not miss anything
  if (failure) throw std::move(*failure);
}

void CudaStream::op_done() {
  for (auto [kv, head] : bound_) kv->device_head = head;
  bound_.clear();
  arena_->op_done();
  inside_.reset();
  op_ = nullptr;
  if (!capturing_ && !exiting()) {
    try {
      launched(1);
    } catch (const Failure&) {
      // Called from a destructor. The error stays with the device: the next launch or signal finds it.
    }
  }
}

void CudaStream::update_tables(Command& command) {
  if (command.table_runs.empty()) return;
  launching();
  scatter_->add_tables(command);
  scatter_->launch();
}

const void* CudaStream::upload_for_op(const void* host, size_t bytes) {
  if (capturing_) {
    void* device = graphs_->capture_memory(bytes);
    if (bytes > 0) backend_.staging().fill(device, host, bytes);
    return device;
  }
  auto* device = static_cast<uint8_t*>(arena_->take(bytes));
  small_upload(device, static_cast<const uint8_t*>(host), bytes);
  return device;
}

void CudaStream::small_upload(uint8_t* device, const uint8_t* host, size_t bytes) {
  while (bytes > 0) {
    size_t part = std::min(bytes, UploadRing::kMost);
    uint8_t* slot = ring_->take(part);
    std::memcpy(slot, host, part);
    check(cudaMemcpyAsync(device, slot, part, cudaMemcpyHostToDevice, stream_), "copying to the device");
    device += part;
    host += part;
    bytes -= part;
  }
}

void CudaStream::upload(void* device, const void* host, size_t bytes) {
  launching();
  if (bytes <= kSmallUpload) {
    small_upload(static_cast<uint8_t*>(device), static_cast<const uint8_t*>(host), bytes);
  } else {
    backend_.staging().copy(device, host, bytes, stream_);
  }
  launched(1);
}

void CudaStream::download(void* host, const void* device, size_t bytes) {
  launching();
  uint8_t* pinned = PinnedBlocks::instance().take(bytes);
  downloads_.push_back({pinned, host, bytes});
  check(cudaMemcpyAsync(pinned, device, bytes, cudaMemcpyDeviceToHost, stream_), "copying from the device");
}

void CudaStream::copy_pages(uint8_t* base, size_t page_bytes, const int32_t* pairs, size_t count) {
  launching();
  constexpr size_t kMost = UploadRing::kMost / (2 * sizeof(int32_t));
  while (count > 0) {
    size_t part = std::min(count, kMost);
    uint8_t* slot = ring_->take(part * 2 * sizeof(int32_t));
    std::memcpy(slot, pairs, part * 2 * sizeof(int32_t));
    check(launch_copy_pages(base, page_bytes, reinterpret_cast<int32_t*>(slot), static_cast<int>(part), stream_),
          "copying pages");
    pairs += 2 * part;
    count -= part;
  }
  launched(1);
}

void CudaStream::discard_chunks(uint8_t* base, const std::vector<size_t>& chunks, uint64_t number) {
  Arrival arrival;
  arrival.done = [&pages = backend_.pages(), base, chunks, number](const Failure* failure) {
    if (!failure) pages.discard(base, chunks, number);
  };
  arrive(std::move(arrival));
}

void CudaStream::then(std::function<void(const Failure*)> done) {
  Arrival arrival;
  arrival.done = std::move(done);
  arrival.downloads.swap(downloads_);
  try {
    if (may_report_ && !exiting()) {
      launching();
      arrival.error =
          reinterpret_cast<accel_device_error*>(PinnedBlocks::instance().take(sizeof(accel_device_error)));
      *arrival.error = {};
      check(launch_take_error(error_, arrival.error, stream_), "asking for data errors");
      may_report_ = false;
    }
  } catch (const Failure& failure) {
    arrival.failure = failure;
  }
  arrive(std::move(arrival));
}

void CudaStream::arrive(Arrival arrival) {
  try {
    if (exiting()) fail("ERR_ACCEL_ABORTED", "the process is ending");
    if (!arrival.failure) {
      backend_.use();
      arrival.time = backend_.memory().clock().now();
      arrival.event.record(stream_);
    }
  } catch (const Failure& failure) {
    arrival.failure = failure;
  }
  unmarked_ = 0;  // the waiter will know
  waiter_->add(std::move(arrival));
}

GraphStep CudaStream::graph_find(Command* const* ops, size_t count) { return graphs_->find(ops, count); }

void CudaStream::capture_begin() {
  backend_.use();
  capturing_ = true;
  arena_->capturing(true);
  reported_before_ = std::exchange(may_report_, false);
  graphs_->capture_begin();
}

bool CudaStream::capture_end(const Failure* failure, KernelCounts counts) {
  capturing_ = false;
  arena_->capturing(false);
  bool made = graphs_->capture_end(failure, std::move(counts), may_report_);
  may_report_ = reported_before_;
  return made;
}

const KernelCounts& CudaStream::graph_replay(Command* const* ops, size_t count) {
  InsideCuda inside;
  launching();
  for (size_t i = 0; i < count; i++) scatter_->add_tables(*ops[i]);
  const Graph& graph = graphs_->replay(*scatter_);
  may_report_ |= graph.reports;
  launched(kMarkEvery);
  return graph.kernels;
}

}  // namespace accel::cuda
