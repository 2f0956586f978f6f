// Attention for many query rows: FlashAttention's loop (Dao et al. 2022, arXiv:2205.14135; Dao 2023, arXiv:2307.08691)
// with CPU tiles.
//
// A block is up to ~192 packed rows (queries x the heads of one group). For every tile of 128 keys that any row sees, K is
// widened, transposed and packed once, V widened and packed once. Then for each MR rows: logits, masking (only where a
// row's visible interval cuts the tile), online softmax in base 2, P V into the row block's output panel. The working set
// per MR rows (logits, output) stays in L1 while K and V panels stream from L2. Tiles start at multiples of 128 rows of the
// head, so a row's result does not depend on which rows share its block or on the number of threads.

struct TiledSpace {
  float *rows, *out, *keys, *values, *logits, *maximum, *sum;
  RowSpan* spans;          // per packed row
};

inline size_t tiled_layout(int head_dim, int rows, float* base, TiledSpace* space) {
  const int blocks = ceil_div(rows, MR), panels = ceil_div(head_dim, NR);
  size_t used = 0;
  const auto take = [&](size_t n) {
    float* p = base + used;
    used += (n + 15) / 16 * 16;
    return p;
  };
  TiledSpace s;
  s.rows = take((size_t)blocks * MR * head_dim + W);
  s.out = take((size_t)blocks * panels * MR * NR);
  s.keys = take((size_t)key_tile * head_dim);
  s.values = take((size_t)panels * key_tile * NR);
  s.logits = take((size_t)MR * key_tile);
  s.maximum = take((size_t)blocks * MR);
  s.sum = take((size_t)blocks * MR);
  s.spans = (RowSpan*)take((size_t)blocks * MR * sizeof(RowSpan) / sizeof(float));
  if (space != nullptr) *space = s;
  return used;
}

size_t tiled_floats(int head_dim, int rows) { return tiled_layout(head_dim, rows, nullptr, nullptr); }

// One step of the online softmax over logits[r][from .. to): turns them into p, updates maximum and sum, and leaves the
// factor for what was accumulated before.
inline void online_softmax(float* logits, int from, int to, float* maximum, float* sum, float* factor) {
  constexpr int lanes = W * ((MR + W - 1) / W);
  float before[lanes] = {}, part[lanes] = {};
  for (int r = 0; r < MR; ++r) {
    float* row = logits + r * key_tile;
    V m0 = load(row + from), m1 = load(row + from + W);
    for (int c = from + NR; c < to; c += NR) {
      m0 = max(load(row + c), m0);
      m1 = max(load(row + c + W), m1);
    }
    const float m = fast_max(maximum[r], reduce_max(max(m0, m1)));
    before[r] = maximum[r] - m;
    maximum[r] = m;
    const V shift = set1(m);
    V s0 = zero(), s1 = zero();
    for (int c = from; c < to; c += NR) {
      const V p0 = exp2(load(row + c) - shift), p1 = exp2(load(row + c + W) - shift);
      store(row + c, p0);
      store(row + c + W, p1);
      s0 = s0 + p0;
      s1 = s1 + p1;
    }
    part[r] = reduce_add(s0 + s1);
  }
  // Vectors, so that every row is rounded alike wherever it stands in its block.
  for (int c = 0; c < MR; c += W) {
    const V f = exp2(load(before + c));
    store_upto(factor + c, f, MR - c);
    store_upto(sum + c, fma(load_upto(sum + c, MR - c), f, load(part + c)), MR - c);
  }
}

inline void mask_logits(float* logits, int from, int to, int64_t tile, const RowSpan* spans) {
  for (int r = 0; r < MR; ++r) {
    float* row = logits + r * key_tile;
    const int64_t lo = spans[r].lo - tile, hi = spans[r].hi - tile;
    for (int c = from; c < to; ++c) {
      if (c < lo || c >= hi) row[c] = -INFINITY;
    }
  }
}

