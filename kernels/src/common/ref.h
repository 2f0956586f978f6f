// Intrusive, thread-safe reference counts: commands on a stream share storages and page tables with the host side.
#ifndef ACCEL_COMMON_REF_H
#define ACCEL_COMMON_REF_H

#include <atomic>
#include <cstdint>
#include <utility>

namespace accel {

class RefCounted {
 public:
  void retain() const { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() const {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
  }
  // True when the caller holds the only reference, so nobody else can be reading.
  bool unique() const { return references_.load(std::memory_order_acquire) == 1; }

 protected:
  RefCounted() = default;
  virtual ~RefCounted() = default;
  virtual void destroy() const { delete this; }

 private:
  mutable std::atomic<int64_t> references_{1};
};

// Owns one reference. `Ref(p)` adopts the reference that `new` gave, `Ref::share(p)` takes another one.
template <typename T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(T* adopted) : pointer_(adopted) {}
  Ref(const Ref& other) : pointer_(other.pointer_) {
    if (pointer_) pointer_->retain();
  }
  Ref(Ref&& other) noexcept : pointer_(std::exchange(other.pointer_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(pointer_, other.pointer_);
    return *this;
  }
  ~Ref() {
    if (pointer_) pointer_->release();
  }
  static Ref share(T* pointer) {
    if (pointer) pointer->retain();
    return Ref(pointer);
  }
  T* get() const { return pointer_; }
  T* operator->() const { return pointer_; }
  T& operator*() const { return *pointer_; }
  explicit operator bool() const { return pointer_ != nullptr; }

 private:
  T* pointer_ = nullptr;
};

}  // namespace accel
#endif
