#include <cstring>
#include <memory>

#include "common/backend_registry.h"
#include "node/environment.h"

namespace accel::node {
namespace {

// One JavaScript ArrayBuffer may not be larger: Node 20 aborts.
constexpr size_t kMaxArrayBytes = 0xffffffff;

Napi::Value add(Napi::Env env, Ref<Tensor> tensor, int64_t bytes = 0) {
  return Napi::Number::New(env, Environment::of(env).add(std::move(tensor), bytes));
}

Napi::Value add_owner(Napi::Env env, Ref<Tensor> tensor) {
  auto bytes = static_cast<int64_t>(tensor->bytes());
  return add(env, std::move(tensor), bytes);
}

struct Bytes {
  const uint8_t* data;
  size_t size;
};

Bytes bytes_at(const Napi::CallbackInfo& info, size_t index) {
  auto array = info[index].As<Napi::TypedArray>();
  auto* base = static_cast<const uint8_t*>(array.ArrayBuffer().Data());
  return {base + array.ByteOffset(), array.ByteLength()};
}

void check_size(const Tensor& tensor, size_t bytes) {
  if (bytes == tensor.bytes()) return;
  fail("ERR_ACCEL_SHAPE", "%zu bytes of data do not fill a %s tensor %s of %zu bytes", bytes,
       dtype_name(tensor.dtype()), tensor.shape().text().c_str(), tensor.bytes());
}

// tensorEmpty(device, dtype, ndim) → id; the shape is in the values
Napi::Value tensor_empty(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  Shape shape = shape_from(environment, id_at(info, 2));
  return add_owner(info.Env(), Tensor::empty(backend_at(id_at(info, 0)), static_cast<DType>(int_at(info, 1)), shape));
}

// tensorFrom(device, dtype, ndim, data) → id
Napi::Value tensor_from(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  Backend& backend = backend_at(id_at(info, 0));
  Shape shape = shape_from(environment, id_at(info, 2));
  Bytes bytes = bytes_at(info, 3);
  Ref<Tensor> tensor = Tensor::empty(backend, static_cast<DType>(int_at(info, 1)), shape, FirstUse::host);
  check_size(*tensor, bytes.size);
  if (bytes.size > 0) backend.fill(tensor->data(), bytes.data, bytes.size);
  return add_owner(info.Env(), std::move(tensor));
}

// tensorView(tensor, ndim) → id
Napi::Value tensor_view(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  Shape shape = shape_from(environment, id_at(info, 1));
  return add(info.Env(), environment.get<Tensor>(id_at(info, 0), "tensor").view(shape));
}

// tensorSlice(tensor, begin, end) → id
Napi::Value tensor_slice(const Napi::CallbackInfo& info) {
  auto& tensor = Environment::of(info.Env()).get<Tensor>(id_at(info, 0), "tensor");
  auto begin = static_cast<int64_t>(size_at(info, 1, "begin"));
  auto end = static_cast<int64_t>(size_at(info, 2, "end"));
  return add(info.Env(), tensor.slice(begin, end));
}

// tensorWrite(stream, tensor, data)
Napi::Value tensor_write(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  auto& stream = environment.get<Stream>(id_at(info, 0), "stream");
  auto& tensor = environment.get<Tensor>(id_at(info, 1), "tensor");
  Bytes bytes = bytes_at(info, 2);
  check_size(tensor, bytes.size);
  // Copied now, so that the caller may change its array at once.
  auto copy = std::make_shared_for_overwrite<uint8_t[]>(bytes.size);
  std::memcpy(copy.get(), bytes.data, bytes.size);
  stream.push_task([copy, size = bytes.size, to = Ref<Tensor>::share(&tensor)](StreamBackend& device) {
    device.upload(to->data(), copy.get(), size);
  });
  return info.Env().Undefined();
}

struct ReadTarget {
  std::unique_ptr<uint8_t[]> data;
  std::unique_ptr<uint16_t[]> halves;  // what a 16-bit tensor arrives in before it is widened
};

// tensorRead(stream, tensor) → Promise<ArrayBuffer>; 16-bit floats arrive as float32
Napi::Value tensor_read(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  auto& stream = environment.get<Stream>(id_at(info, 0), "stream");
  auto& tensor = environment.get<Tensor>(id_at(info, 1), "tensor");
  DType dtype = tensor.dtype();
  bool half = dtype == DType::bfloat16 || dtype == DType::float16;
  size_t size = tensor.bytes() * (half ? 2 : 1);
  if (size > kMaxArrayBytes) {
    fail("ERR_ACCEL_SHAPE", "a tensor of %s cannot be read into one array (4 GiB at most); read slices of it",
         format_bytes(static_cast<double>(size)).c_str());
  }
  napi_deferred deferred;
  Napi::Value promise = environment.completions->promise(info.Env(), &deferred);
  // Into memory of our own: the array of a dead environment must not be written to.
  auto target = std::make_shared<ReadTarget>();
  stream.push_signal(
      [target, half, size, from = Ref<Tensor>::share(&tensor)](StreamBackend& device) {
        try {
          target->data = std::make_unique_for_overwrite<uint8_t[]>(size);
          if (half) target->halves = std::make_unique_for_overwrite<uint16_t[]>(size / 4);
        } catch (const std::bad_alloc&) {
          fail("ERR_ACCEL_OUT_OF_MEMORY", "no memory for reading %s", format_bytes(static_cast<double>(size)).c_str());
        }
        if (size > 0) device.download(half ? static_cast<void*>(target->halves.get()) : target->data.get(), from->data(), from->bytes());
      },
      [deferred, half, dtype, size, target, completions = environment.completions](const Failure* error) {
        if (error) return completions->post(deferred, error, nullptr);
        if (half) {
          widen(dtype, target->halves.get(), reinterpret_cast<float*>(target->data.get()), size / 4);
          target->halves = nullptr;
        }
        completions->post(deferred, nullptr, [target, size](Napi::Env env) -> Napi::Value {
          Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, size);
          if (size > 0) std::memcpy(buffer.Data(), target->data.get(), size);
          return buffer;
        });
      });
  return promise;
}

// fileOpen(path) → id
Napi::Value file_open(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Environment::of(info.Env()).add(MappedFile::open(text_at(info, 0))));
}

