// A vector of fp32 for one instruction set level. Included once per translation unit, inside that unit's own anonymous
// namespace (see isa.h); everything here is therefore private to the level.
//
//   V        W floats (16: AVX-512, 8: AVX2+FMA+F16C, 4: portable compiler vectors)
//   load/store overloads widen from and narrow to float, Bf16 and F16; narrowing rounds to nearest even and keeps NaN.
//   *_part   touch only the first n < W elements; the others read as zero.
//
// The unit includes "cpu/simd_headers.h" beforehand, outside of its namespace.

#if defined(__AVX512F__)

constexpr int W = 16;
struct V {
  __m512 v;
};
inline V zero() { return {_mm512_setzero_ps()}; }
inline V set1(float x) { return {_mm512_set1_ps(x)}; }
inline V load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, V a) { _mm512_storeu_ps(p, a.v); }
inline V operator+(V a, V b) { return {_mm512_add_ps(a.v, b.v)}; }
inline V operator-(V a, V b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline V operator*(V a, V b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline V operator/(V a, V b) { return {_mm512_div_ps(a.v, b.v)}; }
inline V fma(V a, V b, V c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// If either argument is NaN the second one is returned.
inline V max(V a, V b) { return {_mm512_max_ps(a.v, b.v)}; }
inline V min(V a, V b) { return {_mm512_min_ps(a.v, b.v)}; }
inline float reduce_add(V a) { return _mm512_reduce_add_ps(a.v); }
inline float reduce_max(V a) { return _mm512_reduce_max_ps(a.v); }

inline __mmask16 first_lanes(int n) { return (__mmask16)((1u << n) - 1u); }
inline V widen_bf16(__m256i h) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))}; }
inline __m256i narrow_bf16(V a) {
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  r = _mm512_mask_mov_epi32(r, nan, _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40)));
  return _mm512_cvtepi32_epi16(r);
}
inline __m256i narrow_f16(V a) { return _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT); }
inline V load(const Bf16* p) { return widen_bf16(_mm256_loadu_si256((const __m256i*)p)); }
inline V load(const F16* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))}; }
inline void store(Bf16* p, V a) { _mm256_storeu_si256((__m256i*)p, narrow_bf16(a)); }
inline void store(F16* p, V a) { _mm256_storeu_si256((__m256i*)p, narrow_f16(a)); }
inline V load_part(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
inline V load_part(const Bf16* p, int n) { return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }
inline V load_part(const F16* p, int n) { return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p))}; }
inline void store_part(float* p, V a, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), a.v); }
inline void store_part(Bf16* p, V a, int n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_bf16(a)); }
inline void store_part(F16* p, V a, int n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_f16(a)); }

inline V round_even(V x) {
  return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// x * 2^n for x in [0.5, 2]; below n = -126 the result is 0 (subnormal factors would slow the FMAs that use it).
inline V scale2(V x, V n) {
  const __mmask16 keep = _mm512_cmp_ps_mask(n.v, _mm512_set1_ps(-126.f), _CMP_NLT_UQ);
  return {_mm512_maskz_scalef_ps(keep, x.v, n.v)};
}

inline void transpose(V* r) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
  }
  __m512 u[16];
  for (int i = 0; i < 16; i += 4) {
    u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  // u[4a + b] holds, in 128-bit lane l, column 4l + b of rows 4a .. 4a+3.
  for (int b = 0; b < 4; ++b) {
    const __m512 p = _mm512_shuffle_f32x4(u[b], u[4 + b], 0x88);        // lanes 0,2 of rows 0-3, then of 4-7
    const __m512 q = _mm512_shuffle_f32x4(u[b], u[4 + b], 0xdd);        // lanes 1,3
    const __m512 s = _mm512_shuffle_f32x4(u[8 + b], u[12 + b], 0x88);
    const __m512 w = _mm512_shuffle_f32x4(u[8 + b], u[12 + b], 0xdd);
    r[b].v = _mm512_shuffle_f32x4(p, s, 0x88);
    r[8 + b].v = _mm512_shuffle_f32x4(p, s, 0xdd);
    r[4 + b].v = _mm512_shuffle_f32x4(q, w, 0x88);
    r[12 + b].v = _mm512_shuffle_f32x4(q, w, 0xdd);
  }
}

