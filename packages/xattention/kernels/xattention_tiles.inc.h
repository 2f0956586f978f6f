// Body of the tile kernel. Included by one source per instruction set, which defines ACCEL_XATTENTION_SCORE_ROWS.
//
// The antidiagonal scores of 32 reduced rows and 128 reduced columns are a matrix product of depth stride * head_dim.
// It is made in pieces of depth 128, whose operands stay in L1, with kRows x 32 sums in registers; then the epilogue
// turns each row of it into one maximum and a sum of exponentials for each block. Scores never leave the tile's room.
#include <bit>
#include <cmath>
#include <cstring>

#include "xattention.h"
#include "xattention_tiles.h"

namespace accel_xattention {
namespace {

#if defined(__AVX512F__)
constexpr int W = 16, kRows = 8;
#elif defined(__AVX2__)
constexpr int W = 8, kRows = 4;
#else
constexpr int W = 4, kRows = 4;
#endif
typedef float V __attribute__((vector_size(W * sizeof(float))));
constexpr int kDepth = 128;  // of a piece

inline V load(const float* from) {
  V x;
  memcpy(&x, from, sizeof x);
  return x;
}
inline void store(float* to, V x) { memcpy(to, &x, sizeof x); }

// 2^x for x <= 0; 0 below -126. A polynomial on [-1/2, 1/2], relative error 2e-9 before rounding.
inline float exp2_of(float x) {
  const float t = x < -126.f ? -126.f : x;
  const float n = (t + 12582912.f) - 12582912.f, f = t - n;
  float y = 0.00015353309572674334f;
  y = y * f + 0.0013398939045146108f;
  y = y * f + 0.009618437848985195f;
  y = y * f + 0.055503323674201965f;
  y = y * f + 0.24022647738456726f;
  y = y * f + 0.6931471824645996f;
  y = y * f + 1.f;
  return x < -126.f ? 0.f : y * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

// kRows x 2 W sums over a piece of the depth, added to what is in `room` unless the piece is the first.
inline void product(const float* q, const float* keys, int64_t depth, bool first, float* room) {
  V sum[kRows][2];
  for (int r = 0; r < kRows; ++r) {
    sum[r][0] = first ? V{} : load(room + r * kTile);
    sum[r][1] = first ? V{} : load(room + r * kTile + W);
  }
  for (int64_t k = 0; k < depth; ++k) {
    const V b0 = load(keys + k * kPanel), b1 = load(keys + k * kPanel + W);
    for (int r = 0; r < kRows; ++r) {
      const V a = V{} + q[k * kQueryLanes + r];
      sum[r][0] += a * b0;
      sum[r][1] += a * b1;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    store(room + r * kTile, sum[r][0]);
    store(room + r * kTile + W, sum[r][1]);
  }
}

// The scores of a column tile.
void multiply(const RowTile& t, int64_t tile) {
  for (int panel = 0; panel < kTile / kPanel; ++panel) {
    // Panels that no row sees are not there.
    if (tile * kTile + panel * kPanel > t.first_row + t.rows - 1) break;
    const float* keys = t.keys + (tile * (kTile / kPanel) + panel) * t.depth * kPanel;
    for (int64_t k = 0; k < t.depth; k += kDepth) {
      const int64_t depth = t.depth - k < kDepth ? t.depth - k : kDepth;
      for (int r = 0; r < kTileRows; r += kRows) {
        const float* q = t.q + (r / kQueryLanes * t.depth + k) * kQueryLanes + r % kQueryLanes;
        for (int c = 0; c < kPanel; c += 2 * W) {
          product(q, keys + k * kPanel + c, depth, k == 0, t.room + r * kTile + panel * kPanel + c);
        }
      }
    }
  }
}

// One row of a tile: its maximum and the sums of its blocks.
void finish_row(const RowTile& t, int row, int64_t tile) {
  const int g = kBlock / t.stride;
  const int64_t seen = t.first_row + row - tile * kTile + 1;
  const int visible = static_cast<int>(seen < 0 ? 0 : seen < kTile ? seen : kTile);
  const float* scores = t.room + row * kTile;
  float top = -INFINITY, terms[kTile];
  for (int c = 0; c < visible; ++c) top = scores[c] > top ? scores[c] : top;
  top *= t.scale;
  for (int c = 0; c < visible; ++c) terms[c] = exp2_of(scores[c] * t.scale - top);
  for (int c = visible; c < kTile; ++c) terms[c] = 0;
  t.tops[row * t.tiles + tile] = top;
  float* sums = t.sums + (row * t.tiles + tile) * t.stride;
  for (int b = 0; b < t.stride; ++b) {
    float sum = 0;
    for (int c = 0; c < g; ++c) sum += terms[b * g + c];
    sums[b] = sum;
  }
}

void score_rows(const RowTile& t) {
  const int64_t last = t.first_row + t.rows - 1;
  for (int64_t tile = 0; tile < t.tiles && tile * kTile <= last; ++tile) {
    multiply(t, tile);
    for (int row = 0; row < t.rows; ++row) finish_row(t, row, tile);
  }
}

}  // namespace

const ScoreRows ACCEL_XATTENTION_SCORE_ROWS = score_rows;

}  // namespace accel_xattention
