// The pieces the attention kernels share: packing of operands and the two register-blocked products.
//
// A block of MR rows times a panel of NR = 2W columns stays in registers: MR x 2 accumulators, two panel loads and MR
// broadcasts for every MR x 2 multiply-adds (6 x 2 for 16 registers, 12 x 2 for 32).
//   rows    packed [block][channel][MR]
//   keys    packed [panel][channel][NR]  (transposed)
//   values  packed [panel][key][NR]      (NR channels a panel)
//   logits  [MR][key_tile]

constexpr int MR = W == 16 ? 12 : 6;
constexpr int NR = 2 * W;
constexpr int key_tile = 128;              // keys per tile: K and V panels of a tile stay in L2
constexpr float lowest = -1e30f;           // running maximum before any visible key; finite, so no inf - inf
constexpr int max_head_dim = 256;

alignas(64) const float zero_row[max_head_dim] = {};   // stands for rows that do not exist, in any dtype

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Addresses of rows [begin, begin + count) in table, zeros up to `padded`.
inline void row_addresses(const KvRows& rows, int64_t begin, int count, int padded, const void** table) {
  rows.runs(begin, begin + count, [&](int64_t r, int64_t n, const uint8_t* p) {
    for (int64_t i = 0; i < n; ++i) table[r - begin + i] = p + i * rows.row_bytes;
  });
  for (int i = count; i < padded; ++i) table[i] = zero_row;
}

// Query rows -> [channel][MR], times scale. Writes up to W floats past the end.
template <class S>
inline void pack_rows(float* to, const void* const* rows, int head_dim, float scale) {
  constexpr int groups = (MR + W - 1) / W;
  const V factor = set1(scale);
  for (int c = 0; c < head_dim; c += W) {
    V r[groups * W];
    for (int i = 0; i < groups * W; ++i) {
      r[i] = i < MR ? load_upto((const S*)rows[i] + c, head_dim - c) * factor : zero();
    }
    for (int g = 0; g < groups; ++g) transpose(r + g * W);
    const int n = head_dim - c < W ? head_dim - c : W;
    // Each store may spill into the next channel's place, which is written afterwards.
    for (int j = 0; j < n; ++j) {
      for (int g = 0; g < groups; ++g) store(to + (c + j) * MR + g * W, r[g * W + j]);
    }
  }
}

// `panels` panels of NR keys.
template <class S>
inline void pack_keys(float* to, const void* const* rows, int panels, int head_dim) {
  for (int p = 0; p < panels; ++p, to += (int64_t)head_dim * NR, rows += NR) {
    for (int c = 0; c < head_dim; c += W) {
      const int n = head_dim - c < W ? head_dim - c : W;
      for (int half = 0; half < 2; ++half) {
        V r[W];
        for (int i = 0; i < W; ++i) r[i] = load_upto((const S*)rows[half * W + i] + c, head_dim - c);
        transpose(r);
        for (int j = 0; j < n; ++j) store(to + (c + j) * NR + half * W, r[j]);
      }
    }
  }
}

template <class S>
inline void pack_values(float* to, const void* const* rows, int first, int count, int head_dim) {
  for (int c = 0; c < head_dim; c += NR, to += key_tile * NR) {
    for (int j = first; j < count; ++j) {
      const S* row = (const S*)rows[j] + c;
      store(to + j * NR, load_upto(row, head_dim - c));
      store(to + j * NR + W, head_dim - c > W ? load_upto(row + W, head_dim - c - W) : zero());
    }
  }
}

// logits[r][0 .. NR) = rows . keys
inline void multiply_logits(const float* rows, const float* keys, int head_dim, float* logits) {
  V acc[MR][2];
#pragma GCC unroll 12
  for (int r = 0; r < MR; ++r) acc[r][0] = acc[r][1] = zero();
  for (int c = 0; c < head_dim; ++c, rows += MR, keys += NR) {
    const V b0 = load(keys), b1 = load(keys + W);
#pragma GCC unroll 12
    for (int r = 0; r < MR; ++r) {
      const V a = set1(rows[r]);
      acc[r][0] = fma(a, b0, acc[r][0]);
      acc[r][1] = fma(a, b1, acc[r][1]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < MR; ++r) {
    store(logits + r * key_tile, acc[r][0]);
    store(logits + r * key_tile + W, acc[r][1]);
  }
}

// out[r][0 .. NR) = out * factor[r] + sum over count keys of p[r][j] * values[j]
inline void accumulate_values(float* out, const float* factor, const float* p, const float* values, int count) {
  V acc[MR][2];
#pragma GCC unroll 12
  for (int r = 0; r < MR; ++r) {
    const V f = set1(factor[r]);
    acc[r][0] = load(out + r * NR) * f;
    acc[r][1] = load(out + r * NR + W) * f;
  }
  for (int j = 0; j < count; ++j, values += NR) {
    const V b0 = load(values), b1 = load(values + W);
#pragma GCC unroll 12
    for (int r = 0; r < MR; ++r) {
      const V a = set1(p[r * key_tile + j]);
      acc[r][0] = fma(a, b0, acc[r][0]);
      acc[r][1] = fma(a, b1, acc[r][1]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < MR; ++r) {
    store(out + r * NR, acc[r][0]);
    store(out + r * NR + W, acc[r][1]);
  }
}

inline float fast_max(float a, float b) { return a > b ? a : b; }
