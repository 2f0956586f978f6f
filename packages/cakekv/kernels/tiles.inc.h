// Bodies of the tile kernels. Included by one source per instruction set, which defines CAKE_TILES, the table's name.
//
// Loops run over the 32 keys of a tile, which are independent, so compilers vectorise them and no sum is reordered but
// where it is written: every instruction set adds the same terms in the same order (fused multiply-adds round once).
#include <bit>
#include <cmath>
#include <type_traits>

#include "accel/host.h"
#include "cakekv.h"
#include "tiles.h"

namespace accel_cakekv {
namespace {

// e^x for x <= 0 and a little above; 0 below -87. Cephes' reduction and polynomial, relative error 2e-7 at most.
inline float exp_of(float x) {
  const float t = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float n = (t * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float r = (t - n * 0.693359375f) - n * -2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  const float power = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x < -87.0f ? 0.0f : y * power;
}

// ln x of a normal, positive x. Cephes.
inline float log_of(float x) {
  const int32_t bits = std::bit_cast<int32_t>(x);
  // x = m * 2^e, m in [sqrt(1/2), sqrt(2))
  const int32_t e = (bits - 0x3f3504f3) >> 23;
  const float m = std::bit_cast<float>(bits - (e << 23)) - 1.0f, n = static_cast<float>(e), z = m * m;
  float y = 7.0376836292e-2f;
  y = y * m - 1.1514610310e-1f;
  y = y * m + 1.1676998740e-1f;
  y = y * m - 1.2420140846e-1f;
  y = y * m + 1.4249322787e-1f;
  y = y * m - 1.6668057665e-1f;
  y = y * m + 2.0000714765e-1f;
  y = y * m - 2.4999993993e-1f;
  y = y * m + 3.3333331174e-1f;
  y = y * m * z + n * -2.12194440e-4f - 0.5f * z;
  return m + y + n * 0.693359375f;
}

// Keys [begin, begin + kTile) as columns [d, kTile]; 0 beyond the last row.
void load_tile(const Problem& p, int64_t head, int64_t begin, float* keys) {
  const accel::host::KvHead at(*p.kv, 0, static_cast<int>(head));
  accel::host::with_float(p.kv->dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    for (int64_t j = 0; j < kTile; ++j) {
      const T* key = begin + j < p.rows ? at.key<const T>(begin + j) : nullptr;
      for (int64_t c = 0; c < p.dim; ++c) keys[c * kTile + j] = key == nullptr ? 0 : accel::host::widen(key[c]);
    }
  });
}

void logits_of(const Problem& p, int64_t head, int64_t row, const float* __restrict keys, float* __restrict logits) {
  const float* query = p.queries + (head * p.group * p.w + row) * p.dim;
  float sum[kTile] = {};
  for (int64_t c = 0; c < p.dim; ++c) {
    const float x = query[c];
    for (int64_t j = 0; j < kTile; ++j) sum[j] += x * keys[c * kTile + j];
  }
  memcpy(logits, sum, sizeof sum);
}

// How many keys of a tile lie before the window of a row's query.
int64_t hidden_of(const Problem& p, int64_t head, int64_t row, int64_t begin) {
  const int64_t hidden = p.begins[head * p.w + row % p.w] - begin;
  return hidden < 0 ? 0 : hidden < kTile ? hidden : kTile;
}

void lse_tile(const Problem& p, int64_t head, int64_t tile, float* keys) {
  const int64_t begin = tile * kTile;
  load_tile(p, head, begin, keys);
  for (int64_t row = 0; row < p.group * p.w; ++row) {
    float logits[kTile], x[kTile];
    logits_of(p, head, row, keys, logits);
    // Query i of w sees the rows up to n - w + i.
    const int64_t count = p.rows - p.w + row % p.w + 1 - begin, hidden = hidden_of(p, head, row, begin);
    const bool sees = count > 0 && hidden < kTile;  // and its own row is behind both
    for (int64_t j = 0; j < hidden; ++j) logits[j] = -INFINITY;
    for (int64_t j = count < 0 ? 0 : count; j < kTile; ++j) logits[j] = -INFINITY;
    memcpy(x, logits, sizeof x);
    for (int64_t half = kTile / 2; half > 0; half /= 2) {
      for (int64_t j = 0; j < half; ++j) x[j] = x[j] > x[j + half] ? x[j] : x[j + half];
    }
    const float top = x[0];
    if (sees) {
      for (int64_t j = 0; j < kTile; ++j) x[j] = exp_of(logits[j] - top);
      for (int64_t half = kTile / 2; half > 0; half /= 2) {
        for (int64_t j = 0; j < half; ++j) x[j] += x[j + half];
      }
    }
    p.parts[(tile * p.kv->heads + head) * p.group * p.w + row] = {top, sees ? x[0] : 0};
  }
}

void statistics_tile(const Problem& p, int64_t head, int64_t tile, float* keys) {
  const int64_t begin = tile * kTile, left = p.columns - begin, count = left < 0 ? 0 : left < kTile ? left : kTile;
  double group[kTile] = {}, dispersion = 0, shift = 0;
  if (count > 0) load_tile(p, head, begin, keys);
  for (int64_t h = 0; h < p.group && count > 0; ++h) {
    double sum[kTile] = {}, squares[kTile] = {}, entropy[kTile] = {};
    for (int64_t i = 0; i < p.w; ++i) {
      const int64_t row = h * p.w + i;
      const float lse = p.lse[head * p.group * p.w + row];
      float logits[kTile], x[kTile], y[kTile];
      logits_of(p, head, row, keys, logits);
      for (int64_t j = 0; j < kTile; ++j) x[j] = exp_of(logits[j] - lse);
      for (int64_t j = 0; j < hidden_of(p, head, row, begin); ++j) x[j] = 0;
      for (int64_t j = 0; j < kTile; ++j) y[j] = x[j] * log_of(x[j] + kLogFloor);
      for (int64_t j = 0; j < kTile; ++j) {
        const double wide = x[j];
        sum[j] += wide;
        squares[j] += wide * wide;
        entropy[j] += y[j];
      }
    }
    for (int64_t j = 0; j < count; ++j) {
      const double mean = sum[j] / static_cast<double>(p.w), about = squares[j] - sum[j] * mean;
      const double variance = p.w > 1 && about > 0 ? about / static_cast<double>(p.w - 1) : 0;
      dispersion -= entropy[j];
      shift += variance;
      group[j] += mean + p.gamma * variance;
    }
  }
  if (p.indicator != nullptr) {
    for (int64_t j = 0; j < kTile && begin + j < p.rows; ++j) {
      p.indicator[head * p.rows + begin + j] = static_cast<float>(group[j] / static_cast<double>(p.group));
    }
  }
  double* sums = p.sums + (tile * p.kv->heads + head) * 2;
  sums[0] = dispersion;
  sums[1] = shift;
}

}  // namespace

const TileKernels CAKE_TILES = {lse_tile, statistics_tile};

}  // namespace accel_cakekv
