// A sum as the output dtype holds it.
template <class Out>
inline Reg rounded(Reg sum) {
  if constexpr (sizeof(Out) == sizeof(float)) {
    return sum;
  } else {
    Out lanes[kLanes];
    store(lanes, sum);
    return load(lanes);
  }
}

// The last step of every output: sum + bias, rounded to the output dtype; then the old value is added and the result
// rounded again. Two roundings, because that is what a residual stream in 16 bits sees in the frameworks that models
// are trained and published with.
template <class In, class Out>
inline Reg finish_lanes(Reg sum, const In* bias, const Out* old, int64_t n) {
  if (bias != nullptr) sum = add(sum, n < kLanes ? load_some(bias, n) : load(bias));
  if (old != nullptr) sum = add(rounded<Out>(sum), n < kLanes ? load_some(old, n) : load(old));
  return sum;
}

// Outputs rows [m0, m0+rows) x cols [n0, n0+cols) from sums[rows, ld].
template <class In, class Out>
void finish(const LinearProblem& p, int64_t m0, int64_t rows, int64_t n0, int64_t cols, const float* sums, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i, sums += ld) {
    Out* out = (Out*)p.out + (m0 + i) * p.n + n0;
    const In* bias = p.bias != nullptr ? (const In*)p.bias + n0 : nullptr;
    const Out* old = p.accumulate ? out : nullptr;
    int64_t j = 0;
    for (; j + kLanes <= cols; j += kLanes)
      store(out + j, finish_lanes(load(sums + j), bias ? bias + j : bias, old ? old + j : old, kLanes));
    if (j < cols) {
      const Reg sum = load_some(sums + j, cols - j);
      store_some(out + j, finish_lanes(sum, bias ? bias + j : bias, old ? old + j : old, cols - j), cols - j);
    }
  }
}

typedef void (*FinishFn)(const LinearProblem&, int64_t, int64_t, int64_t, int64_t, const float*, int64_t);

template <class In>
inline FinishFn finish_for(const LinearProblem& p) {
  return p.result == Float::f32 ? finish<In, float> : finish<In, In>;
}
