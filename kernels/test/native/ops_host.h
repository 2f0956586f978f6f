// A tiny host for the op ABI: tensors, a paged cache with scattered pages, and accel_call with std::thread. The same
// calls run on CUDA when `setup.cuda` says so (ops_device.h); the checks run here in both cases.
#ifndef ACCEL_TEST_OPS_HOST_H
#define ACCEL_TEST_OPS_HOST_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "accel/op.h"
#include "cpu/builtin.h"
#include "cpu/ops/dtypes.h"
#include "ops_device.h"

namespace test {

using accel::cpu::Type;

inline accel_dtype dtype(Type t) {
  switch (t) {
    case Type::f32: return {ACCEL_FLOAT, 32, 1};
    case Type::bf16: return {ACCEL_BFLOAT, 16, 1};
    case Type::f16: return {ACCEL_FLOAT, 16, 1};
    case Type::f64: return {ACCEL_FLOAT, 64, 1};
    case Type::i32: return {ACCEL_INT, 32, 1};
    default: return {ACCEL_UINT, 8, 1};
  }
}

// Independent scalar conversions, by way of double arithmetic.
inline double half_value(uint16_t h) {
  const int e = (h >> 10) & 31, m = h & 1023;
  const double v = e == 31 ? (m ? NAN : INFINITY) : e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);
  return h & 0x8000 ? -v : v;
}
inline double bf16_value(uint16_t h) {
  const uint32_t u = (uint32_t)h << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
// Nearest representable value, ties to the even significand: `bits` of precision, exponents from `low` up.
inline double round_to(double x, int bits, int low, double overflow) {
  if (!isfinite(x) || x == 0) return x;
  int e;
  frexp(x, &e);
  const double unit = ldexp(1, std::max(e - bits, low));
  const double r = nearbyint(x / unit) * unit;
  return fabs(r) >= overflow ? copysign(INFINITY, x) : r;
}
inline double rounded(double x, Type t) {
  if (t == Type::bf16) return round_to(x, 8, -133, ldexp(1, 128));
  if (t == Type::f16) return round_to(x, 11, -24, 65536);
  return (float)x;
}

struct Tensor {
  std::vector<uint8_t> bytes;
  std::vector<int64_t> shape;
  Type type;
  accel_tensor t;

  Tensor(Type type_, std::vector<int64_t> shape_) : shape(std::move(shape_)), type(type_) {
    int64_t n = 1;
    for (const int64_t s : shape) n *= s;
    bytes.assign((size_t)n * accel::cpu::type_bytes(type) + guard_bytes, 0xee);
  }
  int64_t size() const { return (int64_t)(bytes.size() - guard_bytes) / accel::cpu::type_bytes(type); }
  const accel_tensor* view() {
    t = {bytes.data(), {ACCEL_DEVICE_CPU, 0}, (int32_t)shape.size(), dtype(type), shape.data(), nullptr, 0};
    return &t;
  }
  // 0xee behind the end must survive every op.
  bool intact() const {
    return std::all_of(bytes.end() - guard_bytes, bytes.end(), [](uint8_t b) { return b == 0xee; });
  }
  template <class T>
  T* as() { return reinterpret_cast<T*>(bytes.data()); }
  double get(int64_t i) const {
    const uint8_t* p = bytes.data() + i * accel::cpu::type_bytes(type);
    uint16_t h;
    memcpy(&h, p, 2);
    switch (type) {
      case Type::f32: { float f; memcpy(&f, p, 4); return f; }
      case Type::bf16: return bf16_value(h);
      case Type::f16: return half_value(h);
      case Type::f64: { double f; memcpy(&f, p, 8); return f; }
      case Type::i32: { int32_t v; memcpy(&v, p, 4); return v; }
      default: return *p;
    }
  }
  // For floats x must be representable or be rounded by the caller.
  void set(int64_t i, double x) {
    uint8_t* p = bytes.data() + i * accel::cpu::type_bytes(type);
    const float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, 4);
    switch (type) {
      case Type::f32: memcpy(p, &f, 4); break;
      case Type::bf16: { const uint16_t h = (uint16_t)(u >> 16); memcpy(p, &h, 2); break; }
      case Type::f16: {
        int e;
        const double m = frexp(fabs(x), &e);
        uint16_t h = x == 0 ? 0 : e > -14 ? (uint16_t)(((e + 14) << 10) + (int)ldexp(m, 11) - 1024)
                                          : (uint16_t)ldexp(fabs(x), 24);
        if (isinf(x)) h = 0x7c00;
        if (isnan(x)) h = 0x7e00;
        if (signbit(x)) h |= 0x8000;
        memcpy(p, &h, 2);
        break;
      }
      case Type::f64: memcpy(p, &x, 8); break;
      case Type::i32: { const int32_t v = (int32_t)x; memcpy(p, &v, 4); break; }
      default: *p = (uint8_t)x;
    }
  }
  void put(int64_t i, double x) { set(i, rounded(x, type)); }
};

