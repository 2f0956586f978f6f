// One entry of a stream's queue. Commands are recycled; an op's arguments live inside the command, so enqueuing an op
// allocates nothing once a stream is warm.
#ifndef ACCEL_COMMON_COMMAND_H
#define ACCEL_COMMON_COMMAND_H

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "accel/op.h"
#include "common/error.h"
#include "common/ref.h"

namespace accel {

class StreamBackend;

inline constexpr int kMaxArgs = 24;

struct Command {
  enum class Kind : uint8_t {
    none,
    op,      // run `op` with `args`; skipped while the stream has an error
    task,    // call `task`; skipped while the stream has an error
    always,  // call `task` whatever happened before
    signal,  // call `task`, if there is one, as for a task; then `finish`, once all work so far is done, with the
             // stream's error, which is taken away by it
    graph_begin,  // ops from here to graph_end may be replayed as one graph
    graph_end,
  };

  std::atomic<Command*> next{nullptr};
  Command* recycled = nullptr;
  Kind kind = Kind::none;
  const accel_op* op = nullptr;
  int32_t nargs = 0;
  accel_arg args[kMaxArgs];
  bool held = false;              // by a bracket: neither cleared nor recycled yet
  std::vector<RefCounted*> keep;  // what the arguments point into
  std::function<void(StreamBackend&)> task;
  std::function<void(const Failure*)> finish;

  // Entries of page lists that a device does not know yet: words [from, from + count) of table_words go to `to`.
  struct TableRun {
    int32_t* to;
    uint32_t from;
    uint32_t count;
  };
  std::vector<TableRun> table_runs;
  std::vector<int32_t> table_words;

  // Room inside the command for descriptors. `arena_start` must be called with the total before any `arena_take`.
  void arena_start(size_t bytes) {
    if (bytes > arena_bytes_) {
      arena_bytes_ = bytes + bytes / 2;
      arena_ = std::make_unique_for_overwrite<std::byte[]>(arena_bytes_);
    }
    arena_used_ = 0;
  }
  template <typename T>
  T* arena_take(size_t count) {
    auto* at = reinterpret_cast<T*>(arena_.get() + arena_used_);
    arena_used_ += arena_size<T>(count);
    return at;
  }
  template <typename T>
  static constexpr size_t arena_size(size_t count) {
    return (count * sizeof(T) + 15) & ~static_cast<size_t>(15);
  }

  void hold(const RefCounted* object) {
    object->retain();
    keep.push_back(const_cast<RefCounted*>(object));
  }

  // Lets go of everything the command refers to.
  void clear() {
    for (RefCounted* object : keep) object->release();
    keep.clear();
    if (task) task = nullptr;
    if (finish) finish = nullptr;
    table_runs.clear();
    table_words.clear();
    kind = Kind::none;
  }

 private:
  std::unique_ptr<std::byte[]> arena_;
  size_t arena_bytes_ = 0;
  size_t arena_used_ = 0;
};

}  // namespace accel
#endif
