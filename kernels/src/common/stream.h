// An in-order queue of work with one worker thread.
//
// One thread (the one that created the stream) enqueues; the worker runs the commands in order. The first error makes
// the stream skip everything up to the next signal, which hands the error to whoever waits and clears it.
#ifndef ACCEL_COMMON_STREAM_H
#define ACCEL_COMMON_STREAM_H

#include <map>
#include <mutex>
#include <new>
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
  // Calls `start` as a task, if there is one, and `finish` with the first error since the last signal, or NULL, when
  // all work enqueued so far is done. `finish` runs on some thread, in order with that of other signals.
  using Start = std::function<void(StreamBackend&)>;
  using Finish = std::function<void(const Failure*)>;
  void push_signal(Start start, Finish finish);
  // Brackets ops that are likely to come again. When they do, a device that can replays them as one graph.
  void graph_begin() { push_kind(Command::Kind::graph_begin); }
  void graph_end() { push_kind(Command::Kind::graph_end); }

  // Lets the worker end when everything enqueued has run. Nothing may be pushed afterwards.
  void close();
  // As close, but what has not started is dropped: the process or its thread is going away.
  void cancel() {
    cancelled_.store(true, std::memory_order_relaxed);
    close();
  }

  // Kernel name → how often it ran.
  std::map<std::string, int64_t> kernels();
  GraphCounts graphs() { return device_->graph_counts(); }

 private:
  explicit Stream(Backend& backend);
  ~Stream() override;
  void work();
  void push_kind(Command::Kind kind);
  void recycle(Command* command);
  void execute(Command& command);
  void run(Command& command);
  void run_op(Command& command);
  void signal(Command& command);
  // Calls f and keeps what it throws as the stream's error.
  template <typename F>
  void guard(const Command& command, F&& f) {
    try {
      f();
    } catch (const Failure& error) {
      remember(command, error);
    } catch (const std::bad_alloc&) {
      remember(command, Failure("ERR_ACCEL_OUT_OF_MEMORY", "the process has no memory left"));
    } catch (const std::exception& error) {
      remember(command, Failure("ERR_ACCEL_INTERNAL", error.what()));
    } catch (...) {
      remember(command, Failure("ERR_ACCEL_INTERNAL", "a kernel threw something that is no exception"));
    }
  }
  void remember(const Command& command, const Failure& error);
  void count(const char* name, int64_t runs = 1);
  // True when the command was taken into the open bracket.
  bool collect(Command& command);
  void run_bracket(const char* eager_because);
  bool capture_bracket();
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
  bool collecting_ = false;              // inside a bracket, and ops are held back until its end
  std::vector<Command*> bracket_;        // ops held back
  KernelCounts* capturing_ = nullptr;    // takes the counts while ops are captured

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

// The failure with the op's name in its message, unless the op put it there.
Failure named(const accel_op& op, const Failure& error);

// Runs an op's check on the caller's thread and throws what it reports.
void check_op(const accel_op& op, const accel_arg* args, int32_t nargs, accel_device device,
              int32_t threads);

}  // namespace accel
#endif