// fileSize(file) → bytes
Napi::Value file_size(const Napi::CallbackInfo& info) {
  auto& file = Environment::of(info.Env()).get<MappedFile>(id_at(info, 0), "mapped file");
  return Napi::Number::New(info.Env(), static_cast<double>(file.bytes()));
}

// fileTensor(file, device, dtype, ndim, offset) → id
Napi::Value file_tensor(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  auto& file = environment.get<MappedFile>(id_at(info, 0), "mapped file");
  Shape shape = shape_from(environment, id_at(info, 3));
  return add(info.Env(), file.tensor(backend_at(id_at(info, 1)), static_cast<DType>(int_at(info, 2)), shape,
                                     size_at(info, 4, "byteOffset")));
}

// tensorTo(tensor, stream) → id: a copy on the stream's device
Napi::Value tensor_to(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  auto& tensor = environment.get<Tensor>(id_at(info, 0), "tensor");
  auto& stream = environment.get<Stream>(id_at(info, 1), "stream");
  if (tensor.storage().backend().device().type != ACCEL_DEVICE_CPU) {
    fail("ERR_ACCEL_ARGUMENT", "only a tensor of the CPU can be copied to another device; this one is on %s. read() it first",
         tensor.storage().backend().id().c_str());
  }
  Ref<Tensor> copy = Tensor::empty(stream.backend(), tensor.dtype(), tensor.shape());
  if (tensor.bytes() > 0) {
    stream.push_task([from = Ref<Tensor>::share(&tensor), copy](StreamBackend& device) {
      device.upload(copy->data(), from->data(), from->bytes());
    });
  }
  return add_owner(info.Env(), std::move(copy));
}

// fileBytes(file, offset, length) → ArrayBuffer
Napi::Value file_bytes(const Napi::CallbackInfo& info) {
  auto& file = Environment::of(info.Env()).get<MappedFile>(id_at(info, 0), "mapped file");
  size_t offset = size_at(info, 1, "offset");
  size_t length = size_at(info, 2, "length");
  file.require(offset, length);
  if (length > kMaxArrayBytes) {
    fail("ERR_ACCEL_ARGUMENT", "%zu bytes do not fit into one array (4 GiB at most); read them in parts", length);
  }
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), length);
  if (length > 0) std::memcpy(buffer.Data(), file.data() + offset, length);
  return buffer;
}

}  // namespace

void export_tensors(Napi::Env env, Napi::Object exports) {
  exports["tensorEmpty"] = Napi::Function::New<guarded<tensor_empty>>(env);
  exports["tensorFrom"] = Napi::Function::New<guarded<tensor_from>>(env);
  exports["tensorView"] = Napi::Function::New<guarded<tensor_view>>(env);
  exports["tensorSlice"] = Napi::Function::New<guarded<tensor_slice>>(env);
  exports["tensorWrite"] = Napi::Function::New<guarded<tensor_write>>(env);
  exports["tensorRead"] = Napi::Function::New<guarded<tensor_read>>(env);
  exports["fileOpen"] = Napi::Function::New<guarded<file_open>>(env);
  exports["fileSize"] = Napi::Function::New<guarded<file_size>>(env);
  exports["fileTensor"] = Napi::Function::New<guarded<file_tensor>>(env);
  exports["tensorTo"] = Napi::Function::New<guarded<tensor_to>>(env);
  exports["fileBytes"] = Napi::Function::New<guarded<file_bytes>>(env);
}

}  // namespace accel::node
