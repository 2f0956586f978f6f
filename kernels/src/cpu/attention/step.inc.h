// The probabilities of one decode step, from the log-sum-exp that attention left: p[j] = exp(logit[j] - lse), of a
// group's heads as one number. Keys are read where they lie, as in streamed.inc.h. A row's number depends on that row
// alone, so any division into blocks gives the same bits.

size_t step_floats(int head_dim, int group) {
  return (size_t)group * (ceil_div(head_dim, W) * W) + 4 * stream_tile + 64;
}

// RG heads: exponentials [key][head], then folded into out[key]; `fresh`: these heads are the first of their group.
template <class S, int RG>
inline void step_group(const StepBlock& b, const float* q, int padded, const float* lse, const void* const* keys,
                       int count, float* logits, bool fresh, float* out) {
  stream_logits<S, RG>(q, padded, keys, count, b.head_dim, logits, nullptr);
  float shift[W];
  // A head that sees nothing must add nothing: exp2(-inf).
  for (int i = 0; i < W; ++i) shift[i] = lse[i % RG] == -INFINITY ? INFINITY : lse[i % RG] * log2e;
  const V subtract = load(shift);
  for (int i = 0; i < count * RG; i += W) store(logits + i, exp2(load(logits + i) - subtract));
  for (int j = 0; j < count; ++j) {
    float x = fresh ? logits[j * RG] : out[j];
    for (int r = fresh ? 1 : 0; r < RG; ++r) {
      const float y = logits[j * RG + r];
      x = b.reduce == Reduce::max ? fast_max(x, y) : x + y;
    }
    out[j] = x;
  }
}

template <class S>
void step_block(const StepBlock& b, float* workspace) {
  const int d = b.head_dim, g = b.group, padded = ceil_div(d, W) * W;
  float* q = workspace;
  float* logits = q + (size_t)g * padded;
  for (int h = 0; h < g; ++h) {
    const S* from = (const S*)b.q + (int64_t)h * d;
    for (int c = 0; c < d; c += W) store(q + h * padded + c, load_upto(from + c, d - c) * set1(b.scale));
  }
  for (int64_t first = b.k0; first < b.k1; first += stream_tile) {
    const int count = (int)(b.k1 - first < stream_tile ? b.k1 - first : stream_tile);
    const void* keys[stream_tile];
    row_addresses(b.keys, first, count, stream_tile, keys);
    float* out = b.out + (first - b.k0);
    int head = 0;
    const auto heads = [&](auto size) {
      constexpr int RG = decltype(size)::value;
      for (; head + RG <= g; head += RG) {
        step_group<S, RG>(b, q + head * padded, padded, b.lse + head, keys, count, logits, head == 0, out);
      }
    };
    heads(std::integral_constant<int, 4>());
    heads(std::integral_constant<int, 2>());
    heads(std::integral_constant<int, 1>());
    if (b.reduce == Reduce::mean) {
      for (int j = 0; j < count; ++j) out[j] /= (float)g;
    }
  }
}

void step(const StepBlock& b, float* workspace) {
  with_type(b.type, [&](auto* s) { step_block<std::remove_pointer_t<decltype(s)>>(b, workspace); });
}
