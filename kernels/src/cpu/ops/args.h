// Reading and checking the arguments of an op.
#ifndef ACCEL_CPU_OPS_ARGS_H
#define ACCEL_CPU_OPS_ARGS_H

#include <initializer_list>

#include "accel/op.h"
#include "cpu/ops/dtypes.h"

namespace accel::cpu {

template <class T = void>
inline T* data(const accel_tensor* tensor) {
  return tensor == nullptr ? nullptr
                           : reinterpret_cast<T*>(static_cast<uint8_t*>(tensor->data) + tensor->byte_offset);
}

inline const accel_tensor* tensor(const accel_call* call, int i) { return call->args[i].tensor; }
inline Type type(const accel_call* call, int i) { return type_of(call->args[i].tensor->dtype); }
inline int64_t dim(const accel_call* call, int i, int axis) { return call->args[i].tensor->shape[axis]; }

inline int64_t elements(const accel_tensor* t) {
  int64_t n = 1;
  for (int i = 0; i < t->ndim; ++i) n *= t->shape[i];
  return n;
}

// Runs fn(begin, end, worker) over [0, n). `fn` may be a lambda with captures; it lives on the caller's stack.
template <class F>
inline void parallel(const accel_call* call, int64_t n, int64_t grain, const F& fn) {
  if (n <= 0) return;
  call->parallel(
      call, n, grain,
      [](void* user, int64_t begin, int64_t end, int32_t worker) { (*static_cast<const F*>(user))(begin, end, worker); },
      const_cast<F*>(&fn));
}

// How many items of `cost` scalar steps make a range worth handing to another thread.
inline int64_t grain_for(int64_t cost) { return cost >= 16384 ? 1 : 16384 / (cost < 1 ? 1 : cost); }

// Checks in a row; the first one that fails reports and the rest do nothing, so a check function reads as a list.
// Messages name the op, the argument and what was seen.
class Checker {
 public:
  Checker(const accel_call* call, const char* op) : call_(call), op_(op) {}

  // 0 if the tensor has no such axis.
  int64_t dim(int i, int axis) const;
  bool has(int i) const { return call_->args[i].tensor != nullptr; }
  bool ok() const { return ok_; }
  int result() const { return ok_ ? ACCEL_OK : ACCEL_FAILED; }

  // `letters` is the shape as the documentation writes it, for example "[T,Hq,d]"; -1 accepts any size.
  Checker& shape(int i, const char* name, const char* letters, std::initializer_list<int64_t> want);
  Checker& dtype(int i, const char* name, std::initializer_list<Type> allowed);
  Checker& activation(int i, const char* name) { return dtype(i, name, {Type::f32, Type::bf16, Type::f16}); }
  Checker& same_dtype(int i, const char* name, int j, const char* other);
  Checker& same_shape(int i, const char* name, int j, const char* other);
  // Geometry of a cache argument: page sizes that fit, rows within the tables' range, `sequences` if not negative.
  Checker& kv(int i, const char* name, int sequences);
  // Every head of the one sequence has as many rows as head 0.
  Checker& same_rows(int i, const char* name);
  // Argument i is the number of a tally that the rows of a cache have.
  Checker& tally(int i, int kv, const char* kv_name);
  // Argument i is a number of positions, or 0 for no limit.
  Checker& window(int i);
  // Argument i is empty or has [begin, end) for each sequence. Ends may lie beyond the rows.
  Checker& ranges(int i, int64_t sequences);
  Checker& kv_dtype(int i, const char* name, int kv, const char* kv_name);
  __attribute__((format(printf, 4, 5))) Checker& require(bool good, const char* code, const char* format, ...);

 private:
  const accel_call* call_;
  const char* op_;
  bool ok_ = true;
};

}  // namespace accel::cpu
#endif
