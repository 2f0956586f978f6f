#include "common/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/error.h"

namespace accel {

Ref<MappedFile> MappedFile::open(const std::string& path) {
  int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail("ERR_ACCEL_FILE", "cannot open %s: %s", path.c_str(), std::strerror(errno));
  struct stat status;
  if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(file);
    fail("ERR_ACCEL_FILE", "cannot map %s: it is not a regular file", path.c_str());
  }
  auto bytes = static_cast<size_t>(status.st_size);
  void* data = nullptr;
  if (bytes > 0) {
    // Private and writable: an op that writes into a mapped tensor by mistake changes its own copy of the page instead
    // of ending the process. Nothing ever reaches the file.
    data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0);
  }
  int error = errno;
  ::close(file);
  if (data == MAP_FAILED) fail("ERR_ACCEL_FILE", "cannot map %s: %s", path.c_str(), std::strerror(error));
  return Ref<MappedFile>(new MappedFile(path, static_cast<uint8_t*>(data), bytes));
}

MappedFile::~MappedFile() {
  if (data_) munmap(data_, bytes_);
}

void MappedFile::require(size_t offset, size_t length) const {
  if (offset <= bytes_ && length <= bytes_ - offset) return;
  fail("ERR_ACCEL_FILE", "%s has %zu bytes; %zu bytes at offset %zu are not all inside it. The file may be truncated",
       path_.c_str(), bytes_, length, offset);
}

Ref<Tensor> MappedFile::tensor(Backend& backend, DType dtype, const Shape& shape, size_t offset) {
  size_t length = shape.elements() * dtype_bytes(dtype);
  require(offset, length);
  bool on_host = backend.device().type == ACCEL_DEVICE_CPU;
  if (length > 0 && on_host && offset % dtype_bytes(dtype) == 0) {
    Ref<RefCounted> owner = Ref<RefCounted>::share(this);
    return Tensor::at(Storage::borrow(backend, data_ + offset, length, std::move(owner)), 0, dtype, shape);
  }
  Ref<Tensor> copy = Tensor::empty(backend, dtype, shape, FirstUse::host);
  if (length > 0) backend.fill(copy->data(), data_ + offset, length);
  return copy;
}

}  // namespace accel