template <class S, bool with_values>
void tiled_block(const AttentionBlock& b, float* workspace) {
  const int d = b.head_dim, g = b.group, rows = b.queries * g;
  const int blocks = ceil_div(rows, MR), panels = ceil_div(d, NR);
  TiledSpace s;
  tiled_layout(d, rows, workspace, &s);

  // Rows past the end repeat the last one: they never widen or cut what their block sees.
  for (int k = 0; k < blocks; ++k) {
    const void* address[MR];
    for (int r = 0; r < MR; ++r) {
      const int row = k * MR + r < rows ? k * MR + r : rows - 1;
      address[r] = (const S*)b.q + row / g * b.q_stride + (int64_t)(row % g) * d;
      s.spans[k * MR + r] = visible(b, row / g);
      s.maximum[k * MR + r] = lowest;
      s.sum[k * MR + r] = 0;
    }
    pack_rows<S>(s.rows + (size_t)k * MR * d, address, d, b.scale);
  }
  if (with_values) memset(s.out, 0, (size_t)blocks * panels * MR * NR * sizeof(float));

  int64_t first = INT64_MAX, end = 0;        // rows that any query sees
  for (int i = 0; i < b.queries; ++i) {
    const RowSpan v = visible(b, i);
    if (v.lo >= v.hi) continue;
    if (v.lo < first) first = v.lo;
    if (v.hi > end) end = v.hi;
  }

  for (int64_t tile = first < end ? first / key_tile * key_tile : end; tile < end; tile += key_tile) {
    if (!is_listed(b, tile)) continue;
    const int skip = first > tile ? (int)(first - tile) : 0;
    const int count = end - tile < key_tile ? (int)(end - tile) : key_tile;
    const void* address[key_tile];
    for (int j = 0; j < skip; ++j) address[j] = zero_row;
    row_addresses(b.keys, tile + skip, count - skip, key_tile - skip, address + skip);
    const int first_panel = skip / NR;
    pack_keys<S>(s.keys + (size_t)first_panel * NR * d, address + first_panel * NR,
                 ceil_div(count, NR) - first_panel, d);
    if (with_values) {
      row_addresses(b.values, tile + skip, count - skip, count - skip, address + skip);
      pack_values<S>(s.values, address, skip, count, d);
    }

    for (int k = 0; k < blocks; ++k) {
      const RowSpan* spans = s.spans + k * MR;
      int64_t lo_min = INT64_MAX, lo_max = 0, hi_min = INT64_MAX, hi_max = 0;
      for (int r = 0; r < MR; ++r) {
        const RowSpan v = spans[r];
        if (v.lo > lo_max) lo_max = v.lo;
        if (v.hi < hi_min) hi_min = v.hi;
        if (v.lo < v.hi && v.lo < lo_min) lo_min = v.lo;
        if (v.lo < v.hi && v.hi > hi_max) hi_max = v.hi;
      }
      const int from = lo_min > tile ? (int)(lo_min - tile < key_tile ? lo_min - tile : key_tile) : 0;
      const int to = hi_max - tile < count ? (int)(hi_max > tile ? hi_max - tile : 0) : count;
      if (from >= to) continue;
      const int c0 = from / NR * NR, c1 = ceil_div(to, NR) * NR;
      const float* block_rows = s.rows + (size_t)k * MR * d;
      for (int c = c0; c < c1; c += NR) multiply_logits(block_rows, s.keys + (size_t)c * d, d, s.logits + c);
      if (lo_max > tile + c0 || hi_min < tile + c1) mask_logits(s.logits, c0, c1, tile, spans);
      float factor[MR];
      online_softmax(s.logits, c0, c1, s.maximum + k * MR, s.sum + k * MR, factor);
      if (with_values) {
        float* out = s.out + (size_t)k * panels * MR * NR;
        for (int p = 0; p < panels; ++p) {
          accumulate_values(out + p * MR * NR, factor, s.logits + from, s.values + ((size_t)p * key_tile + from) * NR,
                            to - from);
        }
      }
    }
  }

  for (int row = 0; row < rows; ++row) {
    const int k = row / MR, r = row % MR;
    const float l = s.sum[row], m = s.maximum[row];
    const float* panel = s.out + (size_t)k * panels * MR * NR + r * NR;
    if (b.partial != nullptr) {
      float* to = b.partial + row * partial_stride(d, b.scores_only);
      to[0] = m;
      to[1] = l;
      if (with_values) {
        for (int c = 0; c < d; c += W) {
          store_upto(to + 2 + c, load(panel + c / NR * MR * NR + c % NR), d - c);
        }
      }
      continue;
    }
    const int i = row / g, h = row % g;
    if (with_values) {
      const V inverse = set1(l == 0 ? 0.f : 1.f / l);
      S* to = (S*)b.out + i * b.out_stride + (int64_t)h * d;
      for (int c = 0; c < d; c += W) store_upto(to + c, load(panel + c / NR * MR * NR + c % NR) * inverse, d - c);
    }
    if (b.lse != nullptr) b.lse[i * b.lse_stride + h] = l == 0 ? -INFINITY : (m + log2f(l)) * ln2;
  }
}

void tiled(const AttentionBlock& b, float* workspace) {
  with_type(b.type, [&](auto* s) {
    using S = std::remove_pointer_t<decltype(s)>;
    if (b.scores_only) {
      tiled_block<S, false>(b, workspace);
    } else {
      tiled_block<S, true>(b, workspace);
    }
  });
}