using Random = std::mt19937_64;
inline double uniform(Random& rng, double lo = -1, double hi = 1) {
  return lo + (hi - lo) * (double)(rng() >> 11) * 0x1p-53;
}
inline int64_t pick(Random& rng, int64_t lo, int64_t hi) { return lo + (int64_t)(rng() % (uint64_t)(hi - lo + 1)); }
inline Tensor random_tensor(Random& rng, Type type, std::vector<int64_t> shape, double scale = 1) {
  Tensor t(type, std::move(shape));
  for (int64_t i = 0; i < t.size(); ++i) t.put(i, uniform(rng, -scale, scale));
  return t;
}

// A cache whose pages are handed out in random order, with an optional gap per head.
class Cache {
 public:
  Cache(Type type, int heads, int head_dim, int rows_per_page, int tallies = 0)
      : type_(type), heads_(heads), dim_(head_dim), rows_per_page_(rows_per_page), tallies_(tallies) {}

  // Between neighbouring rows of what `fill` makes: as if others had left.
  static constexpr int position_step = 3;

  // Adds one sequence; rows, gap_at and gap per head.
  void add(const std::vector<int>& rows, const std::vector<int>& gap_at, const std::vector<int>& gap) {
    for (int h = 0; h < heads_; ++h) {
      Head head;
      head.rows = rows[h];
      head.gap_at = gap_at[h];
      head.gap = gap[h];
      heads.push_back(head);
    }
  }

  void build(Random& rng) {
    const int bytes = accel::cpu::type_bytes(type_);
    const int64_t page_bytes = std::max<int64_t>((int64_t)rows_per_page_ * dim_ * bytes, 4 * (4 + tallies_) / 16 * 16);
    const int records_per_page = (int)(page_bytes / record_bytes());
    int64_t pages = 0;
    for (Head& h : heads) {
      const int slots = h.rows + (h.rows > h.gap_at ? h.gap : 0);
      h.pages[0].resize((slots + rows_per_page_ - 1) / rows_per_page_);
      h.pages[1].resize(h.pages[0].size());
      h.pages[2].resize((slots + records_per_page - 1) / records_per_page);
      for (auto& list : h.pages) pages += (int64_t)list.size();
    }
    std::vector<int32_t> order((size_t)pages);
    for (int64_t i = 0; i < pages; ++i) order[i] = (int32_t)i;
    std::shuffle(order.begin(), order.end(), rng);
    size_t next = 0;
    for (Head& h : heads) {
      for (auto& list : h.pages) {
        for (int32_t& p : list) p = order[next++];
      }
    }
    memory.assign((size_t)(pages * page_bytes), 0xff);        // NaN in every dtype: a stray read shows
    table.clear();
    for (Head& h : heads) {
      table.push_back({.key_pages = h.pages[0].data(),
                       .value_pages = h.pages[1].data(),
                       .record_pages = h.pages[2].data(),
                       .rows = h.rows,
                       .gap_at = h.gap_at,
                       .gap = h.gap});
    }
    kv = {.base = memory.data(),
          .page_bytes = page_bytes,
          .dtype = dtype(type_),
          .head_dim = dim_,
          .sequences = (int32_t)heads.size() / heads_,
          .heads = heads_,
          .rows_per_page = rows_per_page_,
          .records_per_page = records_per_page,
          .record_bytes = (int32_t)record_bytes(),
          .tallies = tallies_,
          .head = table.data()};
  }

  uint8_t* address(int which, int head, int64_t r) {
    const accel_kv_head& h = table[head];
    const int64_t s = r < h.gap_at ? r : r + h.gap;
    const int per = which == 2 ? kv.records_per_page : kv.rows_per_page;
    const int64_t row = which == 2 ? record_bytes() : row_bytes();
    return memory.data() + heads[head].pages[which][s / per] * kv.page_bytes + s % per * row;
  }
  double get(int which, int head, int64_t r, int c) {
    Tensor t(type_, {1});
    const int bytes = accel::cpu::type_bytes(type_);
    memcpy(t.bytes.data(), address(which, head, r) + c * bytes, (size_t)bytes);
    return t.get(0);
  }
  void fill(Random& rng, double scale) {
    Tensor t(type_, {dim_});
    for (int h = 0; h < (int)heads.size(); ++h) {
      for (int64_t r = 0; r < heads[h].rows; ++r) {
        for (int which = 0; which < 2; ++which) {
          for (int c = 0; c < dim_; ++c) t.put(c, uniform(rng, -scale, scale));
          memcpy(address(which, h, r), t.bytes.data(), (size_t)dim_ * accel::cpu::type_bytes(type_));
        }
        const int32_t position = (int32_t)(position_step * r + h);
        memcpy(address(2, h, r), &position, 4);
        for (int i = 0; i < tallies_; ++i) tally(h, r, i) = (float)uniform(rng);
      }
    }
  }
  float& tally(int head, int64_t r, int which) { return reinterpret_cast<float*>(address(2, head, r))[1 + which]; }
  int32_t position(int head, int64_t r) { return *reinterpret_cast<int32_t*>(address(2, head, r)); }
  int64_t row_bytes() const { return (int64_t)dim_ * accel::cpu::type_bytes(type_); }
  int64_t record_bytes() const { return 4 * (1 + tallies_); }

