// Brackets of ops (Stream.graph): on a device that has graphs they are held back until the bracket's end and then run
// as one, so that the device can recognise them.
#include <utility>

#include "common/stream.h"

namespace accel {

bool Stream::collect(Command& command) {
  if (!collecting_ || command.kind == Command::Kind::graph_end) return false;
  if (command.kind == Command::Kind::op) {
    command.held = true;
    bracket_.push_back(&command);
    return true;
  }
  // Work that no graph can hold, or the end of the stream.
  run_bracket(command.kind == Command::Kind::none ? "the stream ended inside the bracket"
                                                  : "the bracket holds more than ops (a read, a write, a copy of pages)");
  collecting_ = false;
  return false;
}

void Stream::run_bracket(const char* eager_because) {
  if (bracket_.empty()) return;
  GraphStep step = GraphStep::eager;
  if (error_) {
    // Skipped below; nothing is learnt from it.
  } else if (eager_because) {
    device_->graph_eager(eager_because);
  } else {
    guard(*bracket_[0], [&] {
      step = device_->graph_find(bracket_.data(), bracket_.size());
      if (step == GraphStep::capture) step = capture_bracket() ? GraphStep::replay : GraphStep::eager;
    });
  }
  if (step == GraphStep::replay) {
    guard(*bracket_[0], [&] {
      for (auto [name, runs] : device_->graph_replay(bracket_.data(), bracket_.size())) count(name, runs);
      count("graph");
    });
  } else {
    for (Command* command : bracket_) run(*command);
  }
  for (Command* command : bracket_) {
    command->clear();
    command->held = false;
    recycle(command);
  }
  bracket_.clear();
}

bool Stream::capture_bracket() {
  KernelCounts counts;
  std::optional<Failure> failure;
  device_->capture_begin();
  capturing_ = &counts;
  for (Command* command : bracket_) {
    try {
      run_op(*command);
    } catch (const Failure& error) {
      failure = named(*command->op, error);
    } catch (const std::exception& error) {
      failure.emplace("ERR_ACCEL_INTERNAL", error.what());
    }
    if (failure) break;
  }
  capturing_ = nullptr;
  return device_->capture_end(failure ? &*failure : nullptr, std::move(counts));
}

}  // namespace accel
