// Bodies of the tile kernels. Included by one source per instruction set, which defines ACCEL_FLEXPREFILL_TILES, the
// table's name. GCC's vector types become that set's instructions.
#include <string.h>

#include "flexprefill_tiles.h"

namespace accel_flexprefill {
namespace {

#if defined(__AVX512F__)
constexpr int W = 16, kTogether = 4;
#elif defined(__AVX2__)
constexpr int W = 8, kTogether = 2;
#else
constexpr int W = 4, kTogether = 2;
#endif
typedef float V __attribute__((vector_size(W * sizeof(float))));
typedef int32_t I __attribute__((vector_size(W * sizeof(int32_t))));

inline V load(const float* from) {
  V x;
  memcpy(&x, from, sizeof x);
  return x;
}
inline void store(float* to, V x) { memcpy(to, &x, sizeof x); }
inline V larger(V a, V b) { return a > b ? a : b; }

// 2^x for x <= 0, to 2 units in the last place; results below the smallest normal number are 0, as on CUDA (ex2.ftz).
// A NaN stays one.
inline V exp2_of(V x) {
  const V bounded = larger(x, V{} - 127.0f);
  const V magic = V{} + 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer
  const V whole = (bounded + magic) - magic;
  const V f = bounded - whole;
  V y = V{} + 1.5252734e-5f;
  y = y * f + 1.5403530e-4f;
  y = y * f + 1.3333558e-3f;
  y = y * f + 9.6181291e-3f;
  y = y * f + 5.5504109e-2f;
  y = y * f + 2.4022651e-1f;
  y = y * f + 6.9314718e-1f;
  y = y * f + 1.0f;
  const I bits = (__builtin_convertvector(whole, I) + 127) << 23;
  V power;
  memcpy(&power, &bits, sizeof power);
  return x < -126.0f ? V{} : x == x ? y * power : x;
}

template <int kRows>
inline void product_rows(float* out, int64_t pitch, const float* a, const float* b, int dim) {
  for (int c = 0; c < kTile; c += W * kTogether) {
    V sum[kRows][kTogether] = {};
    for (int d = 0; d < dim; d++) {
      V column[kTogether];
      for (int v = 0; v < kTogether; v++) column[v] = load(b + d * kTile + c + v * W);
      for (int r = 0; r < kRows; r++) {
        const V x = V{} + a[r * dim + d];
        for (int v = 0; v < kTogether; v++) sum[r][v] += x * column[v];
      }
    }
    for (int r = 0; r < kRows; r++) {
      for (int v = 0; v < kTogether; v++) store(out + r * pitch + c + v * W, sum[r][v]);
    }
  }
}

void product(float* out, int64_t pitch, const float* a, const float* b, int rows, int dim) {
  int r = 0;
  for (; r + 4 <= rows; r += 4) product_rows<4>(out + r * pitch, pitch, a + r * dim, b, dim);
  for (; r < rows; r++) product_rows<1>(out + r * pitch, pitch, a + r * dim, b, dim);
}

void statistics(const float* x, int64_t count, float scale, float* largest, float* sum) {
  const int64_t whole = count / W * W;
  V most = V{} + kLowest;
  for (int64_t i = 0; i < whole; i += W) most = larger(load(x + i) * scale, most);
  V rest = V{} + kLowest;
  for (int64_t i = whole; i < count; i++) rest[i - whole] = x[i] * scale;
  most = larger(rest, most);
  float m = kLowest;
  for (int i = 0; i < W; i++) m = most[i] > m ? most[i] : m;
  V total = {};
  for (int64_t i = 0; i < whole; i += W) total += exp2_of(load(x + i) * scale - m);
  V last = {};
  for (int64_t i = whole; i < count; i++) last[i - whole] = 1.0f;
  total += count > whole ? exp2_of(rest - m) * last : V{};
  float s = 0;
  for (int i = 0; i < W; i++) s += total[i];
  *largest = m;
  *sum = s;
}

void exponentials(float* x, int64_t count, float scale, float largest, float factor) {
  const int64_t whole = count / W * W;
  for (int64_t i = 0; i < whole; i += W) store(x + i, exp2_of(load(x + i) * scale - largest) * factor);
  V rest = {};
  for (int64_t i = whole; i < count; i++) rest[i - whole] = x[i] * scale - largest;
  rest = exp2_of(rest) * factor;
  for (int64_t i = whole; i < count; i++) x[i] = rest[i - whole];
}

void sums(const float* tile, int rows, float* column, float* diagonal) {
  memset(column, 0, kTile * sizeof(float));
  memset(diagonal, 0, 2 * kTile * sizeof(float));
  for (int r = 0; r < rows; r++) {
    const float* row = tile + r * kTile;
    float* shifted = diagonal + rows - 1 - r;
    for (int c = 0; c < kTile; c += W) {
      const V x = load(row + c);
      store(column + c, load(column + c) + x);
      store(shifted + c, load(shifted + c) + x);
    }
  }
}

}  // namespace

const TileKernels ACCEL_FLEXPREFILL_TILES = {product, statistics, exponentials, sums};

}  // namespace accel_flexprefill