  struct Head {
    std::vector<int32_t> pages[3];
    int32_t rows, gap_at, gap;
  };
  std::vector<Head> heads;
  std::vector<accel_kv_head> table;
  std::vector<uint8_t> memory;
  accel_kv kv;
  Type type() const { return type_; }

 private:
  Type type_;
  int heads_, dim_, rows_per_page_, tallies_;
};

// An argument list and the call made with it.
class Call {
 public:
  explicit Call(const char* op, int threads = 3) : threads_(threads) {
    const accel_op_library* library = accel::cpu::builtin_library();
    for (int i = 0; i < library->count; ++i) {
      if (strcmp(library->ops[i].name, op) == 0) op_ = library->ops + i;
    }
    if (op_ == nullptr) {
      printf("there is no op %s\n", op);
      abort();
    }
  }
  Call& tensor(Tensor& t) {
    tensors_.push_back(&t);
    return push(ACCEL_ARG_TENSOR, [&](accel_arg& a) { a.tensor = t.view(); });
  }
  Call& none() { return push(ACCEL_ARG_TENSOR, [](accel_arg& a) { a.tensor = nullptr; }); }
  Call& integer(int64_t i) { return push(ACCEL_ARG_INT, [&](accel_arg& a) { a.i = i; }); }
  Call& real(double f) { return push(ACCEL_ARG_FLOAT, [&](accel_arg& a) { a.f = f; }); }
  Call& ints(std::vector<int32_t> list) {
    lists_.push_back(std::make_unique<std::vector<int32_t>>(std::move(list)));
    return push(ACCEL_ARG_INTS, [&](accel_arg& a) { a.ints = {lists_.back()->data(), (int64_t)lists_.back()->size()}; });
  }
  Call& kv(Cache& c) { return push(ACCEL_ARG_KV, [&](accel_arg& a) { a.kv = &c.kv; }); }

  // "" if all went well, else "CODE: message".
  std::string run() {
    accel_call call = {};
    call.args = args_.data();
    call.nargs = (int32_t)args_.size();
    call.threads = threads_;
    call.host = this;
    call.parallel = [](const accel_call* c, int64_t n, int64_t grain, accel_range_fn fn, void* user) {
      const int threads = c->threads;
      const int64_t pieces = std::min<int64_t>(threads, (n + grain - 1) / grain);
      if (pieces <= 1) return fn(user, 0, n, 0);
      std::vector<std::thread> pool;
      for (int64_t p = 0; p < pieces; ++p) {
        pool.emplace_back([=] { fn(user, n * p / pieces, n * (p + 1) / pieces, (int32_t)p); });
      }
      for (std::thread& t : pool) t.join();
    };
    call.scratch = [](const accel_call* c, size_t bytes) -> void* {
      auto& blocks = static_cast<Call*>(c->host)->blocks_;
      void* p = aligned_alloc(64, (bytes + 127) / 64 * 64);
      memset(p, 0xff, (bytes + 127) / 64 * 64);               // NaN: nothing may rely on zeros
      blocks.emplace_back(p, free);
      return p;
    };
    call.ran = [](const accel_call* c, const char* name) { static_cast<Call*>(c->host)->kernels.push_back(name); };
    call.fail = report;
    error_.clear();
    if (op_->check != nullptr && op_->check(&call) != ACCEL_OK) return error_.empty() ? "no message" : error_;
    if (setup.cuda) {
      error_ = run_on_cuda(op_->name, args_, kernels);
      return !error_.empty() || !kernels.empty() ? error_ : "did not report its kernel";
    }
    if (op_->cpu(&call) != ACCEL_OK) return error_.empty() ? "no message" : error_;
    blocks_.clear();
    for (const Tensor* t : tensors_) {
      if (!t->intact()) return "wrote past the end of a tensor";
    }
    if (kernels.empty()) return "did not report its kernel";
    return error_;
  }
  std::vector<std::string> kernels;

 private:
  static int report(const accel_call* c, const char* code, const char* format, ...) {
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    static_cast<Call*>(c->host)->error_ = std::string(code) + ": " + text;
    return ACCEL_FAILED;
  }
  template <class F>
  Call& push(accel_arg_kind kind, const F& f) {
    accel_arg a = {};
    a.kind = kind;
    f(a);
    args_.push_back(a);
    return *this;
  }
  const accel_op* op_ = nullptr;
  int threads_;
  std::string error_;
  std::vector<accel_arg> args_;
  std::vector<Tensor*> tensors_;
  std::vector<std::unique_ptr<std::vector<int32_t>>> lists_;
  std::vector<std::unique_ptr<void, void (*)(void*)>> blocks_;
};

}  // namespace test
#endif
