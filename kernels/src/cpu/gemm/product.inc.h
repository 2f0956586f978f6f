// What one lane multiplies. A product type says how a row of K elements becomes a row of 4-byte cells and how two
// registers of cells are multiplied into fp32 sums. GEMM and dot are written once over it.

// One element per cell, widened to fp32.
template <class T>
struct WideProduct {
  using Element = T;
  static constexpr int kPerCell = 1;
  static Reg cells(const T* p) { return load(p); }
  static Reg cells_some(const T* p, int64_t elements) { return load_some(p, elements); }
  static Reg multiply_add(Reg a, Reg b, Reg sums) {
    return ACCEL_GEMM_NAMESPACE::multiply_add(a, b, sums);
  }
};

#if ACCEL_GEMM_LEVEL == 3
// Two neighbouring bf16 elements per cell, as they lie in memory: vdpbf16ps adds both products to the lane's sum.
struct PairProduct {
  using Element = Bf16;
  static constexpr int kPerCell = 2;
  static Reg cells(const Bf16* p) { return _mm512_loadu_ps((const float*)p); }
  static Reg cells_some(const Bf16* p, int64_t elements) {
    Bf16 full[2 * kLanes] = {};
    memcpy(full, p, size_t(elements) * sizeof(Bf16));
    return cells(full);
  }
  static Reg multiply_add(Reg a, Reg b, Reg sums) {
    return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b);
  }
};
using Bf16Product = PairProduct;
#else
using Bf16Product = WideProduct<Bf16>;
#endif

// Writes ceil(elements / kPerCell) cells; a last half cell is filled with zero. Returns nothing beyond that.
template <class P>
inline void copy_cells(const typename P::Element* from, int64_t elements, float* to) {
  constexpr int step = kLanes * P::kPerCell;
  int64_t k = 0;
  for (; k + step <= elements; k += step, to += kLanes) store(to, P::cells(from + k));
  if (k < elements) store_some(to, P::cells_some(from + k, elements - k), (elements - k + P::kPerCell - 1) / P::kPerCell);
}
