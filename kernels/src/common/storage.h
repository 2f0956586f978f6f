// The memory behind tensors. Handles, views and enqueued commands share it; the last one to let go frees it.
#ifndef ACCEL_COMMON_STORAGE_H
#define ACCEL_COMMON_STORAGE_H

#include <functional>
#include <string>

#include "common/backend.h"
#include "common/ref.h"

namespace accel {

class Storage final : public RefCounted {
 public:
  // Uninitialised memory of a device. `name` describes it in out-of-memory messages.
  static Ref<Storage> allocate(Backend& backend, size_t bytes, const std::string& name,
                               FirstUse use = FirstUse::stream);
  // Memory that `owner` keeps alive, for example a mapped file.
  static Ref<Storage> borrow(Backend& backend, void* data, size_t bytes, Ref<RefCounted> owner);

  Backend& backend() const { return backend_; }
  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  Storage(Backend& backend, void* data, size_t bytes, Ref<RefCounted> owner)
      : backend_(backend), data_(static_cast<uint8_t*>(data)), bytes_(bytes), owner_(std::move(owner)) {}
  ~Storage() override;

  Backend& backend_;
  uint8_t* data_;
  size_t bytes_;
  Ref<RefCounted> owner_;  // set for borrowed memory
  bool listed_ = false;    // in the backend's ledger
};

}  // namespace accel
#endif
