// Row and element kernels, written once, compiled per level. Include with ACCEL_LEVEL_TABLE defined.
//
//   rmsnorm  y = round(x / sqrt(mean(x^2) + eps)) * w, rounded again: the two roundings of Hugging Face's Llama
//            (Zhang & Sennrich 2019, arXiv:1910.07467)
//   swiglu   silu(gate) * up in fp32, rounded once (Shazeer 2020, arXiv:2002.05202)
//   rope     rotation of channel pairs by the angles of a table (Su et al. 2021, arXiv:2104.09864)
#include "cpu/simd_headers.h"

#include "cpu/ops/elementwise_kernels.h"

namespace accel::cpu {
namespace {

#include "cpu/simd.inc.h"

template <class F>
inline void with_type(Type type, const F& f) {
  switch (type) {
    case Type::f32: f((float*)nullptr); break;
    case Type::bf16: f((Bf16*)nullptr); break;
    default: f((F16*)nullptr); break;
  }
}

// What a value becomes when it is stored as S.
inline V rounded(V x, const float*) { return x; }
template <class S>
inline V rounded(V x, const S*) {
  S buffer[W];
  store(buffer, x);
  return load(buffer);
}

template <class S>
void rmsnorm_rows(S* out, const S* x, const S* weight, int64_t rows, int64_t width, float eps) {
  for (int64_t r = 0; r < rows; ++r, out += width, x += width) {
    V s0 = zero(), s1 = zero();
    int64_t i = 0;
    for (; i + 2 * W <= width; i += 2 * W) {
      const V a = load(x + i), b = load(x + i + W);
      s0 = fma(a, a, s0);
      s1 = fma(b, b, s1);
    }
    for (; i < width; i += W) {
      const V a = load_upto(x + i, width - i);
      s0 = fma(a, a, s0);
    }
    const V scale = set1(1.f / sqrtf(reduce_add(s0 + s1) / (float)width + eps));
    for (i = 0; i < width; i += W) {
      const V a = load_upto(x + i, width - i), w = load_upto(weight + i, width - i);
      store_upto(out + i, rounded(a * scale, x) * w, width - i);
    }
  }
}

template <class S>
void swiglu_elements(S* out, const S* gate, const S* up, int64_t n) {
  for (int64_t i = 0; i < n; i += W) {
    const V g = load_upto(gate + i, n - i), u = load_upto(up + i, n - i);
    store_upto(out + i, g / (set1(1.f) + exp(zero() - g)) * u, n - i);
  }
}

template <class S>
void add_elements(S* out, const S* a, const S* b, int64_t n) {
  for (int64_t i = 0; i < n; i += W) store_upto(out + i, load_upto(a + i, n - i) + load_upto(b + i, n - i), n - i);
}

template <class To, class From>
void cast_elements(To* out, const From* x, int64_t n) {
  for (int64_t i = 0; i < n; i += W) store_upto(out + i, load_upto(x + i, n - i), n - i);
}

// Non-finite values have all exponent bits set: an integer test, which compilers vectorise by themselves.
template <class U>
int64_t count_exponent(const void* x, int64_t n, U mask) {
  const uint8_t* p = (const uint8_t*)x;
  int64_t total = 0;
  for (int64_t begin = 0; begin < n; begin += 4096) {
    const int64_t end = begin + 4096 < n ? begin + 4096 : n;
    U count = 0;
    for (int64_t i = begin; i < end; ++i) {
      U u;
      memcpy(&u, p + i * (int64_t)sizeof(U), sizeof(U));
      count = (U)(count + ((u & mask) == mask));
    }
    total += count;
  }
  return total;
}

template <class S>
void rope_token(S* x, int heads, int head_dim, int half, const float* table, bool interleaved) {
  if (interleaved) {
    for (int h = 0; h < heads; ++h, x += head_dim) {
      float v[256];
      int c = 0;
      for (; c < 2 * half; c += W) store_upto(v + c, load_upto(x + c, 2 * half - c), 2 * half - c);
      for (int p = 0; p < half; ++p) {
        const float a = v[2 * p], b = v[2 * p + 1], cosine = table[2 * p], sine = table[2 * p + 1];
        v[2 * p] = a * cosine - b * sine;
        v[2 * p + 1] = b * cosine + a * sine;
      }
      for (c = 0; c < 2 * half; c += W) store_upto(x + c, load_upto(v + c, 2 * half - c), 2 * half - c);
    }
    return;
  }
  float cosine[128], sine[128];
  for (int p = 0; p < half; ++p) {
    cosine[p] = table[2 * p];
    sine[p] = table[2 * p + 1];
  }
  for (int h = 0; h < heads; ++h, x += head_dim) {
    for (int p = 0; p < half; p += W) {
      const int n = half - p;
      const V a = load_upto(x + p, n), b = load_upto(x + half + p, n);
      const V c = load_upto(cosine + p, n), s = load_upto(sine + p, n);
      store_upto(x + p, a * c - b * s, n);
      store_upto(x + half + p, fma(a, s, b * c), n);
    }
  }
}

void rmsnorm(Type type, void* out, const void* x, const void* weight, int64_t rows, int64_t width, float eps) {
  with_type(type, [&](auto* s) {
    using S = decltype(s);
    rmsnorm_rows((S)out, (S)x, (S)weight, rows, width, eps);
  });
}

void swiglu(Type type, void* out, const void* gate, const void* up, int64_t n) {
  with_type(type, [&](auto* s) {
    using S = decltype(s);
    swiglu_elements((S)out, (S)gate, (S)up, n);
  });
}

void add(Type type, void* out, const void* a, const void* b, int64_t n) {
  with_type(type, [&](auto* s) {
    using S = decltype(s);
    add_elements((S)out, (S)a, (S)b, n);
  });
}

void cast(Type to, void* out, Type from, const void* x, int64_t n) {
  with_type(to, [&](auto* t) {
    with_type(from, [&](auto* s) { cast_elements((decltype(t))out, (decltype(s))x, n); });
  });
}

int64_t count_nonfinite(Type type, const void* x, int64_t n) {
  if (type == Type::f32) return count_exponent<uint32_t>(x, n, 0x7f800000u);
  return count_exponent<uint16_t>(x, n, type == Type::bf16 ? 0x7f80 : 0x7c00);
}

void rope(Type type, void* x, int heads, int head_dim, int half, const float* table, bool interleaved) {
  with_type(type, [&](auto* s) { rope_token((decltype(s))x, heads, head_dim, half, table, interleaved); });
}

}  // namespace

extern const ElementwiseKernels ACCEL_LEVEL_TABLE;
const ElementwiseKernels ACCEL_LEVEL_TABLE = {rmsnorm, swiglu, add, cast, count_nonfinite, rope};

}  // namespace accel::cpu
