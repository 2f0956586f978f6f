// A tensor as the host sees it: a typed, shaped window into a storage.
#ifndef ACCEL_COMMON_TENSOR_H
#define ACCEL_COMMON_TENSOR_H

#include "common/dtype.h"
#include "common/storage.h"

namespace accel {

inline constexpr int kMaxDims = 8;

struct Shape {
  int32_t ndim = 0;
  int64_t dims[kMaxDims] = {};
  // Elements; throws ERR_ACCEL_SHAPE when a dimension is negative or the product is absurd.
  int64_t elements() const;
  std::string text() const;  // "[2, 3]"
};

class Tensor final : public RefCounted {
 public:
  static Ref<Tensor> empty(Backend& backend, DType dtype, const Shape& shape, FirstUse use = FirstUse::stream);
  // `offset` bytes into a storage; throws unless the tensor lies inside it.
  static Ref<Tensor> at(Ref<Storage> storage, size_t offset, DType dtype, const Shape& shape);

  Storage& storage() const { return *storage_; }
  uint8_t* data() const { return storage_->data() + offset_; }
  size_t offset() const { return offset_; }
  size_t bytes() const { return bytes_; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  Ref<Tensor> view(const Shape& shape) const;
  // Rows [begin, end) of the first dimension.
  Ref<Tensor> slice(int64_t begin, int64_t end) const;

 private:
  Tensor(Ref<Storage> storage, size_t offset, DType dtype, const Shape& shape, size_t bytes)
      : storage_(std::move(storage)), offset_(offset), bytes_(bytes), dtype_(dtype), shape_(shape) {}

  Ref<Storage> storage_;
  size_t offset_;
  size_t bytes_;
  DType dtype_;
  Shape shape_;
};

}  // namespace accel
#endif
