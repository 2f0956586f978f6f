#include "common/enqueue.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/error.h"
#include "common/thread_pool.h"

namespace accel {
namespace {

const char* kind_name(int kind) {
  switch (kind) {
    case 0: return "null";
    case ACCEL_ARG_TENSOR: return "a tensor";
    case ACCEL_ARG_INT: return "an integer";
    case ACCEL_ARG_FLOAT: return "a number";
    case ACCEL_ARG_INTS: return "an Int32Array";
    case ACCEL_ARG_KV: return "a KV argument";
    default: return "something unknown";
  }
}

[[noreturn]] void wrong_kind(const OpEntry& entry, size_t index, int got) {
  const OpParameter& parameter = entry.parameters[index];
  fail("ERR_ACCEL_ARGUMENT", "%s: argument \"%s\" must be %s%s, got %s", entry.op->name, parameter.name.c_str(),
       kind_name(parameter.kind), parameter.optional ? " or null" : "", kind_name(got));
}

[[noreturn]] void wrong_count(const OpEntry& entry, size_t got) {
  std::string names;
  for (const OpParameter& parameter : entry.parameters) {
    names += (names.empty() ? "" : ", ") + parameter.name;
  }
  fail("ERR_ACCEL_ARGUMENT", "%s takes %zu arguments (%s), got %zu", entry.op->name, entry.parameters.size(),
       names.c_str(), got);
}

size_t arena_bytes(const HostArg& arg) {
  switch (arg.kind) {
    case ACCEL_ARG_TENSOR:
      return Command::arena_size<accel_tensor>(1) + Command::arena_size<int64_t>(kMaxDims);
    case ACCEL_ARG_INTS:
      return Command::arena_size<int32_t>(arg.ints_size);
    case ACCEL_ARG_KV:
      return Command::arena_size<accel_kv>(1) + 2 * Command::arena_size<accel_kv_head>(arg.kv->heads.size());
    default:
      return 0;
  }
}

void put_tensor(Command& command, accel_arg& to, const Tensor& tensor) {
  auto* descriptor = command.arena_take<accel_tensor>(1);
  auto* shape = command.arena_take<int64_t>(kMaxDims);
  const Shape& from = tensor.shape();
  for (int i = 0; i < from.ndim; i++) shape[i] = from.dims[i];
  descriptor->data = tensor.data();
  descriptor->device = tensor.storage().backend().device();
  descriptor->ndim = from.ndim;
  descriptor->dtype = dtype_code(tensor.dtype());
  descriptor->shape = shape;
  descriptor->strides = nullptr;
  descriptor->byte_offset = 0;
  to.tensor = descriptor;
  command.hold(&tensor.storage());
}

// Where the page lists are on the device: `device_head` points to host memory until the worker has put it there.
void put_mirrored(Backend& backend, Command& command, accel_kv& kv, const KvView& view) {
  auto* heads = command.arena_take<accel_kv_head>(view.heads.size());
  for (size_t i = 0; i < view.heads.size(); i++) {
    KvTable& table = *view.tables[i / kv.heads];
    heads[i] = view.heads[i];
    heads[i].key_pages = table.mirrored(backend, heads[i].key_pages);
    heads[i].value_pages = table.mirrored(backend, heads[i].value_pages);
    heads[i].record_pages = table.mirrored(backend, heads[i].record_pages);
    if (heads[i].encoded_key_pages == nullptr) continue;
    heads[i].encoded_key_pages = table.mirrored(backend, heads[i].encoded_key_pages);
    heads[i].encoded_value_pages = table.mirrored(backend, heads[i].encoded_value_pages);
  }
  kv.device_head = heads;
}

// An op that knows plain rows only would read pages that are not there any more.
void refuse_encoded(const OpEntry& entry, const OpParameter& parameter, const KvView& view) {
  for (const accel_kv_head& head : view.heads) {
    if (head.encoded_keys == 0 && head.encoded_values == 0) continue;
    fail("ERR_ACCEL_ARGUMENT", "%s: the oldest rows of argument \"%s\" are encoded, which this op cannot read",
         entry.op->name, parameter.name.c_str());
  }
}

void put(Stream& stream, Command& command, const OpEntry& entry, size_t index, const HostArg& arg) {
  const OpParameter& parameter = entry.parameters[index];
  accel_arg& to = command.args[index];
  to.kind = parameter.kind;
  switch (parameter.kind) {
    case ACCEL_ARG_TENSOR:
      to.tensor = nullptr;
      if (arg.kind == 0 && parameter.optional) return;
      if (arg.kind != ACCEL_ARG_TENSOR) wrong_kind(entry, index, arg.kind);
      if (&arg.tensor->storage().backend() != &stream.backend()) {
        fail("ERR_ACCEL_ARGUMENT", "%s: argument \"%s\" is on another device than the stream", entry.op->name,
             parameter.name.c_str());
      }
      put_tensor(command, to, *arg.tensor);
      return;
    case ACCEL_ARG_INT:
      if (arg.kind != ACCEL_ARG_FLOAT) wrong_kind(entry, index, arg.kind);
      if (!(std::abs(arg.number) <= 0x1p53) || arg.number != std::floor(arg.number)) {
        fail("ERR_ACCEL_ARGUMENT", "%s: argument \"%s\" must be an integer, got %g", entry.op->name,
             parameter.name.c_str(), arg.number);
      }
      to.i = static_cast<int64_t>(arg.number);
      return;
    case ACCEL_ARG_FLOAT:
      if (arg.kind != ACCEL_ARG_FLOAT) wrong_kind(entry, index, arg.kind);
      to.f = arg.number;
      return;
    case ACCEL_ARG_INTS: {
      if (arg.kind != ACCEL_ARG_INTS) wrong_kind(entry, index, arg.kind);
      auto* copy = command.arena_take<int32_t>(arg.ints_size);
      if (arg.ints_size > 0) std::memcpy(copy, arg.ints, arg.ints_size * sizeof(int32_t));
      to.ints = {copy, arg.ints_size};
      return;
    }
    case ACCEL_ARG_KV: {
      if (arg.kind != ACCEL_ARG_KV) wrong_kind(entry, index, arg.kind);
      if (arg.kv->stream != &stream) {
        fail("ERR_ACCEL_ARGUMENT",
             "%s: argument \"%s\" belongs to a page pool of another stream; a pool's pages are only used on its stream",
             entry.op->name, parameter.name.c_str());
      }
      if (!parameter.encoded) refuse_encoded(entry, parameter, *arg.kv);
      auto* kv = command.arena_take<accel_kv>(1);
      auto* heads = command.arena_take<accel_kv_head>(arg.kv->heads.size());
      std::copy(arg.kv->heads.begin(), arg.kv->heads.end(), heads);
      *kv = arg.kv->kv;
      kv->head = heads;
      if (stream.backend().device().type != ACCEL_DEVICE_CPU) put_mirrored(stream.backend(), command, *kv, *arg.kv);
      to.kv = kv;
      for (const RefCounted* held : arg.kv->holds) command.hold(held);
      return;
    }
  }
}

}  // namespace

void KvView::describe(KvSequence& sequence) {
  const KvShape& shape = sequence.shape();
  kv.base = sequence.pool().base();
  kv.page_bytes = static_cast<int64_t>(sequence.pool().page_bytes());
  kv.dtype = dtype_code(shape.dtype);
  kv.head_dim = shape.head_dim;
  kv.heads = shape.heads;
  kv.rows_per_page = sequence.rows_per_page();
  kv.records_per_page = sequence.records_per_page();
  kv.record_bytes = static_cast<int32_t>(shape.record_bytes());
  kv.tallies = shape.tallies;
  kv.encoded_key = shape.encoded_key;
  kv.encoded_value = shape.encoded_value;
  stream = &sequence.pool().stream();
  holds.push_back(&sequence.pool());
}

bool KvView::alike(const KvShape& shape) const {
  const auto same = [](const accel_kv_items& a, const accel_kv_items& b) {
    return a.rows == b.rows && a.bytes == b.bytes && a.header == b.header;
  };
  const accel_dtype dtype = dtype_code(shape.dtype);
  return shape.heads == kv.heads && shape.head_dim == kv.head_dim && dtype.code == kv.dtype.code &&
         dtype.bits == kv.dtype.bits && static_cast<int32_t>(shape.record_bytes()) == kv.record_bytes &&
         same(shape.encoded_key, kv.encoded_key) && same(shape.encoded_value, kv.encoded_value);
}

void KvView::add(KvSequence& sequence, int32_t layer) {
  const KvShape& shape = sequence.shape();
  if (kv.sequences == 0) {
    describe(sequence);
  } else if (sequence.pool().base() != kv.base) {
    fail("ERR_ACCEL_BATCH", "sequences of one call must share one page pool");
  } else if (!alike(shape)) {
    fail("ERR_ACCEL_BATCH",
         "sequences of one call must have the same heads, headDim, dtype, positions, tallies and encoded rows");
  }
  KvTable& table = sequence.table(layer);
  holds.push_back(&table);
  tables.push_back(&table);
  heads.resize(heads.size() + shape.heads);
  sequence.describe(layer, heads.data() + heads.size() - shape.heads);
  kv.sequences++;
}

void KvView::set(KvSequence& sequence, const accel_kv_head* from, KvTable& table) {
  clear();
  describe(sequence);
  holds.push_back(&table);
  tables.push_back(&table);
  heads.assign(from, from + sequence.shape().heads);
  kv.sequences = 1;
}

void enqueue_op(Stream& stream, const OpEntry& entry, const HostArg* args, size_t count) {
  if (count != entry.parameters.size()) wrong_count(entry, count);
  accel_device device = stream.backend().device();
  if (!(device.type == ACCEL_DEVICE_CPU ? entry.op->cpu : entry.op->cuda)) {
    fail("ERR_ACCEL_NO_DEVICE", "%s has no kernel for this device", entry.op->name);
  }
  size_t bytes = 0;
  for (size_t i = 0; i < count; i++) bytes += arena_bytes(args[i]);
  Command* command = stream.acquire();
  try {
    command->arena_start(bytes);
    for (size_t i = 0; i < count; i++) put(stream, *command, entry, i, args[i]);
    command->kind = Command::Kind::op;
    command->op = entry.op;
    command->nargs = static_cast<int32_t>(count);
    check_op(*entry.op, command->args, command->nargs, device, ThreadPool::instance().threads());
    // Last: from here on nothing fails, so the mirrors get what they are told to have got.
    for (size_t i = 0; device.type != ACCEL_DEVICE_CPU && i < count; i++) {
      if (args[i].kind != ACCEL_ARG_KV) continue;
      for (KvTable* table : args[i].kv->tables) table->send(*command);
    }
  } catch (...) {
    stream.give_back(command);
    throw;
  }
  stream.push(command);
}

}  // namespace accel
