#include "common/stream.h"

#include <cstdarg>
#include <cstdio>
#include <thread>
#include <utility>

#include "common/spin.h"

namespace accel {
namespace {

// How long an idle worker stays awake: longer than JavaScript needs between two tokens would cost a core all the time,
// much shorter would put a wake-up (about 50 µs) into every step.
constexpr std::chrono::microseconds kIdleSpin{60};

// The host side of one op call: what `fail` and `ran` write to.
struct Host {
  Stream* stream = nullptr;
  std::mutex mutex;
  std::optional<Failure> error;
  std::atomic<bool> named{false};

  void record(const char* code, std::string message) {
    std::lock_guard lock(mutex);
    if (!error) error.emplace(code ? code : "ERR_ACCEL_INTERNAL", std::move(message));
  }
};

std::string vformat(const char* format, va_list args) {
  char text[1024];
  std::vsnprintf(text, sizeof text, format, args);
  return text;
}

int record_failure(const accel_call* call, const char* code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  static_cast<Host*>(call->host)->record(code, vformat(format, args));
  va_end(args);
  return ACCEL_FAILED;
}

void no_parallel(const accel_call*, int64_t, int64_t, accel_range_fn, void*) {
  fail("ERR_ACCEL_INTERNAL", "the check of an op must not compute");
}

void* no_scratch(const accel_call*, size_t) {
  fail("ERR_ACCEL_INTERNAL", "the check of an op must not ask for scratch memory");
}

}  // namespace

Failure named(const accel_op& op, const Failure& error) {
  if (error.message().starts_with(std::string(op.name) + ":")) return error;
  return Failure(error.code(), std::string(op.name) + ": " + error.message());
}

Ref<Stream> Stream::create(Backend& backend) {
  Ref<Stream> stream(new Stream(backend));
  // The worker holds a reference of its own, so a stream outlives its handle until its work is done.
  std::thread([self = stream] { self->work(); }).detach();
  return stream;
}

Stream::Stream(Backend& backend) : backend_(backend), device_(backend.create_stream()) {
  first_ = tail_ = new Command;
}

Stream::~Stream() {
  // The worker has ended: what is left in the list is the command that ran last and those it recycled.
  for (Command* list : {first_, spare_, used_.load(std::memory_order_acquire)}) {
    while (list) {
      Command* next = list == first_ ? nullptr : list->recycled;
      list->clear();
      delete list;
      list = next;
    }
  }
}

Command* Stream::acquire() {
  if (!spare_) spare_ = used_.exchange(nullptr, std::memory_order_acquire);
  if (!spare_) return new Command;
  Command* command = spare_;
  spare_ = command->recycled;
  return command;
}

void Stream::give_back(Command* command) {
  command->clear();
  command->recycled = spare_;
  spare_ = command;
}

void Stream::push(Command* command) {
  command->next.store(nullptr, std::memory_order_relaxed);
  Command* previous = tail_;
  tail_ = command;
  previous->next.store(command, std::memory_order_seq_cst);
  if (asleep_.load(std::memory_order_seq_cst)) {
    asleep_.store(0, std::memory_order_seq_cst);
    asleep_.notify_one();
  }
}

void Stream::push_task(std::function<void(StreamBackend&)> task, bool always) {
  Command* command = acquire();
  command->kind = always ? Command::Kind::always : Command::Kind::task;
  command->task = std::move(task);
  push(command);
}

void Stream::push_signal(Start start, Finish finish) {
  Command* command = acquire();
  command->kind = Command::Kind::signal;
  command->task = std::move(start);
  command->finish = std::move(finish);
  push(command);
}

void Stream::push_kind(Command::Kind kind) {
  Command* command = acquire();
  command->kind = kind;
  push(command);
}

void Stream::close() {
  if (closed_.exchange(true)) return;
  push(acquire());  // wakes the worker; a command without a kind ends it once the stream is closed
}

Command* Stream::wait_for_next(Command* last) {
  Command* next = nullptr;
  auto arrived = [&] { return (next = last->next.load(std::memory_order_seq_cst)) != nullptr; };
  while (!spin_until(arrived, kIdleSpin)) {
    asleep_.store(1, std::memory_order_seq_cst);
    if (arrived()) {
      asleep_.store(0, std::memory_order_relaxed);
      break;
    }
    asleep_.wait(1, std::memory_order_seq_cst);
  }
  return next;
}

void Stream::recycle(Command* command) {
  command->recycled = used_.load(std::memory_order_relaxed);
  while (!used_.compare_exchange_weak(command->recycled, command, std::memory_order_release)) {
  }
}

void Stream::work() {
  for (;;) {
    Command* last = first_;
    Command* command = wait_for_next(last);
    first_ = command;
    if (!last->held) recycle(last);
    bool end = command->kind == Command::Kind::none;
    if (!cancelled_.load(std::memory_order_relaxed)) {
      if (collect(*command)) continue;
      if (!end) execute(*command);
    }
    command->clear();
    if (!end) continue;
    for (Command* held : bracket_) {  // cancelled inside a bracket
      held->clear();
      recycle(held);
    }
    return;
  }
}

void Stream::execute(Command& command) {
  switch (command.kind) {
    case Command::Kind::op:
      run(command);
      break;
    case Command::Kind::task:
      if (!error_) guard(command, [&] { command.task(*device_); });
      break;
    case Command::Kind::always:
      guard(command, [&] { command.task(*device_); });
      break;
    case Command::Kind::signal:
      signal(command);
      break;
    case Command::Kind::graph_begin:
      collecting_ = device_->has_graphs();
      break;
    case Command::Kind::graph_end:
      if (collecting_) run_bracket(nullptr);
      collecting_ = false;
      break;
    case Command::Kind::none:
      break;
  }
}

void Stream::run(Command& command) {
  guard(command, [&] {
    if (error_) {
      device_->update_tables(command);
    } else {
      run_op(command);
    }
  });
}

void Stream::signal(Command& command) {
  if (!error_ && command.task) guard(command, [&] { command.task(*device_); });
  // The stream goes on at once; an error that the device itself finds before this point is known later.
  auto error = std::exchange(error_, std::nullopt);
  device_->then([finish = std::move(command.finish), error = std::move(error)](const Failure* found) {
    finish(error ? &*error : found);
  });
}

void Stream::remember(const Command& command, const Failure& error) {
  if (!error_) error_ = command.kind == Command::Kind::op ? named(*command.op, error) : error;
}

void Stream::op_ran(const accel_call* call, const char* name) {
  auto* host = static_cast<Host*>(call->host);
  if (!host->stream) return;
  host->named.store(true, std::memory_order_relaxed);
  host->stream->count(name);
}

void Stream::run_op(Command& command) {
  const accel_op& op = *command.op;
  Host host;
  host.stream = this;
  accel_call call{};
  call.args = command.args;
  call.nargs = command.nargs;
  call.host = &host;
  call.ran = op_ran;
  call.fail = record_failure;
  struct Done {
    StreamBackend& device;
    ~Done() { device.op_done(); }
  } done{*device_};
  device_->prepare(call, command);
  int result = device_->function(op)(&call);
  if (host.error) throw std::move(*host.error);
  if (result != ACCEL_OK) {
    fail("ERR_ACCEL_INTERNAL", "the kernel failed without saying why");
  }
  if (!host.named.load(std::memory_order_relaxed)) count(op.name);
}

void Stream::count(const char* name, int64_t runs) {
  if (capturing_) {  // only devices that compute nothing on the host capture: this is the worker
    for (auto& [known, sum] : *capturing_) {
      if (known != name) continue;
      sum += runs;
      return;
    }
    capturing_->emplace_back(name, runs);
    return;
  }
  size_t at = (reinterpret_cast<uintptr_t>(name) >> 3) * 0x9E3779B97F4A7C15ull >> 56;
  for (size_t tries = 0; tries < kCounters; tries++, at = (at + 1) % kCounters) {
    const char* there = counters_[at].name.load(std::memory_order_relaxed);
    if (!there && counters_[at].name.compare_exchange_strong(there, name)) there = name;
    if (there == name) {
      counters_[at].runs.fetch_add(runs, std::memory_order_relaxed);
      return;
    }
  }
  std::lock_guard lock(overflow_mutex_);
  overflow_[name] += runs;
}

std::map<std::string, int64_t> Stream::kernels() {
  std::map<std::string, int64_t> sums;
  {
    std::lock_guard lock(overflow_mutex_);
    sums = overflow_;
  }
  for (Counter& counter : counters_) {
    if (const char* name = counter.name.load()) sums[name] += counter.runs.load();
  }
  return sums;
}

void check_op(const accel_op& op, const accel_arg* args, int32_t nargs, accel_device device,
              int32_t threads) {
  if (!op.check) return;
  Host host;
  accel_call call{};
  call.args = args;
  call.nargs = nargs;
  call.threads = threads;
  call.device = device;
  call.host = &host;
  call.parallel = no_parallel;
  call.scratch = no_scratch;
  call.ran = [](const accel_call*, const char*) {};
  call.fail = record_failure;
  int result = op.check(&call);
  if (host.error) throw named(op, *host.error);
  if (result != ACCEL_OK) fail("ERR_ACCEL_ARGUMENT", "%s: its arguments do not fit", op.name);
}

}  // namespace accel
