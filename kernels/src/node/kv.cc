#include <algorithm>

#include "node/environment.h"

namespace accel::node {
namespace {

// poolCreate(stream, pageBytes, capacityBytes) → id
Napi::Value pool_create(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  auto& stream = environment.get<Stream>(id_at(info, 0), "stream");
  Ref<PagePool> pool = PagePool::create(Ref<Stream>::share(&stream), size_at(info, 1, "pageBytes"),
                                        size_at(info, 2, "capacityBytes"));
  return Napi::Number::New(info.Env(), environment.add(std::move(pool)));
}

// poolBytes(pool): used, peak and capacity go into the values
Napi::Value pool_bytes(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  auto& pool = environment.get<PagePool>(id_at(info, 0), "page pool");
  environment.values[0] = static_cast<double>(pool.used_bytes());
  environment.values[1] = static_cast<double>(pool.peak_bytes());
  environment.values[2] = static_cast<double>(pool.capacity_bytes());
  return info.Env().Undefined();
}

Napi::Value pool_reset_peak(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).get<PagePool>(id_at(info, 0), "page pool").reset_peak();
  return info.Env().Undefined();
}

Napi::Value pool_trim(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).get<PagePool>(id_at(info, 0), "page pool").trim();
  return info.Env().Undefined();
}

// kvCreate(pool, layers, heads, headDim, dtype, tallies, positions) → id. The values hold rows, bytes and header of
// encoded keys, then of encoded values.
Napi::Value kv_create(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  auto& pool = environment.get<PagePool>(id_at(info, 0), "page pool");
  KvShape shape{int_at(info, 1), int_at(info, 2), int_at(info, 3), static_cast<DType>(int_at(info, 4)),
                int_at(info, 5), int_at(info, 6) != 0};
  const auto items = [&](const double* from) {
    return accel_kv_items{static_cast<int32_t>(from[0]), static_cast<int32_t>(from[1]), static_cast<int32_t>(from[2])};
  };
  shape.encoded_key = items(environment.values);
  shape.encoded_value = items(environment.values + 3);
  Ref<KvSequence> sequence = KvSequence::create(Ref<PagePool>::share(&pool), shape);
  return Napi::Number::New(info.Env(), environment.add(std::move(sequence)));
}

KvSequence& sequence_at(const Napi::CallbackInfo& info) {
  return Environment::of(info.Env()).get<KvSequence>(id_at(info, 0), "KV sequence");
}

Napi::Value kv_reserve(const Napi::CallbackInfo& info) {
  sequence_at(info).reserve(int_at(info, 1), int_at(info, 2));
  return info.Env().Undefined();
}

Napi::Value kv_drop(const Napi::CallbackInfo& info) {
  sequence_at(info).drop(int_at(info, 1), int_at(info, 2), int_at(info, 3));
  return info.Env().Undefined();
}

Napi::Value kv_can_drop(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), sequence_at(info).can_drop(int_at(info, 1), int_at(info, 2), int_at(info, 3)));
}

Napi::Value kv_truncate(const Napi::CallbackInfo& info) {
  sequence_at(info).truncate(int_at(info, 1), int_at(info, 2));
  return info.Env().Undefined();
}

Napi::Value kv_rows(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), sequence_at(info).rows(int_at(info, 1), int_at(info, 2)));
}

// kvBytes(sequence): measured, arithmetic and pages go into the values
Napi::Value kv_bytes(const Napi::CallbackInfo& info) {
  KvBytes bytes = sequence_at(info).bytes();
  double* values = Environment::of(info.Env()).values;
  values[0] = static_cast<double>(bytes.measured);
  values[1] = static_cast<double>(bytes.arithmetic);
  values[2] = static_cast<double>(bytes.pages);
  return info.Env().Undefined();
}

// kvEncodeBegin(sequence, layer, key block, keys kept, value block, values kept) : the most keys and values that a head has to encode go into the
// values
Napi::Value kv_encode_begin(const Napi::CallbackInfo& info) {
  KvEncodeDue due = sequence_at(info).encode_begin(int_at(info, 1), {int_at(info, 2), int_at(info, 3)},
                                                   {int_at(info, 4), int_at(info, 5)});
  double* values = Environment::of(info.Env()).values;
  values[0] = due.keys;
  values[1] = due.values;
  return info.Env().Undefined();
}

// kvEncodeEnd(sequence, layer, whether the op that encodes was enqueued)
Napi::Value kv_encode_end(const Napi::CallbackInfo& info) {
  sequence_at(info).encode_end(int_at(info, 1), int_at(info, 2) != 0);
  return info.Env().Undefined();
}

// kvEncoded(sequence, layer, head): encoded keys and values go into the values
Napi::Value kv_encoded(const Napi::CallbackInfo& info) {
  auto [keys, head_values] = sequence_at(info).encoded(int_at(info, 1), int_at(info, 2));
  double* values = Environment::of(info.Env()).values;
  values[0] = keys;
  values[1] = head_values;
  return info.Env().Undefined();
}

