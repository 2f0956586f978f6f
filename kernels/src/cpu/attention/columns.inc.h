// Column sums of the attention matrix, without the matrix: sum over queries i of exp(logit[i, j] - lse[i]).
//
// The second pass of FlashAttention turned around (the loop order of its dK): one item owns a tile of 256 keys, keeps it
// packed, and goes over all query rows that see it. exp never overflows because lse is at least the logit. One writer per
// column, fixed order: no atomics, and the same bits whatever the number of threads. Sums of many rows go through fp64 so
// that a hundred thousand small terms do not stop counting. Used by H2O (Zhang et al. 2023, arXiv:2306.14048) and SnapKV
// (Li et al. 2024, arXiv:2404.14469).

constexpr int flush_blocks = 64;             // row blocks summed in fp32 before they are added to the fp64 totals

inline size_t round16(size_t n) { return (n + 15) / 16 * 16; }

size_t column_floats(int head_dim, int group) {
  return round16((size_t)head_dim * MR + W) + (size_t)column_tile * head_dim + 2 * (size_t)MR * key_tile +
         3 * (size_t)group * column_tile + 64;
}

// Whether query i of the block's head sees the keys of the list_tile at `key`.
inline bool is_listed(const ColumnBlock& b, int64_t i, int head, int64_t key) {
  if (b.listed == nullptr || key / list_tile == (b.last + i) / list_tile) return true;
  const uint32_t* words = b.listed + (i / list_tile * b.listed_heads + head) * b.listed_stride;
  return words[key / list_tile / 32] >> (key / list_tile % 32) & 1;
}

template <class S>
void column_block(const ColumnBlock& b, float* workspace) {
  const int d = b.head_dim, g = b.group, count = (int)(b.k1 - b.k0), width = ceil_div(count, NR) * NR;
  double* total = (double*)workspace;                            // [g][column_tile]
  float* sums = workspace + 2 * (size_t)g * column_tile;         // [g][column_tile]
  float* keys = sums + (size_t)g * column_tile;
  float* rows = keys + (size_t)column_tile * d;
  float* logits = rows + round16((size_t)d * MR + W);            // [MR][key_tile], one half of the tile at a time
  memset(total, 0, (size_t)g * column_tile * sizeof(double));
  memset(sums, 0, (size_t)g * column_tile * sizeof(float));

  const void* address[column_tile];
  row_addresses(b.keys, b.k0, count, column_tile, address);
  pack_keys<S>(keys, address, width / NR, d);

  const auto flush = [&] {
    for (int i = 0; i < g * column_tile; ++i) {
      total[i] += sums[i];
      sums[i] = 0;
    }
  };

  // Head by head, and within a head the queries from the first that sees the tile.
  const int64_t first = b.k0 > b.last ? b.k0 - b.last : 0;
  const int64_t per_head = b.queries - first, packed = per_head > 0 ? per_head * g : 0;
  int pending = 0;
  for (int64_t row = 0; row < packed; row += MR) {
    const void* query[MR];
    float base[MR];
    int64_t query_number[MR];
    int head[MR];
    int64_t begin[MR], limit[MR];                                // keys of the tile that the row sees
    bool cut = false;
    for (int r = 0; r < MR; ++r) {
      const int64_t at = row + r < packed ? row + r : packed - 1;
      const int h = (int)(at / per_head);
      const int64_t i = first + at % per_head;
      const float lse = b.lse[i * b.lse_stride + h];
      query[r] = (const S*)b.q + i * b.q_stride + (int64_t)h * d;
      head[r] = h;
      query_number[r] = i;
      // A row that sees nothing, or that pads the block, must add nothing: exp2(-inf).
      base[r] = row + r >= packed || lse == -INFINITY ? INFINITY : lse * log2e;
      limit[r] = b.last + i + 1 - b.k0;
      begin[r] = b.window_begin == nullptr ? 0 : b.window_begin[i] - b.k0;
      cut |= begin[r] > 0 || limit[r] < width;
    }
    pack_rows<S>(rows, query, d, b.scale);
    const bool one_head = head[0] == head[MR - 1];
    for (int half = 0; half < width; half += key_tile) {
      const int n = width - half < key_tile ? width - half : key_tile;
      float shift[MR];
      bool any = false;
      for (int r = 0; r < MR; ++r) {
        shift[r] = is_listed(b, query_number[r], head[r], b.k0 + half) ? base[r] : INFINITY;
        any |= shift[r] != INFINITY;
      }
      if (!any) continue;
      for (int c = 0; c < n; c += NR) multiply_logits(rows, keys + (size_t)(half + c) * d, d, logits + c);
      if (cut) {
        for (int r = 0; r < MR; ++r) {
          float* row = logits + r * key_tile;
          for (int64_t c = 0; c < n && half + c < begin[r]; ++c) row[c] = -INFINITY;
          for (int64_t c = limit[r] > half ? limit[r] - half : 0; c < n; ++c) row[c] = -INFINITY;
        }
      }
      if (one_head) {
        float* to = sums + (size_t)head[0] * column_tile + half;
        for (int c = 0; c < n; c += W) {
          V s = zero();
#pragma GCC unroll 12
          for (int r = 0; r < MR; ++r) s = s + exp2(load(logits + r * key_tile + c) - set1(shift[r]));
          store(to + c, load(to + c) + s);
        }
      } else {
        for (int r = 0; r < MR; ++r) {
          float* to = sums + (size_t)head[r] * column_tile + half;
          for (int c = 0; c < n; c += W) {
            store(to + c, load(to + c) + exp2(load(logits + r * key_tile + c) - set1(shift[r])));
          }
        }
      }
    }
    if (++pending == flush_blocks) {
      flush();
      pending = 0;
    }
  }
  flush();

  // Whole tiles are summed and part of them written, so that a range changes no bit of what it holds.
  const int from = b.begin > b.k0 ? (int)(b.begin - b.k0) : 0, to = b.end < b.k1 ? (int)(b.end - b.k0) : count;
  const auto put = [&](float* row, int j, double x) {
    float& at = row[b.k0 + j];
    at = b.k0 + j < b.add_below ? at + (float)x : (float)x;
  };
  if (b.reduce == Reduce::none) {
    for (int h = 0; h < g; ++h) {
      for (int j = from; j < to; ++j) put(b.out + h * b.out_stride, j, total[h * column_tile + j]);
    }
    return;
  }
  for (int j = from; j < to; ++j) {
    double x = total[j];
    for (int h = 1; h < g; ++h) {
      const double y = total[h * column_tile + j];
      x = b.reduce == Reduce::max ? (x > y ? x : y) : x + y;
    }
    put(b.out, j, b.reduce == Reduce::mean ? x / g : x);
  }
}

void columns(const ColumnBlock& b, float* workspace) {
  with_type(b.type, [&](auto* s) { column_block<std::remove_pointer_t<decltype(s)>>(b, workspace); });
}
