// A vector F of W floats for one instruction set (16: AVX-512, 8: AVX2 with FMA and F16C, 4: the portable baseline).
// think_segment.inc.h includes it inside its own anonymous namespace: everything here is private to the unit.

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif
typedef float F __attribute__((vector_size(W * 4)));
typedef int32_t I __attribute__((vector_size(W * 4)));

template <class X>
inline X bits_at(const void* from) {
  X x;
  memcpy(&x, from, sizeof x);
  return x;
}
inline F load(const float* from) { return bits_at<F>(from); }
inline void store(float* to, F x) { memcpy(to, &x, sizeof x); }

#if defined(__AVX512F__)

inline F load(const accel::host::Bf16* from) {
  return (F)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits_at<__m256i>(from)), 16);
}
inline F load(const accel::host::F16* from) { return (F)_mm512_maskz_cvtph_ps(0xffff, bits_at<__m256i>(from)); }
inline F max(F a, F b) { return (F)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b); }
inline float largest_of(F x) { return _mm512_reduce_max_ps((__m512)x); }
inline float sum_of(F x) { return _mm512_reduce_add_ps((__m512)x); }

#elif defined(__AVX2__)

inline F load(const accel::host::Bf16* from) {
  return (F)_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits_at<__m128i>(from)), 16);
}
inline F load(const accel::host::F16* from) { return (F)_mm256_cvtph_ps(bits_at<__m128i>(from)); }
inline F max(F a, F b) { return (F)_mm256_max_ps((__m256)a, (__m256)b); }
inline float largest_of(F x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}
inline float sum_of(F x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

#else

inline F load(const accel::host::Bf16* from) {
  typedef uint16_t H __attribute__((vector_size(8)));
  return (F)(__builtin_convertvector(bits_at<H>(from), I) << 16);
}
inline F load(const accel::host::F16* from) {
  using accel::host::widen;
  return F{widen(from[0]), widen(from[1]), widen(from[2]), widen(from[3])};
}
inline F max(F a, F b) { return a > b ? a : b; }
inline float largest_of(F x) {
  const float a = x[0] > x[1] ? x[0] : x[1], b = x[2] > x[3] ? x[2] : x[3];
  return a > b ? a : b;
}
inline float sum_of(F x) { return (x[0] + x[1]) + (x[2] + x[3]); }

#endif

// e^x for x <= 0; 0 below -87. Cephes' reduction and polynomial, relative error 2e-7 at most.
inline F exp_of(F x) {
  const F least = F{} - 87.0f, t = max(x, least);
  const F n = (t * 1.44269504f + 12582912.0f) - 12582912.0f;
  const F r = (t - n * 0.693359375f) - n * -2.12194440e-4f;
  F y = r * 1.9875691500e-4f + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  const F power = (F)((__builtin_convertvector(n, I) + 127) << 23);
  return x < least ? F{} : y * power;
}
