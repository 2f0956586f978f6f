// Attention for few query rows (decoding): keys and values are read once, where they lie.
//
// The g query heads of a kv head go together, so a key is loaded once for all of them. Rows are taken RG (1, 2 or 4) at a
// time and W / RG keys give one vector of logits, laid out [key][row]; the online softmax then works lane by lane. Tiles of
// 64 keys keep the values in L1 while each column block of the output sits in registers. Split over keys, as in
// Flash-Decoding (Dao et al. 2023): the caller cuts the keys at fixed multiples and joins the parts by log-sum-exp.

constexpr int stream_tile = 64;

size_t streamed_floats(int head_dim) {
  return (size_t)stream_rows * (2 * (ceil_div(head_dim, W) * W + 16)) + 4 * stream_tile + 64;
}

// `ahead`: rows that are read right after these (their values), asked for early, or null. The hardware follows one stream
// of rows well, but not the change from keys to values at every tile.
template <class S, int RG>
inline void stream_logits(const float* q, int padded, const void* const* keys, int count, int head_dim, float* logits,
                          const void* const* ahead) {
  constexpr int KB = W / RG;
  for (int j = 0; j < count; j += KB) {
    if (ahead != nullptr) {
      for (int i = j; i < j + KB && i < count; ++i) {
        for (int c = 0; c < head_dim; c += 64 / (int)sizeof(S)) __builtin_prefetch((const S*)ahead[i] + c);
      }
    }
    V acc[W];
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) acc[i] = zero();
    int c = 0;
    for (; c + W <= head_dim; c += W) {
#pragma GCC unroll 16
      for (int i = 0; i < KB; ++i) {
        const V key = load((const S*)keys[j + i] + c);
#pragma GCC unroll 4
        for (int r = 0; r < RG; ++r) acc[i * RG + r] = fma(load(q + r * padded + c), key, acc[i * RG + r]);
      }
    }
    if (c < head_dim) {
#pragma GCC unroll 16
      for (int i = 0; i < KB; ++i) {
        const V key = load_part((const S*)keys[j + i] + c, head_dim - c);
#pragma GCC unroll 4
        for (int r = 0; r < RG; ++r) acc[i * RG + r] = fma(load(q + r * padded + c), key, acc[i * RG + r]);
      }
    }
    store(logits + j * RG, reduce_add_each(acc));
  }
}

