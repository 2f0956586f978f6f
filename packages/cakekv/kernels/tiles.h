// The inner loops of cake_statistics on the CPU, once for each instruction set.
#ifndef ACCEL_CAKEKV_TILES_H
#define ACCEL_CAKEKV_TILES_H

#include "accel/op.h"

namespace accel_cakekv {

constexpr int64_t kTile = 32;  // keys

// Maximum of a query's logits in a tile, and the sum of exp(logit - maximum).
struct Part {
  float top;
  float sum;
};

struct Problem {
  const accel_kv* kv;
  const float* queries;  // [Hk, g * w, d], times scale; rows of a head: (head of the group, query)
  int64_t rows, columns, w, group, dim, tiles;
  float gamma;
  int32_t* begins;   // [Hk, w] the first row that a query sees
  float* floats;     // [threads][d * kTile]
  Part* parts;       // [tiles, Hk, g * w]
  float* lse;        // [Hk, g * w]
  double* sums;      // [tiles, Hk, 2]
  float* indicator;  // [Hk, n] or null
};

struct TileKernels {
  // Both take a thread's own d * kTile floats.
  void (*lse)(const Problem& p, int64_t head, int64_t tile, float* keys);
  void (*statistics)(const Problem& p, int64_t head, int64_t tile, float* keys);
};

extern const TileKernels tiles_base, tiles_avx2, tiles_avx512;

}  // namespace accel_cakekv
#endif