// kvRestore(sequence, layer): rows, encoded keys and encoded values of all heads are in the values, one after another
Napi::Value kv_restore(const Napi::CallbackInfo& info) {
  KvSequence& sequence = sequence_at(info);
  const double* values = Environment::of(info.Env()).values;
  const int32_t heads = sequence.shape().heads;
  std::vector<int32_t> counts(3 * heads);
  std::transform(values, values + counts.size(), counts.begin(), [](double x) { return static_cast<int32_t>(x); });
  sequence.restore(int_at(info, 1), counts.data(), counts.data() + heads, counts.data() + 2 * heads);
  return info.Env().Undefined();
}

Napi::Value kv_own(const Napi::CallbackInfo& info) {
  sequence_at(info).own(int_at(info, 1));
  return info.Env().Undefined();
}

Napi::Value kv_fork(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Environment::of(info.Env()).add(sequence_at(info).fork()));
}

// kvCompact(sequence, layer, index): the counts of the heads are in the values
Napi::Value kv_compact(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  KvSequence& sequence = sequence_at(info);
  int32_t layer = int_at(info, 1);
  auto& index = environment.get<Tensor>(id_at(info, 2), "tensor");
  int32_t heads = sequence.shape().heads;
  std::vector<int32_t> counts(heads);
  int32_t most = 0;
  for (int32_t h = 0; h < heads; h++) {
    counts[h] = static_cast<int32_t>(environment.values[h]);
    most = std::max(most, counts[h]);
  }
  const Shape& shape = index.shape();
  if (index.dtype() != DType::int32 || shape.ndim != 2 || shape.dims[0] != heads || shape.dims[1] < most) {
    fail("ERR_ACCEL_SHAPE", "compact needs the row numbers as an int32 tensor [%d, at least %d], got a %s tensor %s",
         heads, most, dtype_name(index.dtype()), shape.text().c_str());
  }
  static const OpEntry& gather_op = builtin_op("kv_gather");
  sequence.compact(layer, counts.data(),
                   [&](KvSequence& self, int32_t, const accel_kv_head* before, KvTable& before_table,
                       const accel_kv_head* after, KvTable& after_table) {
                     KvView& to = environment.kv_views[0];
                     KvView& from = environment.kv_views[1];
                     to.set(self, after, after_table);
                     from.set(self, before, before_table);
                     HostArg args[4];
                     args[0].kind = args[1].kind = ACCEL_ARG_KV;
                     args[0].kv = &to;
                     args[1].kv = &from;
                     args[2].kind = ACCEL_ARG_TENSOR;
                     args[2].tensor = &index;
                     args[3].kind = ACCEL_ARG_INTS;
                     args[3].ints = counts.data();
                     args[3].ints_size = heads;
                     enqueue_op(self.pool().stream(), gather_op, args, 4);
                   });
  return info.Env().Undefined();
}

}  // namespace

void export_kv(Napi::Env env, Napi::Object exports) {
  exports["poolCreate"] = Napi::Function::New<guarded<pool_create>>(env);
  exports["poolBytes"] = Napi::Function::New<guarded<pool_bytes>>(env);
  exports["poolResetPeak"] = Napi::Function::New<guarded<pool_reset_peak>>(env);
  exports["poolTrim"] = Napi::Function::New<guarded<pool_trim>>(env);
  exports["kvCreate"] = Napi::Function::New<guarded<kv_create>>(env);
  exports["kvReserve"] = Napi::Function::New<guarded<kv_reserve>>(env);
  exports["kvDrop"] = Napi::Function::New<guarded<kv_drop>>(env);
  exports["kvCanDrop"] = Napi::Function::New<guarded<kv_can_drop>>(env);
  exports["kvTruncate"] = Napi::Function::New<guarded<kv_truncate>>(env);
  exports["kvRows"] = Napi::Function::New<guarded<kv_rows>>(env);
  exports["kvBytes"] = Napi::Function::New<guarded<kv_bytes>>(env);
  exports["kvEncodeBegin"] = Napi::Function::New<guarded<kv_encode_begin>>(env);
  exports["kvEncodeEnd"] = Napi::Function::New<guarded<kv_encode_end>>(env);
  exports["kvEncoded"] = Napi::Function::New<guarded<kv_encoded>>(env);
  exports["kvRestore"] = Napi::Function::New<guarded<kv_restore>>(env);
  exports["kvOwn"] = Napi::Function::New<guarded<kv_own>>(env);
  exports["kvFork"] = Napi::Function::New<guarded<kv_fork>>(env);
  exports["kvCompact"] = Napi::Function::New<guarded<kv_compact>>(env);
}

}  // namespace accel::node