// Lane i of the result is the sum of the lanes of a[i].
inline V reduce_add_each(const V* a) {
  __m512 x[4];
  for (int i = 0; i < 4; ++i) {
    const V* b = a + 4 * i;
    const __m512 s = _mm512_add_ps(_mm512_unpacklo_ps(b[0].v, b[1].v), _mm512_unpackhi_ps(b[0].v, b[1].v));
    const __m512 t = _mm512_add_ps(_mm512_unpacklo_ps(b[2].v, b[3].v), _mm512_unpackhi_ps(b[2].v, b[3].v));
    x[i] = _mm512_add_ps(_mm512_shuffle_ps(s, t, 0x44), _mm512_shuffle_ps(s, t, 0xee));
  }
  const __m512 y = _mm512_add_ps(_mm512_shuffle_f32x4(x[0], x[1], 0x88), _mm512_shuffle_f32x4(x[0], x[1], 0xdd));
  const __m512 z = _mm512_add_ps(_mm512_shuffle_f32x4(x[2], x[3], 0x88), _mm512_shuffle_f32x4(x[2], x[3], 0xdd));
  return {_mm512_add_ps(_mm512_shuffle_f32x4(y, z, 0x88), _mm512_shuffle_f32x4(y, z, 0xdd))};
}

#elif defined(__AVX2__)

constexpr int W = 8;
struct V {
  __m256 v;
};
inline V zero() { return {_mm256_setzero_ps()}; }
inline V set1(float x) { return {_mm256_set1_ps(x)}; }
inline V load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline void store(float* p, V a) { _mm256_storeu_ps(p, a.v); }
inline V operator+(V a, V b) { return {_mm256_add_ps(a.v, b.v)}; }
inline V operator-(V a, V b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline V operator*(V a, V b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline V operator/(V a, V b) { return {_mm256_div_ps(a.v, b.v)}; }
inline V fma(V a, V b, V c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
// If either argument is NaN the second one is returned.
inline V max(V a, V b) { return {_mm256_max_ps(a.v, b.v)}; }
inline V min(V a, V b) { return {_mm256_min_ps(a.v, b.v)}; }
inline float reduce_add(V a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float reduce_max(V a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

inline V widen_bf16(__m128i h) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16))}; }
inline __m128i narrow_bf16(V a) {
  const __m256i u = _mm256_castps_si256(a.v);
  const __m256i high = _mm256_srli_epi32(u, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  __m256i r = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  r = _mm256_blendv_epi8(r, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}
inline V load(const Bf16* p) { return widen_bf16(_mm_loadu_si128((const __m128i*)p)); }
inline V load(const F16* p) { return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p))}; }
inline void store(Bf16* p, V a) { _mm_storeu_si128((__m128i*)p, narrow_bf16(a)); }
inline void store(F16* p, V a) { _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT)); }
template <class S>
inline V load_part(const S* p, int n) {
  S buffer[W] = {};
  memcpy(buffer, p, (size_t)n * sizeof(S));
  return load(buffer);
}
template <class S>
inline void store_part(S* p, V a, int n) {
  S buffer[W];
  store(buffer, a);
  memcpy(p, buffer, (size_t)n * sizeof(S));
}

inline V round_even(V x) { return {_mm256_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// x * 2^n for x in [0.5, 2]; n is clamped to [-126, 127], and below -126 the result is 0.
inline V scale2(V x, V n) {
  const __m256 tiny = _mm256_cmp_ps(n.v, _mm256_set1_ps(-126.f), _CMP_LT_OQ);
  const __m256 c = _mm256_min_ps(_mm256_set1_ps(127.f), n.v);
  const __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(c), 23);
  const __m256 r = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.v), e));
  return {_mm256_andnot_ps(tiny, r)};
}

inline void transpose(V* r) {
  __m256 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i].v, r[i + 1].v);
    t[i + 1] = _mm256_unpackhi_ps(r[i].v, r[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int b = 0; b < 4; ++b) {
    r[b].v = _mm256_permute2f128_ps(u[b], u[4 + b], 0x20);
    r[4 + b].v = _mm256_permute2f128_ps(u[b], u[4 + b], 0x31);
  }
}

