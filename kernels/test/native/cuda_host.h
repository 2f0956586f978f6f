// What the tests of the CUDA runtime share: tensors, ops and reads without Node.
#ifndef ACCEL_TEST_CUDA_HOST_H
#define ACCEL_TEST_CUDA_HOST_H

#include <atomic>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "common/backend_registry.h"
#include "common/enqueue.h"
#include "common/kv_sequence.h"
#include "common/mapped_file.h"

namespace accel::test {

inline int passed = 0;
inline int failed = 0;

inline void check(bool ok, const char* what, int line) {
  (ok ? passed : failed)++;
  if (!ok) std::printf("FAILED line %d: %s\n", line, what);
}
#define CHECK(condition) check(condition, #condition, __LINE__)

inline Backend* gpu = nullptr;

struct Outcome {
  std::string code, message;
};

inline Outcome wait(Stream& stream, Stream::Start start = nullptr) {
  std::atomic<bool> done{false};
  Outcome outcome;
  stream.push_signal(std::move(start), [&](const Failure* error) {
    if (error) outcome = {error->code(), error->message()};
    done.store(true);
    done.notify_one();
  });
  done.wait(false);
  if (!outcome.code.empty()) std::printf("  (%s: %s)\n", outcome.code.c_str(), outcome.message.c_str());
  return outcome;
}

inline Shape shape(std::initializer_list<int64_t> dims) {
  Shape made;
  for (int64_t dim : dims) made.dims[made.ndim++] = dim;
  return made;
}

template <typename T>
Ref<Tensor> tensor(DType dtype, const Shape& of, const std::vector<T>& values) {
  Ref<Tensor> made = Tensor::empty(*gpu, dtype, of, FirstUse::host);
  if (!values.empty()) gpu->fill(made->data(), values.data(), made->bytes());
  return made;
}

template <typename T>
std::vector<T> read(Stream& stream, const Tensor& from) {
  std::vector<T> values(from.bytes() / sizeof(T));
  wait(stream, [&](StreamBackend& device) { device.download(values.data(), from.data(), from.bytes()); });
  return values;
}

template <typename T>
void write(Stream& stream, const Ref<Tensor>& to, std::vector<T> values) {
  stream.push_task([to, values = std::move(values)](StreamBackend& device) {
    device.upload(to->data(), values.data(), to->bytes());
  });
}

inline HostArg arg(const Ref<Tensor>& of) {
  HostArg made;
  made.kind = of ? ACCEL_ARG_TENSOR : 0;
  made.tensor = of.get();
  return made;
}
inline HostArg arg(const KvView& of) {
  HostArg made;
  made.kind = ACCEL_ARG_KV;
  made.kv = &of;
  return made;
}
inline HostArg arg(const std::vector<int32_t>& of) {
  HostArg made;
  made.kind = ACCEL_ARG_INTS;
  made.ints = of.data();
  made.ints_size = static_cast<int64_t>(of.size());
  return made;
}

inline void run(Stream& stream, const char* op, std::initializer_list<HostArg> args) {
  enqueue_op(stream, builtin_op(op), args.begin(), args.size());
}

}  // namespace accel::test
#endif
