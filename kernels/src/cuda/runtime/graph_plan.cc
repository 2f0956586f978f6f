#include "cuda/runtime/graph_plan.h"

#include <bit>

#include "cuda/runtime/kv.h"

namespace accel::cuda {
namespace {

// How far back a sharer may be: the ops of one layer.
constexpr size_t kNear = 4;

uint64_t pair(int64_t high, int64_t low) {
  return static_cast<uint64_t>(high) << 32 | static_cast<uint32_t>(low);
}

// Ops may choose a kernel by whether any head has a gap; how large it is they read on the device.
bool has_gap(const accel_kv& kv) {
  for (int32_t i = 0; i < kv.sequences * kv.heads; i++) {
    if (kv.device_head[i].gap != 0) return true;
  }
  return false;
}

uint64_t dtype_word(accel_dtype dtype) { return static_cast<uint64_t>(dtype.code) << 8 | dtype.bits; }

bool same_heads(const accel_kv& a, const accel_kv& b) {
  if (a.sequences != b.sequences || a.heads != b.heads) return false;
  for (int32_t i = 0; i < a.sequences * a.heads; i++) {
    // Not memcmp: the structure has padding.
    const accel_kv_head& x = a.device_head[i];
    const accel_kv_head& y = b.device_head[i];
    if (x.key_pages != y.key_pages || x.value_pages != y.value_pages || x.record_pages != y.record_pages ||
        x.encoded_key_pages != y.encoded_key_pages || x.encoded_value_pages != y.encoded_value_pages ||
        x.rows != y.rows || x.gap_at != y.gap_at || x.gap != y.gap || x.plain_keys != y.plain_keys ||
        x.plain_values != y.plain_values || x.encoded_keys != y.encoded_keys || x.encoded_values != y.encoded_values) {
      return false;
    }
  }
  return true;
}

}  // namespace

void GraphPlan::make(Command* const* ops, size_t count) {
  key.clear();
  slots.clear();
  slot_of.clear();
  heads_bytes = 0;
  for (size_t i = 0; i < count; i++) {
    key.push_back(reinterpret_cast<uint64_t>(ops[i]->op));
    key.push_back(static_cast<uint64_t>(ops[i]->nargs));
    for (int32_t a = 0; a < ops[i]->nargs; a++) put(ops[i]->args[a]);
  }
  hash = 0;
  for (uint64_t word : key) hash = std::rotl(hash ^ word, 23) * 0x9E3779B97F4A7C15ull;
  hash ^= hash >> 29;
}

void GraphPlan::put(const accel_arg& arg) {
  key.push_back(arg.kind);
  switch (arg.kind) {
    case ACCEL_ARG_TENSOR:
      if (!arg.tensor) {
        key.push_back(0);
        return;
      }
      key.push_back(reinterpret_cast<uint64_t>(arg.tensor->data));
      key.push_back(dtype_word(arg.tensor->dtype) << 32 | static_cast<uint32_t>(arg.tensor->ndim));
      for (int i = 0; i < arg.tensor->ndim; i++) key.push_back(static_cast<uint64_t>(arg.tensor->shape[i]));
      return;
    case ACCEL_ARG_INT:
      key.push_back(static_cast<uint64_t>(arg.i));
      return;
    case ACCEL_ARG_FLOAT:
      key.push_back(std::bit_cast<uint64_t>(arg.f));
      return;
    case ACCEL_ARG_INTS:
      key.push_back(static_cast<uint64_t>(arg.ints.size));
      for (int64_t i = 0; i < arg.ints.size; i++) key.push_back(static_cast<uint32_t>(arg.ints.data[i]));
      return;
    case ACCEL_ARG_KV:
      put_kv(*arg.kv);
      return;
  }
}

void GraphPlan::put_kv(const accel_kv& kv) {
  size_t slot = slots.size();
  for (size_t back = 1; back <= kNear && back <= slots.size(); back++) {
    if (!same_heads(*slots[slots.size() - back].kv, kv)) continue;
    slot = slots.size() - back;
    break;
  }
  if (slot == slots.size()) {
    slots.push_back({&kv, heads_bytes});
    heads_bytes += (accel::cuda::heads_bytes(kv) + 255) & ~static_cast<size_t>(255);
  }
  slot_of.push_back(slot);
  key.push_back(reinterpret_cast<uint64_t>(kv.base));
  key.push_back(static_cast<uint64_t>(kv.page_bytes));
  key.push_back(dtype_word(kv.dtype) << 32 | static_cast<uint32_t>(kv.head_dim));
  key.push_back(pair(kv.sequences, kv.heads));
  key.push_back(pair(kv.rows_per_page, kv.records_per_page));
  key.push_back(static_cast<uint64_t>(kv.record_bytes));
  for (const accel_kv_items& items : {kv.encoded_key, kv.encoded_value}) {
    key.push_back(pair(items.rows, items.bytes));
    key.push_back(static_cast<uint64_t>(items.header));
  }
  key.push_back(pair(row_limit(kv), static_cast<int64_t>(slot)));
  key.push_back(has_gap(kv) ? 1 : 0);
}

}  // namespace accel::cuda
