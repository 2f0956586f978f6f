// embedding, rmsnorm, swiglu, add, cast, gather_rows, count_nonfinite: rows and elements, split over the threads.
// No result depends on the number of threads.
#include <atomic>

#include "cpu/builtin.h"
#include "cpu/ops/args.h"
#include "cpu/ops/elementwise_kernels.h"

namespace accel::cpu {

const ElementwiseKernels& elementwise_kernels() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::avx512bf16:
    case Isa::avx512: return elementwise_avx512;
    case Isa::avx2: return elementwise_avx2;
    default: break;
  }
#endif
  return elementwise_base;
}

namespace {

void* at(void* p, int64_t element, Type type) { return static_cast<uint8_t*>(p) + element * type_bytes(type); }

// ---- embedding  out:tensor[T,H], ids:tensor i32[T], table:tensor[V,H]

int embedding_check(const accel_call* call) {
  Checker check(call, "embedding");
  check.activation(2, "table").same_dtype(0, "out", 2, "table").dtype(1, "ids", {Type::i32});
  check.shape(1, "ids", "[T]", {-1}).shape(2, "table", "[V,H]", {-1, -1});
  return check.shape(0, "out", "[T,H]", {check.dim(1, 0), check.dim(2, 1)}).result();
}

int embedding(const accel_call* call) {
  const int64_t tokens = dim(call, 1, 0), vocabulary = dim(call, 2, 0);
  const int64_t row = dim(call, 2, 1) * type_bytes(type(call, 2));
  uint8_t* out = data<uint8_t>(tensor(call, 0));
  const int32_t* ids = data<int32_t>(tensor(call, 1));
  const uint8_t* table = data<uint8_t>(tensor(call, 2));
  for (int64_t t = 0; t < tokens; ++t) {
    if (ids[t] < 0 || ids[t] >= vocabulary) {
      return call->fail(call, "ERR_ACCEL_ARGUMENT", "embedding: ids[%lld] is %d, outside the table's %lld rows",
                        (long long)t, ids[t], (long long)vocabulary);
    }
  }
  parallel(call, tokens, grain_for(row / 8), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) memcpy(out + t * row, table + ids[t] * row, (size_t)row);
  });
  call->ran(call, "embedding");
  return ACCEL_OK;
}

// ---- rmsnorm  out:tensor[T,H], x:tensor[T,H], weight:tensor[H], eps:float

int rmsnorm_check(const accel_call* call) {
  Checker check(call, "rmsnorm");
  check.activation(1, "x").same_dtype(0, "out", 1, "x").same_dtype(2, "weight", 1, "x");
  check.shape(1, "x", "[T,H]", {-1, -1}).same_shape(0, "out", 1, "x").shape(2, "weight", "[H]", {check.dim(1, 1)});
  return check.require(call->args[3].f >= 0, "ERR_ACCEL_ARGUMENT", "eps must be at least 0, got %g", call->args[3].f)
      .result();
}

int rmsnorm(const accel_call* call) {
  const int64_t rows = dim(call, 1, 0), width = dim(call, 1, 1);
  const Type t = type(call, 1);
  void *out = data(tensor(call, 0)), *x = data(tensor(call, 1)), *weight = data(tensor(call, 2));
  const float eps = (float)call->args[3].f;
  const ElementwiseKernels& kernels = elementwise_kernels();
  parallel(call, rows, grain_for(width), [&](int64_t begin, int64_t end, int) {
    kernels.rmsnorm(t, at(out, begin * width, t), at(x, begin * width, t), weight, end - begin, width, eps);
  });
  call->ran(call, "rmsnorm");
  return ACCEL_OK;
}

// ---- swiglu  out:tensor[M,I], gate:tensor[M,I], up:tensor[M,I]    add  out, a, b (any equal shape)

int swiglu_check(const accel_call* call) {
  Checker check(call, "swiglu");
  check.activation(1, "gate").same_dtype(0, "out", 1, "gate").same_dtype(2, "up", 1, "gate");
  return check.same_shape(0, "out", 1, "gate").same_shape(2, "up", 1, "gate").result();
}

int swiglu(const accel_call* call) {
  const Type t = type(call, 1);
  void *out = data(tensor(call, 0)), *gate = data(tensor(call, 1)), *up = data(tensor(call, 2));
  const ElementwiseKernels& kernels = elementwise_kernels();
  parallel(call, elements(tensor(call, 1)), grain_for(4), [&](int64_t begin, int64_t end, int) {
    kernels.swiglu(t, at(out, begin, t), at(gate, begin, t), at(up, begin, t), end - begin);
  });
  call->ran(call, "swiglu");
  return ACCEL_OK;
}

int add_check(const accel_call* call) {
  Checker check(call, "add");
  check.activation(1, "a").same_dtype(0, "out", 1, "a").same_dtype(2, "b", 1, "a");
  return check.same_shape(0, "out", 1, "a").same_shape(2, "b", 1, "a").result();
}

