// GEMM path: blocking after Goto & van de Geijn, with both operands contiguous along K.
//
//   task: rows x cols outputs, all of K, by one thread. Each packs for itself: with hundreds of rows a task that costs
//   a few per cent at most, and the call needs only one fork and join
//     for each K block (<= kMaxCells cells)
//       panels = W[cols, K block] packed as [cols/kTileCols][cells][kTileCols]   in L2; one panel fits L1
//       for each kCacheRows rows of x
//         block = x[rows, K block] widened, rows kRowStride cells apart          in L2
//         for each panel, for each kTileRows rows
//           register tile: sums[i][j] += block[i][cell] * panel[cell][j], cell by cell
//
// x needs no transposition because the tile reads it one broadcast cell at a time; the fixed row stride makes those
// reads constant offsets from one pointer and keeps rows out of each other's cache sets.
// Summation order of one output: K blocks in order; within a block one fused multiply-add per cell, in order.

#if ACCEL_GEMM_LEVEL == 0
constexpr int kTileRows = 4, kTileRegs = 2;
constexpr int kMaxCells = 256, kCacheRows = 96, kMaxCols = 128;
#elif ACCEL_GEMM_LEVEL == 1
constexpr int kTileRows = 6, kTileRegs = 2;
constexpr int kMaxCells = 256, kCacheRows = 96, kMaxCols = 256;
#else
constexpr int kTileRows = 12, kTileRegs = 2;
constexpr int kMaxCells = 256, kCacheRows = 96, kMaxCols = 256;
#endif
constexpr int kTileCols = kTileRegs * kLanes;
constexpr int kRowStride = kMaxCells + 16;

// Rows of x and W lie K elements apart, further than hardware prefetchers follow; a row part is fetched this many rows
// before it is used.
constexpr int kAhead = 4;

inline void prefetch(const void* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)p + i, 0, 3);
}

// c[Rows, kTileCols] = (or +=) block[Rows, cells] · panel[cells, kTileCols]
template <class P, int Rows>
void tile(int64_t cells, const float* block, const float* panel, float* c, int64_t ldc, bool add_to) {
  Reg sums[Rows][kTileRegs];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
    __builtin_prefetch(c + i * ldc, 1, 3);
    __builtin_prefetch(c + i * ldc + kTileCols - 1, 1, 3);
#pragma GCC unroll 4
    for (int j = 0; j < kTileRegs; ++j) sums[i][j] = zero();
  }
  for (int64_t k = 0; k < cells; ++k) {
    Reg b[kTileRegs];
#pragma GCC unroll 4
    for (int j = 0; j < kTileRegs; ++j) b[j] = load(panel + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const Reg a = broadcast(block[i * kRowStride]);
#pragma GCC unroll 4
      for (int j = 0; j < kTileRegs; ++j) sums[i][j] = P::multiply_add(a, b[j], sums[i][j]);
    }
    ++block;
    panel += kTileCols;
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kTileRegs; ++j) {
      float* to = c + i * ldc + j * kLanes;
      store(to, add_to ? add(load(to), sums[i][j]) : sums[i][j]);
    }
}

typedef void (*TileFn)(int64_t, const float*, const float*, float*, int64_t, bool);

template <class P, int... I>
inline TileFn tile_of(int rows, Sequence<I...>) {
  static constexpr TileFn table[] = {tile<P, I + 1>...};
  return table[rows - 1];
}

// Packs `rows` weight rows (<= kTileCols; missing ones become zero columns) as panel[cells][kTileCols].
template <class P>
void pack_panel(const typename P::Element* w, int64_t stride, int64_t rows, int64_t rows_after, int64_t elements,
                float* panel) {
  constexpr int step = kLanes * P::kPerCell;
  for (int g = 0; g < kTileRegs; ++g) {
    const int64_t first = g * kLanes;
    const bool ahead = first + 2 * kLanes <= rows + rows_after;
    for (int64_t k = 0; k < elements; k += step) {
      Reg r[kLanes];
      const int64_t left = elements - k;
      if (left >= step && first + kLanes <= rows) {
        // The same columns of the next rows, once per cache line.
        if (ahead && k % (64 / int64_t(sizeof(typename P::Element))) == 0)
#pragma GCC unroll 16
          for (int i = 0; i < kLanes; ++i) __builtin_prefetch(w + (first + kLanes + i) * stride + k, 0, 3);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) r[i] = P::cells(w + (first + i) * stride + k);
      } else {
        for (int i = 0; i < kLanes; ++i) {
          const typename P::Element* row = w + (first + i) * stride + k;
          r[i] = first + i >= rows ? zero() : left >= step ? P::cells(row) : P::cells_some(row, left);
        }
      }
      transpose(r);
      float* to = panel + (k / P::kPerCell) * kTileCols + first;
      if (left >= step) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(to + i * kTileCols, r[i]);
      } else {
        for (int i = 0; i < (left + P::kPerCell - 1) / P::kPerCell; ++i) store(to + i * kTileCols, r[i]);
      }
    }
  }
}

inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// Scratch of one worker: packed panels, then the block of x, then (if needed) fp32 sums[rows][cols].
inline int64_t panel_floats(const GemmTiling& t) { return round_up(t.cols, kTileCols) * kMaxCells; }

inline size_t gemm_scratch(const GemmTiling& t) {
  const int64_t sums = t.sums ? t.rows * round_up(t.cols, kTileCols) : 0;
  return size_t(panel_floats(t) + kCacheRows * kRowStride + sums) * sizeof(float);
}

template <class P>
void gemm_block(const LinearProblem& p, const GemmTiling& t, int64_t m0, int64_t m1, int64_t n0, int64_t n1, void* scratch) {
  using Element = typename P::Element;
  float* panels = (float*)scratch;
  float* block = panels + panel_floats(t);
  float* sums = block + kCacheRows * kRowStride;
  const int64_t sums_stride = round_up(t.cols, kTileCols);
  const FinishFn finish_tile = finish_for<Element>(p);
  // Without bias, old values or a narrower dtype, `out` itself holds the partial sums.
  const bool in_place = p.result == Float::f32 && !p.accumulate && p.bias == nullptr;
  alignas(64) float edge[kTileRows * kTileCols];

  for (int64_t kb = 0; kb < t.k_blocks; ++kb) {
    const int64_t k0 = kb * t.k_step;
    const int64_t elements = kb + 1 < t.k_blocks ? t.k_step : p.k - k0;
    const int64_t cells = (elements + P::kPerCell - 1) / P::kPerCell;
    const bool last = kb + 1 == t.k_blocks;
    for (int64_t n = n0; n < n1; n += kTileCols)
      pack_panel<P>((const Element*)p.w + n * p.k + k0, p.k, n1 - n < kTileCols ? n1 - n : kTileCols,
                    n1 - n < kTileCols ? 0 : n1 - n - kTileCols, elements, panels + (n - n0) * cells);
    for (int64_t mb = m0; mb < m1; mb += kCacheRows) {
      const int64_t mb1 = m1 - mb < kCacheRows ? m1 : mb + kCacheRows;
      for (int64_t m = mb; m < mb1; ++m) {
        const Element* row = (const Element*)p.x + m * p.k + k0;
        if (m + kAhead < mb1) prefetch(row + kAhead * p.k, elements * int64_t(sizeof(Element)));
        copy_cells<P>(row, elements, block + (m - mb) * kRowStride);
      }
      for (int64_t n = n0; n < n1; n += kTileCols) {
        const float* panel = panels + (n - n0) * cells;
        const int64_t cols = n1 - n < kTileCols ? n1 - n : kTileCols;
        for (int64_t m = mb; m < mb1; m += kTileRows) {
          const int64_t rows = mb1 - m < kTileRows ? mb1 - m : kTileRows;
          const TileFn run = tile_of<P>(int(rows), MakeSequence<kTileRows>{});
          const float* a = block + (m - mb) * kRowStride;
          if (in_place && cols == kTileCols) {
            run(cells, a, panel, (float*)p.out + m * p.n + n, p.n, kb > 0);
          } else if (t.sums) {
            float* c = sums + (m - m0) * sums_stride + (n - n0);
            run(cells, a, panel, c, sums_stride, kb > 0);
            if (last) finish_tile(p, m, rows, n, cols, c, sums_stride);
          } else if (!in_place || kb == 0) {
            run(cells, a, panel, edge, kTileCols, false);
            finish_tile(p, m, rows, n, cols, edge, kTileCols);
          } else {  // ragged right edge of an in-place block: add to what earlier K blocks left in out
            run(cells, a, panel, edge, kTileCols, false);
            LinearProblem more = p;
            more.accumulate = true;
            finish_tile(more, m, rows, n, cols, edge, kTileCols);
          }
        }
      }
    }
  }
}
