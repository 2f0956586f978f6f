#include "common/tensor.h"

#include "common/error.h"

namespace accel {
namespace {

constexpr int64_t kMaxElements = static_cast<int64_t>(1) << 44;

}  // namespace

std::string Shape::text() const {
  std::string text = "[";
  for (int i = 0; i < ndim; i++) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

int64_t Shape::elements() const {
  int64_t elements = 1;
  bool too_many = false;
  for (int i = 0; i < ndim; i++) {
    if (dims[i] < 0) fail("ERR_ACCEL_SHAPE", "the shape %s has a negative dimension", text().c_str());
    if (dims[i] != 0 && elements > kMaxElements / dims[i]) {
      too_many = true;
    } else {
      elements *= dims[i];
    }
  }
  for (int i = 0; i < ndim; i++) {
    if (dims[i] == 0) return 0;
  }
  if (too_many) {
    fail("ERR_ACCEL_OUT_OF_MEMORY", "a tensor of shape %s has more elements than any memory holds", text().c_str());
  }
  return elements;
}

Ref<Tensor> Tensor::empty(Backend& backend, DType dtype, const Shape& shape, FirstUse use) {
  size_t bytes = shape.elements() * dtype_bytes(dtype);
  // Only a large tensor's name is ever shown: building it for every activation would cost more than the memory.
  std::string name =
      bytes < (8 << 20) ? "a tensor" : std::string("a ") + dtype_name(dtype) + " tensor " + shape.text();
  return Ref<Tensor>(new Tensor(Storage::allocate(backend, bytes, name, use), 0, dtype, shape, bytes));
}

Ref<Tensor> Tensor::at(Ref<Storage> storage, size_t offset, DType dtype, const Shape& shape) {
  size_t bytes = shape.elements() * dtype_bytes(dtype);
  if (offset > storage->bytes() || bytes > storage->bytes() - offset) {
    fail("ERR_ACCEL_SHAPE", "a %s tensor %s at byte %zu does not fit into %zu bytes", dtype_name(dtype),
         shape.text().c_str(), offset, storage->bytes());
  }
  return Ref<Tensor>(new Tensor(std::move(storage), offset, dtype, shape, bytes));
}

Ref<Tensor> Tensor::view(const Shape& shape) const {
  if (shape.elements() != shape_.elements()) {
    fail("ERR_ACCEL_SHAPE", "cannot view a tensor %s as %s: the numbers of elements differ", shape_.text().c_str(),
         shape.text().c_str());
  }
  return at(storage_, offset_, dtype_, shape);
}

Ref<Tensor> Tensor::slice(int64_t begin, int64_t end) const {
  if (shape_.ndim == 0) fail("ERR_ACCEL_SHAPE", "a tensor without dimensions cannot be sliced");
  if (begin < 0 || end < begin || end > shape_.dims[0]) {
    fail("ERR_ACCEL_SHAPE", "cannot take rows [%lld, %lld) of a tensor %s", static_cast<long long>(begin),
         static_cast<long long>(end), shape_.text().c_str());
  }
  size_t row = shape_.dims[0] ? bytes_ / shape_.dims[0] : 0;
  Shape shape = shape_;
  shape.dims[0] = end - begin;
  return at(storage_, offset_ + begin * row, dtype_, shape);
}

}  // namespace accel
