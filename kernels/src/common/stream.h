// An in-order queue of work with one worker thread.
//
// One thread (the one that created the stream) enqueues; the worker runs the commands in order. The first error makes
// the stream skip everything up to the next signal, which hands the error to whoever waits and clears it.
#ifndef ACCEL_COMMON_STREAM_H
#define ACCEL_COMMON_STREAM_H

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "common/backend.h"
#include "common/command.h"

namespace accel {

class Stream final : public RefCounted {
 public:
  static Ref<Stream> create(Backend& backend);

  Backend& backend() const { return backend_; }

  // Producer side. `acquire` gives an empty command; it must be followed by `push` or `give_back`.
  Command* acquire();
  void push(Command* command);
  void give_back(Command* command);
  void push_task(std::function<void(StreamBackend&)> task, bool always = false);
  void push_signal(std::function<void(StreamBackend&, const Failure*)> signal);

  // Lets the worker end when everything enqueued has run. Nothing may be pushed afterwards.
  void close();
  // As close, but what has not started is dropped: the process or its thread is going away.
  void cancel() {
    cancelled_.store(true, std::memory_order_relaxed);
    close();
  }

  // Kernel name → how often it ran.
  std::map<std::string, int64_t> kernels();

 private:
  explicit Stream(Backend& backend);
  ~Stream() override;
  void work();
  void execute(Command& command);
  void run_op(Command& command);
  void remember(const Command& command, const Failure& error);
  void count(const char* name);
  Command* wait_for_next(Command* last);

  static void op_ran(const accel_call* call, const char* name);

  Backend& backend_;
  std::unique_ptr<StreamBackend> device_;

  // Queue: a linked list whose first node has already run. The producer owns tail_, the worker the head.
  Command* tail_;
  Command* first_;
  Command* spare_ = nullptr;  // producer's recycled commands
  alignas(64) std::atomic<Command*> used_{nullptr};
  alignas(64) std::atomic<uint32_t> asleep_{0};
  std::atomic<bool> closed_{false};
  std::atomic<bool> cancelled_{false};

  // Worker only.
  std::optional<Failure> error_;

  // Counters by the address of the kernel's name: written by compute threads, read by anyone.
  struct Counter {
    std::atomic<const char*> name{nullptr};
    std::atomic<int64_t> runs{0};
  };
  static constexpr size_t kCounters = 256;
  Counter counters_[kCounters];
  std::mutex overflow_mutex_;
  std::map<std::string, int64_t> overflow_;
};

// Runs an op's check on the caller's thread and throws what it reports.
void check_op(const accel_op& op, const accel_arg* args, int32_t nargs, accel_device device,
              int32_t threads);

}  // namespace accel
#endif