// Lane i of the result is the sum of the lanes of a[i].
inline V reduce_add_each(const V* a) {
  __m256 x[2];
  for (int i = 0; i < 2; ++i) {
    const V* b = a + 4 * i;
    const __m256 s = _mm256_add_ps(_mm256_unpacklo_ps(b[0].v, b[1].v), _mm256_unpackhi_ps(b[0].v, b[1].v));
    const __m256 t = _mm256_add_ps(_mm256_unpacklo_ps(b[2].v, b[3].v), _mm256_unpackhi_ps(b[2].v, b[3].v));
    x[i] = _mm256_add_ps(_mm256_shuffle_ps(s, t, 0x44), _mm256_shuffle_ps(s, t, 0xee));
  }
  return {_mm256_add_ps(_mm256_permute2f128_ps(x[0], x[1], 0x20), _mm256_permute2f128_ps(x[0], x[1], 0x31))};
}

#else

constexpr int W = 4;
typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));
struct V {
  F4 v;
};
inline V zero() { return {F4{0, 0, 0, 0}}; }
inline V set1(float x) { return {F4{x, x, x, x}}; }
inline V load(const float* p) {
  V a;
  memcpy(&a.v, p, 16);
  return a;
}
inline void store(float* p, V a) { memcpy(p, &a.v, 16); }
inline V operator+(V a, V b) { return {a.v + b.v}; }
inline V operator-(V a, V b) { return {a.v - b.v}; }
inline V operator*(V a, V b) { return {a.v * b.v}; }
inline V operator/(V a, V b) { return {a.v / b.v}; }
inline V fma(V a, V b, V c) { return {a.v * b.v + c.v}; }
// If either argument is NaN the second one is returned.
inline V max(V a, V b) { return {a.v > b.v ? a.v : b.v}; }
inline V min(V a, V b) { return {a.v < b.v ? a.v : b.v}; }
inline float reduce_add(V a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
inline float reduce_max(V a) {
  const float x = a.v[0] > a.v[2] ? a.v[0] : a.v[2], y = a.v[1] > a.v[3] ? a.v[1] : a.v[3];
  return x > y ? x : y;
}

inline float widen(Bf16 h) {
  const uint32_t u = (uint32_t)h.bits << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
inline void narrow(float f, Bf16* h) {
  uint32_t u;
  memcpy(&u, &f, 4);
  h->bits = (u & 0x7fffffffu) > 0x7f800000u ? (uint16_t)((u >> 16) | 0x40u)
                                            : (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
inline float widen(F16 h) {
  const uint32_t sign = (uint32_t)(h.bits & 0x8000u) << 16;
  const uint32_t magnitude = h.bits & 0x7fffu;
  uint32_t u;
  float f;
  if (magnitude >= 0x7c00u) {                                    // infinity, NaN
    u = sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13) | ((magnitude & 0x3ffu) ? 0x400000u : 0u);
    memcpy(&f, &u, 4);
    return f;
  }
  if (magnitude < 0x400u) {                                      // zero, subnormal: an exact product
    f = (float)magnitude * 5.9604644775390625e-8f;
    return sign ? -f : f;
  }
  u = sign | ((magnitude << 13) + (112u << 23));
  memcpy(&f, &u, 4);
  return f;
}
inline void narrow(float f, F16* h) {
  uint32_t u;
  memcpy(&u, &f, 4);
  const uint32_t sign = (u >> 16) & 0x8000u;
  u &= 0x7fffffffu;
  uint32_t r;
  if (u > 0x7f800000u) {
    r = 0x7e00u | ((u >> 13) & 0x3ffu);
  } else if (u >= 0x477ff000u) {                                 // rounds to 2^16 or more
    r = 0x7c00u;
  } else if (u >= 0x38800000u) {
    u -= 112u << 23;
    r = (u + 0xfffu + ((u >> 13) & 1u)) >> 13;
  } else {                                                       // subnormal: adding 2^-1 aligns and rounds the bits
    float a;
    memcpy(&a, &u, 4);
    a += 0.5f;
    memcpy(&r, &a, 4);
    r -= 0x3f000000u;
  }
  h->bits = (uint16_t)(sign | r);
}
template <class S>
inline V load(const S* p) {
  return {F4{widen(p[0]), widen(p[1]), widen(p[2]), widen(p[3])}};
}
template <class S>
inline void store(S* p, V a) {
  for (int i = 0; i < 4; ++i) narrow(a.v[i], p + i);
}
template <class S>
inline V load_part(const S* p, int n) {
  S buffer[W] = {};
  memcpy(buffer, p, (size_t)n * sizeof(S));
  return load(buffer);
}
template <class S>
inline void store_part(S* p, V a, int n) {
  S buffer[W];
  store(buffer, a);
  memcpy(p, buffer, (size_t)n * sizeof(S));
}

inline V round_even(V x) {                                       // for |x| < 2^22, which the callers clamp to
  const F4 magic = {12582912.f, 12582912.f, 12582912.f, 12582912.f};
  return {(x.v + magic) - magic};
}
// x * 2^n for x in [0.5, 2]; n is clamped to [-126, 127], and below -126 the result is 0.
inline V scale2(V x, V n) {
  const I4 tiny = n.v < set1(-126.f).v;
  const F4 c = min(set1(127.f), max(set1(-127.f), n)).v;
  const I4 e = __builtin_convertvector(c, I4) << 23;
  I4 bits;
  memcpy(&bits, &x.v, 16);
  bits = (bits + e) & ~tiny;
  V r;
  memcpy(&r.v, &bits, 16);
  return r;
}

inline void transpose(V* r) {
  const V a = r[0], b = r[1], c = r[2], d = r[3];
  for (int i = 0; i < 4; ++i) r[i].v = F4{a.v[i], b.v[i], c.v[i], d.v[i]};
}

// Lane i of the result is the sum of the lanes of a[i].
inline V reduce_add_each(const V* a) {
  V r[4] = {a[0], a[1], a[2], a[3]};
  transpose(r);
  return (r[0] + r[2]) + (r[1] + r[3]);
}

#endif

// The first `n` lanes only, or all of them if n >= W: for loops over a count that is not a multiple of W.
template <class S>
inline V load_upto(const S* p, int64_t n) {
  return n >= W ? load(p) : load_part(p, (int)n);
}
template <class S>
inline void store_upto(S* p, V a, int64_t n) {
  if (n >= W) {
    store(p, a);
  } else {
    store_part(p, a, (int)n);
  }
}

constexpr float log2e = 1.44269504088896340736f;
constexpr float ln2 = 0.69314718055994530942f;

// 2^x. Range reduction to [-1/2, 1/2] and a degree-6 minimax polynomial with p(0) = 1 (relative error 2e-9, so the
// result is good to about 1 ulp). x <= -126.5 gives 0, also for -inf; NaN stays NaN.
inline V exp2(V x) {
  x = max(set1(-200.f), x);
  const V n = round_even(x);
  const V f = x - n;
  V p = fma(set1(0.00015353309572674334f), f, set1(0.0013398939045146108f));
  p = fma(p, f, set1(0.009618437848985195f));
  p = fma(p, f, set1(0.055503323674201965f));
  p = fma(p, f, set1(0.24022647738456726f));
  p = fma(p, f, set1(0.6931471824645996f));
  p = fma(p, f, set1(1.f));
  return scale2(p, n);
}

// e^x, about 1 ulp: reduced with ln2 in two parts. Saturates near 2^127 instead of overflowing; NaN stays NaN.
inline V exp(V x) {
  x = min(set1(88.f), max(set1(-104.f), x));
  const V n = round_even(x * set1(log2e));
  V f = fma(n, set1(-0.693145751953125f), x);
  f = fma(n, set1(-1.42860682030941723212e-6f), f);
  V p = fma(set1(0.0013843607157468796f), f, set1(0.008374195545911789f));
  p = fma(p, f, set1(0.04166800528764725f));
  p = fma(p, f, set1(0.16666430234909058f));
  p = fma(p, f, set1(0.4999999403953552f));
  p = fma(p, f, set1(1.f));
  p = fma(p, f, set1(1.f));
  return scale2(p, n);
}
