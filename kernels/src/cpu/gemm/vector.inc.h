// The vector register of one instruction set: `Reg` holds kLanes fp32 lanes. Only what GEMM needs.
//   load / store            unaligned, widening from and narrowing to bf16 and fp16 (round to nearest even)
//   load_some / store_some  the first n lanes; missing lanes read as zero
//   transpose               kLanes registers as a square matrix of 4-byte lanes
//   sum4                    horizontal sums of four registers, in an order that depends on no neighbour
struct Bf16 { uint16_t bits; };
struct F16 { uint16_t bits; };

#if ACCEL_GEMM_LEVEL == 0

constexpr int kLanes = 4;
typedef float Reg __attribute__((vector_size(16)));
typedef uint32_t Bits __attribute__((vector_size(16)));

inline Reg zero() { return Reg{0, 0, 0, 0}; }
inline Reg broadcast(float value) { return Reg{value, value, value, value}; }
inline Reg add(Reg a, Reg b) { return a + b; }
inline Reg multiply_add(Reg a, Reg b, Reg c) { return a * b + c; }

inline Reg load(const float* p) {
  Reg r;
  memcpy(&r, p, sizeof r);
  return r;
}
inline void store(float* p, Reg r) { memcpy(p, &r, sizeof r); }

inline Bits load_halves(const void* p) {
  uint16_t h[4];
  memcpy(h, p, sizeof h);
  return Bits{h[0], h[1], h[2], h[3]};
}
inline void store_halves(void* p, Bits r) {
  const uint16_t h[4] = {uint16_t(r[0]), uint16_t(r[1]), uint16_t(r[2]), uint16_t(r[3])};
  memcpy(p, h, sizeof h);
}

inline Reg load(const Bf16* p) { return (Reg)(load_halves(p) << 16); }
inline void store(Bf16* p, Reg r) {
  const Bits u = (Bits)r;
  const Bits rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const Bits nan = (u >> 16) | 0x40u;
  const Bits is_nan = (Bits)((u & 0x7fffffffu) > 0x7f800000u);
  store_halves(p, (rounded & ~is_nan) | (nan & is_nan));
}

// fp16 -> fp32: moving exponent and fraction into place makes the value 2^112 times too small, subnormals included.
inline Reg load(const F16* p) {
  const Bits h = load_halves(p);
  const Bits magnitude = h & 0x7fffu;
  const Bits special = (Bits)(magnitude >= 0x7c00u) & 0x7f800000u;  // inf and NaN keep an all-ones exponent
  const Reg scaled = (Reg)(magnitude << 13) * broadcast(0x1p112f);
  return (Reg)((Bits)scaled | special | ((h & 0x8000u) << 16));
}
inline uint16_t half_bits(float value) {
  uint32_t u;
  memcpy(&u, &value, sizeof u);
  const uint32_t sign = (u >> 16) & 0x8000u;
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) return uint16_t(sign | 0x7e00u | ((u >> 13) & 0x3ffu));
  if (u < 0x38800000u) {  // below 2^-14: adding 0.5 leaves multiples of 2^-24, the fp16 subnormals, rounded by the adder
    float magnitude;
    memcpy(&magnitude, &u, sizeof u);
    magnitude += 0.5f;
    memcpy(&u, &magnitude, sizeof u);
    return uint16_t(sign | (u - 0x3f000000u));
  }
  u = (u + 0xfffu + ((u >> 13) & 1u) - 0x38000000u) >> 13;
  return uint16_t(sign | (u < 0x7c00u ? u : 0x7c00u));
}
inline void store(F16* p, Reg r) {
  for (int i = 0; i < kLanes; ++i) p[i].bits = half_bits(r[i]);
}

inline void transpose(Reg (&r)[kLanes]) {
  const Reg a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  const Reg c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  r[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  r[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  r[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  r[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}
inline void sum4(Reg a, Reg b, Reg c, Reg d, float* to) {
  Reg r[4] = {a, b, c, d};
  transpose(r);
  store(to, (r[0] + r[2]) + (r[1] + r[3]));
}

#elif ACCEL_GEMM_LEVEL == 1

constexpr int kLanes = 8;
typedef __m256 Reg;

inline Reg zero() { return _mm256_setzero_ps(); }
inline Reg broadcast(float value) { return _mm256_set1_ps(value); }
inline Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
inline Reg multiply_add(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }

inline Reg load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Reg r) { _mm256_storeu_ps(p, r); }
inline Reg load(const Bf16* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline void store(Bf16* p, Reg r) {
  const __m256i u = _mm256_castps_si256(r);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i nan = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(r, r, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, nan, is_nan), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
  _mm_storeu_si128((__m128i*)p, _mm256_castsi256_si128(packed));
}
inline Reg load(const F16* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
inline void store(F16* p, Reg r) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

inline void transpose(Reg (&r)[kLanes]) {
  Reg t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = t[i];
}
inline void sum4(Reg a, Reg b, Reg c, Reg d, float* to) {
  const Reg quads = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1)));
}

#else

constexpr int kLanes = 16;
typedef __m512 Reg;

inline Reg zero() { return _mm512_setzero_ps(); }
inline Reg broadcast(float value) { return _mm512_set1_ps(value); }
inline Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
inline Reg multiply_add(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }

inline Reg load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Reg r) { _mm512_storeu_ps(p, r); }
inline Reg load(const Bf16* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
// Not vcvtneps2bf16, which flushes subnormals: every level rounds alike.
inline void store(Bf16* p, Reg r) {
  const __m512i u = _mm512_castps_si512(r);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i nan = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(r, r, _CMP_UNORD_Q);
  const __m512i high = _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, is_nan, nan), 16);
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(high));
}
inline Reg load(const F16* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline void store(F16* p, Reg r) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

inline void transpose(Reg (&r)[kLanes]) {
  Reg t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // r[i+j] now has columns j, j+4, j+8, j+12 of rows i..i+3, one per 128-bit part
    r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const Reg low = _mm512_shuffle_f32x4(r[j], r[j + 4], 0x44), low2 = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0x44);
    const Reg high = _mm512_shuffle_f32x4(r[j], r[j + 4], 0xee), high2 = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0xee);
    t[j] = _mm512_shuffle_f32x4(low, low2, 0x88);
    t[j + 4] = _mm512_shuffle_f32x4(low, low2, 0xdd);
    t[j + 8] = _mm512_shuffle_f32x4(high, high2, 0x88);
    t[j + 12] = _mm512_shuffle_f32x4(high, high2, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}
inline __m256 fold(Reg r) {
  return _mm256_add_ps(_mm512_castps512_ps256(r), _mm512_extractf32x8_ps(r, 1));
}
inline void sum4(Reg a, Reg b, Reg c, Reg d, float* to) {
  const __m256 quads = _mm256_hadd_ps(_mm256_hadd_ps(fold(a), fold(b)), _mm256_hadd_ps(fold(c), fold(d)));
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1)));
}

#endif

// Only at the ragged end of a row, so a copy through memory is good enough.
template <class T>
inline Reg load_some(const T* p, int64_t n) {
  T full[kLanes] = {};
  memcpy(full, p, size_t(n) * sizeof(T));
  return load(full);
}
template <class T>
inline void store_some(T* p, Reg r, int64_t n) {
  T full[kLanes];
  store(full, r);
  memcpy(p, full, size_t(n) * sizeof(T));
}
