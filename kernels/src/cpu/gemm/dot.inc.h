// Dot path for few rows (decoding): the work is reading W once.
//
//   x is widened once into zero-padded fp32 cells; W is read in groups of neighbouring rows, straight from memory.
//   out[m][n] = Σ_lanes ( one register of partial sums, lane l holding the cells k ≡ l (mod kLanes) in order )
//
// A group is Rows weight rows x Batch rows of x: Rows*Batch independent chains hide the multiply-add latency, and each
// loaded weight register is used Batch times. Which group an output falls into does not change its summation order.

#if ACCEL_GEMM_LEVEL >= 2
constexpr int kMaxBatch = 4;
constexpr int group_rows(int batch) { return batch <= 2 ? 8 : 4; }
#elif ACCEL_GEMM_LEVEL == 1
constexpr int kMaxBatch = 3;
constexpr int group_rows(int batch) { return batch == 1 ? 8 : 4; }
#else
constexpr int kMaxBatch = 2;
constexpr int group_rows(int batch) { return batch == 1 ? 8 : 4; }
#endif
// Measured (AVX2): dot is ahead of gemm up to M = 16 for all shapes, at 24 only for weights far beyond the cache.
constexpr int kDotMaxRows = 16;
constexpr int kSumRows = DotKernel::kTaskRows;  // weight rows whose sums are collected before they are finished

template <class P>
inline int64_t dot_cells(int64_t k) {
  const int64_t cells = (k + P::kPerCell - 1) / P::kPerCell;
  return (cells + kLanes - 1) / kLanes * kLanes;
}
template <class P>
int64_t dot_row_bytes(int64_t k) { return dot_cells<P>(k) * int64_t(sizeof(float)); }

template <class P>
void dot_widen(const LinearProblem& p, int64_t row, void* to) {
  float* cells = (float*)to;
  if (dot_cells<P>(p.k) * P::kPerCell != p.k) store(cells + dot_cells<P>(p.k) - kLanes, zero());
  copy_cells<P>((const typename P::Element*)p.x + row * p.k, p.k, cells);
}

// sums[b][r] = x[b] · w[r] for Batch rows of x and Rows rows of W. Rows is a multiple of 4, or 1.
template <class P, int Batch, int Rows>
inline void dot_group(const typename P::Element* w, int64_t k, const float* x, int64_t stride, float* sums) {
  constexpr int step = kLanes * P::kPerCell;
  Reg s[Batch][Rows];
#pragma GCC unroll 4
  for (int b = 0; b < Batch; ++b)
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) s[b][r] = zero();
  int64_t i = 0;
  for (; i + step <= k; i += step, x += kLanes) {
    Reg a[Batch];
#pragma GCC unroll 4
    for (int b = 0; b < Batch; ++b) a[b] = load(x + b * stride);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Reg v = P::cells(w + r * k + i);
#pragma GCC unroll 4
      for (int b = 0; b < Batch; ++b) s[b][r] = P::multiply_add(a[b], v, s[b][r]);
    }
  }
  if (i < k) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Reg v = P::cells_some(w + r * k + i, k - i);
#pragma GCC unroll 4
      for (int b = 0; b < Batch; ++b) s[b][r] = P::multiply_add(load(x + b * stride), v, s[b][r]);
    }
  }
#pragma GCC unroll 4
  for (int b = 0; b < Batch; ++b) {
    if constexpr (Rows == 1) {
      float four[4];
      sum4(s[b][0], zero(), zero(), zero(), four);
      sums[b * kSumRows] = four[0];
    } else {
#pragma GCC unroll 2
      for (int r = 0; r < Rows; r += 4) sum4(s[b][r], s[b][r + 1], s[b][r + 2], s[b][r + 3], sums + b * kSumRows + r);
    }
  }
}

template <class P, int Batch>
void dot_batch(const typename P::Element* w, int64_t rows, int64_t k, const float* x, int64_t stride, float* sums) {
  constexpr int group = group_rows(Batch);
  int64_t r = 0;
  for (; r + group <= rows; r += group) dot_group<P, Batch, group>(w + r * k, k, x, stride, sums + r);
  for (; r < rows; ++r) dot_group<P, Batch, 1>(w + r * k, k, x, stride, sums + r);
}

template <class P>
void dot_rows(const LinearProblem& p, const void* x, int64_t n0, int64_t n1) {
  using Element = typename P::Element;
  const int64_t stride = dot_cells<P>(p.k);
  const FinishFn finish_sums = finish_for<Element>(p);
  alignas(64) float sums[kMaxBatch * kSumRows];
  // Few weight rows at a time, so that they are still in L2 when the next rows of x need them.
  const int64_t span = p.m <= kMaxBatch ? int64_t(kSumRows) : group_rows(1);
  for (int64_t n = n0; n < n1; n += span) {
    const int64_t rows = n1 - n < span ? n1 - n : span;
    const Element* w = (const Element*)p.w + n * p.k;
    for (int64_t m = 0; m < p.m;) {
      const float* xm = (const float*)x + m * stride;
      // 4 = 2 + 2 rather than 3 + 1.
      const int64_t left = p.m - m;
      int batch = int(left < kMaxBatch ? left : kMaxBatch);
      if (left == kMaxBatch + 1 && kMaxBatch > 2) batch = kMaxBatch - 1;
      if (batch == 1) dot_batch<P, 1>(w, rows, p.k, xm, stride, sums);
      if (batch == 2) dot_batch<P, 2>(w, rows, p.k, xm, stride, sums);
      if constexpr (kMaxBatch >= 3)
        if (batch == 3) dot_batch<P, 3>(w, rows, p.k, xm, stride, sums);
      if constexpr (kMaxBatch >= 4)
        if (batch == 4) dot_batch<P, 4>(w, rows, p.k, xm, stride, sums);
      finish_sums(p, m, batch, n, rows, sums, kSumRows);
      m += batch;
    }
  }
}
