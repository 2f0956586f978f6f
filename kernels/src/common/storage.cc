#include "common/storage.h"

namespace accel {
namespace {

// Smaller tensors come and go too fast to be listed, and are never the reason for running out.
constexpr size_t kListedBytes = 8 << 20;

}  // namespace

Ref<Storage> Storage::allocate(Backend& backend, size_t bytes, const std::string& name, FirstUse use) {
  void* data = backend.allocate(bytes, name.c_str(), use);
  Ref<Storage> storage(new Storage(backend, data, bytes, {}));
  if (bytes >= kListedBytes) {
    storage->listed_ = true;
    backend.ledger().add(storage.get(), name, [bytes] { return bytes; });
  }
  return storage;
}

Ref<Storage> Storage::borrow(Backend& backend, void* data, size_t bytes, Ref<RefCounted> owner) {
  return Ref<Storage>(new Storage(backend, data, bytes, std::move(owner)));
}

Storage::~Storage() {
  if (listed_) backend_.ledger().remove(this);
  if (!owner_) backend_.release(data_, bytes_);
}

}  // namespace accel
