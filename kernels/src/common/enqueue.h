// From checked host arguments to a command on a stream.
#ifndef ACCEL_COMMON_ENQUEUE_H
#define ACCEL_COMMON_ENQUEUE_H

#include <vector>

#include "common/kv_sequence.h"
#include "common/op_library.h"
#include "common/stream.h"
#include "common/tensor.h"

namespace accel {

// A layer's caches of one or more sequences, with what keeps its pointers valid.
struct KvView {
  accel_kv kv{};  // kv.head is filled in when the command is built
  std::vector<accel_kv_head> heads;
  std::vector<const RefCounted*> holds;
  std::vector<KvTable*> tables;  // of each sequence
  Stream* stream = nullptr;

  void clear() {
    heads.clear();
    holds.clear();
    tables.clear();
    kv = {};
    stream = nullptr;
  }
  // Adds a sequence; throws when it does not match those before.
  void add(KvSequence& sequence, int32_t layer);
  // Starts from one sequence's shape with heads given by the caller.
  void set(KvSequence& sequence, const accel_kv_head* heads, KvTable& table);

 private:
  void describe(KvSequence& sequence);
  // Whether a sequence of this shape goes with those that are there.
  bool alike(const KvShape& shape) const;
};

// One argument as the caller gives it. `kind` 0 is an absent optional tensor.
struct HostArg {
  int kind = 0;
  const Tensor* tensor = nullptr;
  double number = 0;  // int and float
  const int32_t* ints = nullptr;
  int64_t ints_size = 0;
  const KvView* kv = nullptr;
};

// Checks the arguments against the signature, runs the op's own check, and enqueues. Throws; then nothing was enqueued.
void enqueue_op(Stream& stream, const OpEntry& entry, const HostArg* args, size_t count);

}  // namespace accel
#endif
