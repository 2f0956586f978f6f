// A file mapped into memory. Tensors inside it need no copy and keep the mapping alive.
#ifndef ACCEL_COMMON_MAPPED_FILE_H
#define ACCEL_COMMON_MAPPED_FILE_H

#include <string>

#include "common/tensor.h"

namespace accel {

class MappedFile final : public RefCounted {
 public:
  // Throws ERR_ACCEL_FILE.
  static Ref<MappedFile> open(const std::string& path);

  size_t bytes() const { return bytes_; }
  const uint8_t* data() const { return data_; }
  // Throws ERR_ACCEL_FILE unless [offset, offset + length) lies in the file.
  void require(size_t offset, size_t length) const;
  // Misaligned data is copied into a tensor of its own.
  Ref<Tensor> tensor(Backend& backend, DType dtype, const Shape& shape, size_t offset);

 private:
  MappedFile(std::string path, uint8_t* data, size_t bytes)
      : path_(std::move(path)), data_(data), bytes_(bytes) {}
  ~MappedFile() override;

  std::string path_;
  uint8_t* data_;
  size_t bytes_;
};

}  // namespace accel
#endif