template <class S, int RG, int CB>
inline void stream_columns(float* out, int padded, const float* factor, const float* p, const void* const* values,
                           int count, int c) {
  V acc[RG][CB];
#pragma GCC unroll 4
  for (int r = 0; r < RG; ++r) {
#pragma GCC unroll 16
    for (int b = 0; b < CB; ++b) acc[r][b] = load(out + r * padded + c + b * W) * set1(factor[r]);
  }
  for (int j = 0; j < count; ++j) {
    const S* row = (const S*)values[j] + c;
    V v[CB];
#pragma GCC unroll 16
    for (int b = 0; b < CB; ++b) v[b] = load(row + b * W);
#pragma GCC unroll 4
    for (int r = 0; r < RG; ++r) {
      const V a = set1(p[j * RG + r]);
#pragma GCC unroll 16
      for (int b = 0; b < CB; ++b) acc[r][b] = fma(a, v[b], acc[r][b]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < RG; ++r) {
#pragma GCC unroll 16
    for (int b = 0; b < CB; ++b) store(out + r * padded + c + b * W, acc[r][b]);
  }
}

template <class S, int RG>
inline void stream_values(float* out, int padded, const float* factor, const float* p, const void* const* values,
                          int count, int head_dim) {
  constexpr int CB = (W == 16 ? 16 : 8) / RG;
  int c = 0;
  for (; c + CB * W <= head_dim; c += CB * W) stream_columns<S, RG, CB>(out, padded, factor, p, values, count, c);
  for (; c + W <= head_dim; c += W) stream_columns<S, RG, 1>(out, padded, factor, p, values, count, c);
  if (c == head_dim) return;
  for (int r = 0; r < RG; ++r) {
    V acc = load(out + r * padded + c) * set1(factor[r]);
    for (int j = 0; j < count; ++j) acc = fma(set1(p[j * RG + r]), load_part((const S*)values[j] + c, head_dim - c), acc);
    store(out + r * padded + c, acc);
  }
}

// RG packed rows from `row` on, one tile. spans: of these rows; tile: row number of the first key.
template <class S, int RG>
inline void stream_group(const float* q, float* out, int padded, float* maximum, float* sum, const RowSpan* spans,
                         int64_t tile, int count, const void* const* keys, const void* const* values, int head_dim,
                         bool with_values, bool first, float* logits) {
  constexpr int KB = W / RG;
  const int vectors = ceil_div(count, KB);
  stream_logits<S, RG>(q, padded, keys, count, head_dim, logits, first && with_values ? values : nullptr);
  bool cut = count % KB != 0;
  for (int r = 0; r < RG; ++r) cut |= spans[r].lo > tile || spans[r].hi < tile + count;
  if (cut) {
    for (int j = 0; j < vectors * KB; ++j) {
      for (int r = 0; r < RG; ++r) {
        if (j >= count || tile + j < spans[r].lo || tile + j >= spans[r].hi) logits[j * RG + r] = -INFINITY;
      }
    }
  }
  float lanes[W], shift[W], factor[RG];
  V top = load(logits);
  for (int i = 1; i < vectors; ++i) top = max(load(logits + i * W), top);
  store(lanes, top);
  for (int r = 0; r < RG; ++r) {
    float m = maximum[r];
    for (int i = r; i < W; i += RG) m = fast_max(m, lanes[i]);
    factor[r] = maximum[r] - m;
    maximum[r] = m;
    for (int i = r; i < W; i += RG) shift[i] = m;
  }
  const V subtract = load(shift);
  V total = zero();
  for (int i = 0; i < vectors; ++i) {
    const V p = exp2(load(logits + i * W) - subtract);
    store(logits + i * W, p);
    total = total + p;
  }
  store(lanes, total);
  float scaled[W] = {};
  for (int r = 0; r < RG; ++r) scaled[r] = factor[r];
  store(scaled, exp2(load(scaled)));
  for (int r = 0; r < RG; ++r) {
    factor[r] = scaled[r];
    float s = 0;
    for (int i = r; i < W; i += RG) s += lanes[i];
    sum[r] = sum[r] * factor[r] + s;
  }
  if (with_values) stream_values<S, RG>(out, padded, factor, logits, values, count, head_dim);
}

template <class S>
void streamed_block(const AttentionBlock& b, float* workspace) {
  const int d = b.head_dim, g = b.group, rows = b.queries * g;
  const int padded = ceil_div(d, W) * W;
  float* q = workspace;
  float* out = q + stream_rows * padded;
  float* logits = out + stream_rows * padded;
  float maximum[stream_rows], sum[stream_rows];
  RowSpan spans[stream_rows];
  memset(out, 0, (size_t)rows * padded * sizeof(float));
  int64_t first = INT64_MAX, end = 0;
  for (int row = 0; row < rows; ++row) {
    const S* from = (const S*)b.q + row / g * b.q_stride + (int64_t)(row % g) * d;
    for (int c = 0; c < d; c += W) store(q + row * padded + c, load_upto(from + c, d - c) * set1(b.scale));
    maximum[row] = lowest;
    sum[row] = 0;
    spans[row] = visible(b, row / g);
    if (spans[row].lo >= spans[row].hi) continue;
    if (spans[row].lo < first) first = spans[row].lo;
    if (spans[row].hi > end) end = spans[row].hi;
  }
  while (first < end) {
    const int64_t next = (first / stream_tile + 1) * stream_tile;
    const int count = (int)((next < end ? next : end) - first);
    const void *keys[stream_tile], *values[stream_tile];
    row_addresses(b.keys, first, count, stream_tile, keys);
    if (!b.scores_only) row_addresses(b.values, first, count, count, values);
    int row = 0;
    const auto step = [&](auto size) {
      constexpr int RG = decltype(size)::value;
      for (; row + RG <= rows; row += RG) {
        stream_group<S, RG>(q + row * padded, out + row * padded, padded, maximum + row, sum + row, spans + row, first,
                            count, keys, values, d, !b.scores_only, row == 0, logits);
      }
    };
    step(std::integral_constant<int, 4>());
    step(std::integral_constant<int, 2>());
    step(std::integral_constant<int, 1>());
    first += count;
  }
  for (int row = 0; row < rows; ++row) {
    float* to = b.partial + row * partial_stride(d, b.scores_only);
    to[0] = maximum[row];
    to[1] = sum[row];
    if (!b.scores_only) memcpy(to + 2, out + row * padded, (size_t)d * sizeof(float));
  }
}

void streamed(const AttentionBlock& b, float* workspace) {
  with_type(b.type, [&](auto* s) { streamed_block<std::remove_pointer_t<decltype(s)>>(b, workspace); });
}

template <class S>
void join_rows(const AttentionJoin& j) {
  const int d = j.head_dim, rows = j.queries * j.group;
  const int64_t stride = partial_stride(d, j.scores_only), part = stride * rows;
  for (int row = 0; row < rows; ++row) {
    const float* from = j.partial + row * stride;
    float m = lowest, l = 0;
    for (int p = 0; p < j.splits; ++p) m = fast_max(m, from[p * part]);
    float acc[max_head_dim + 16] = {};
    for (int p = 0; p < j.splits; ++p) {
      const float* x = from + p * part;
      float lane[W] = {x[0] - m};
      store(lane, exp2(load(lane)));
      l += x[1] * lane[0];
      if (j.scores_only) continue;
      const V factor = set1(lane[0]);
      for (int c = 0; c < d; c += W) store(acc + c, fma(load_upto(x + 2 + c, d - c), factor, load(acc + c)));
    }
    const int i = row / j.group, h = row % j.group;
    if (!j.scores_only) {
      const V inverse = set1(l == 0 ? 0.f : 1.f / l);
      S* to = (S*)j.out + i * j.out_stride + (int64_t)h * d;
      for (int c = 0; c < d; c += W) store_upto(to + c, load(acc + c) * inverse, d - c);
    }
    if (j.lse != nullptr) j.lse[i * j.lse_stride + h] = l == 0 ? -INFINITY : (m + log2f(l)) * ln2;
  }
}

void join(const AttentionJoin& j) {
  with_type(j.type, [&](auto* s) { join_rows<std::remove_pointer_t<decltype(s)>>(j); });
}