int add(const accel_call* call) {
  const Type t = type(call, 1);
  void *out = data(tensor(call, 0)), *a = data(tensor(call, 1)), *b = data(tensor(call, 2));
  const ElementwiseKernels& kernels = elementwise_kernels();
  parallel(call, elements(tensor(call, 1)), grain_for(1), [&](int64_t begin, int64_t end, int) {
    kernels.add(t, at(out, begin, t), at(a, begin, t), at(b, begin, t), end - begin);
  });
  call->ran(call, "add");
  return ACCEL_OK;
}

// ---- cast  out, x: the same shape, between float dtypes; 16-bit results are rounded to nearest even

int cast_check(const accel_call* call) {
  Checker check(call, "cast");
  return check.activation(0, "out").activation(1, "x").same_shape(0, "out", 1, "x").result();
}

int cast(const accel_call* call) {
  const Type to = type(call, 0), from = type(call, 1);
  void *out = data(tensor(call, 0)), *x = data(tensor(call, 1));
  const ElementwiseKernels& kernels = elementwise_kernels();
  parallel(call, elements(tensor(call, 1)), grain_for(1), [&](int64_t begin, int64_t end, int) {
    kernels.cast(to, at(out, begin, to), from, at(x, begin, from), end - begin);
  });
  call->ran(call, "cast");
  return ACCEL_OK;
}

// ---- gather_rows  out:tensor[R,...], x:tensor[T,...], rows:ints; any dtype

int gather_rows_check(const accel_call* call) {
  Checker check(call, "gather_rows");
  const accel_tensor *out = tensor(call, 0), *x = tensor(call, 1);
  const accel_ints rows = call->args[2].ints;
  check.same_dtype(0, "out", 1, "x");
  check.require(x->ndim >= 1 && out->ndim == x->ndim, "ERR_ACCEL_SHAPE", "out has %d axes but x has %d", out->ndim,
                x->ndim);
  check.require(check.dim(0, 0) == rows.size, "ERR_ACCEL_SHAPE", "out has %lld rows but rows lists %lld",
                (long long)check.dim(0, 0), (long long)rows.size);
  for (int a = 1; check.ok() && a < x->ndim; ++a) {
    check.require(out->shape[a] == x->shape[a], "ERR_ACCEL_SHAPE", "axis %d is %lld in out but %lld in x", a,
                  (long long)out->shape[a], (long long)x->shape[a]);
  }
  for (int64_t r = 0; check.ok() && r < rows.size; ++r) {
    check.require(rows.data[r] >= 0 && rows.data[r] < x->shape[0], "ERR_ACCEL_ARGUMENT",
                  "rows[%lld] is %d, outside x's %lld rows", (long long)r, rows.data[r], (long long)x->shape[0]);
  }
  return check.result();
}

int gather_rows(const accel_call* call) {
  const accel_tensor* x = tensor(call, 1);
  const accel_ints rows = call->args[2].ints;
  const int64_t row = x->shape[0] == 0 ? 0 : elements(x) / x->shape[0] * (x->dtype.bits / 8);
  uint8_t* out = data<uint8_t>(tensor(call, 0));
  const uint8_t* from = data<uint8_t>(x);
  parallel(call, rows.size, grain_for(row / 8), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) memcpy(out + r * row, from + rows.data[r] * row, (size_t)row);
  });
  call->ran(call, "gather_rows");
  return ACCEL_OK;
}

// ---- count_nonfinite  out:tensor i32[1], x:tensor; saturates at INT32_MAX

int count_nonfinite_check(const accel_call* call) {
  Checker check(call, "count_nonfinite");
  return check.dtype(0, "out", {Type::i32}).shape(0, "out", "[1]", {1}).activation(1, "x").result();
}

int count_nonfinite(const accel_call* call) {
  const Type t = type(call, 1);
  void* x = data(tensor(call, 1));
  const ElementwiseKernels& kernels = elementwise_kernels();
  std::atomic<int64_t> total{0};
  parallel(call, elements(tensor(call, 1)), grain_for(1), [&](int64_t begin, int64_t end, int) {
    total += kernels.count_nonfinite(t, at(x, begin, t), end - begin);
  });
  const int64_t n = total;
  *data<int32_t>(tensor(call, 0)) = n > INT32_MAX ? INT32_MAX : (int32_t)n;
  call->ran(call, "count_nonfinite");
  return ACCEL_OK;
}

const accel_op ops[] = {
    {"embedding", "out:tensor, ids:tensor, table:tensor", embedding_check, embedding, nullptr},
    {"rmsnorm", "out:tensor, x:tensor, weight:tensor, eps:float", rmsnorm_check, rmsnorm, nullptr},
    {"swiglu", "out:tensor, gate:tensor, up:tensor", swiglu_check, swiglu, nullptr},
    {"add", "out:tensor, a:tensor, b:tensor", add_check, add, nullptr},
    {"cast", "out:tensor, x:tensor", cast_check, cast, nullptr},
    {"gather_rows", "out:tensor, x:tensor, rows:ints", gather_rows_check, gather_rows, nullptr},
    {"count_nonfinite", "out:tensor, x:tensor", count_nonfinite_check, count_nonfinite, nullptr},
};

}  // namespace

OpTable elementwise_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
