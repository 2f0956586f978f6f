// sample: the next token of every sequence of a batch.
//
// temperature 0 takes the largest logit, the lowest id on ties. Otherwise, in this order:
//   temperature  logits / temperature
//   top_k        the k largest (ties: lower id first); 0 keeps all
//   top_p        of the probabilities renormalised over those, in descending order, the shortest prefix whose sum reaches
//                top_p (Holtzman et al. 2020, arXiv:1904.09751); 1 keeps all
//   min_p        of those, probabilities of at least min_p times the largest (Nguyen et al. 2024, arXiv:2407.01082)
// Then the inverse CDF over what is left, in descending order of probability, at `uniform`: the first token whose
// cumulative share exceeds it. Everything in fp64. Only as many candidates are sorted as the answer needs.
#include <math.h>

#include <algorithm>
#include <atomic>

#include "cpu/builtin.h"
#include "cpu/ops/args.h"

namespace accel::cpu {
namespace {

// ---- sample  out:tensor i32[B], logits:tensor f32[B,V], temperature:tensor f32[B], top_k:tensor i32[B],
//              top_p:tensor f32[B], min_p:tensor f32[B], uniform:tensor f64[B]

int sample_check(const accel_call* call) {
  Checker check(call, "sample");
  check.dtype(0, "out", {Type::i32}).dtype(1, "logits", {Type::f32}).dtype(2, "temperature", {Type::f32});
  check.dtype(3, "top_k", {Type::i32}).dtype(4, "top_p", {Type::f32}).dtype(5, "min_p", {Type::f32});
  check.dtype(6, "uniform", {Type::f64}).shape(1, "logits", "[B,V]", {-1, -1});
  const int64_t batch = check.dim(1, 0), vocabulary = check.dim(1, 1);
  check.require(vocabulary > 0 && vocabulary <= INT32_MAX, "ERR_ACCEL_SHAPE", "logits have %lld columns",
                (long long)vocabulary);
  const char* names[] = {"out", "", "temperature", "top_k", "top_p", "min_p", "uniform"};
  for (int i = 0; i < 7; ++i) {
    if (i != 1) check.shape(i, names[i], "[B]", {batch});
  }
  return check.result();
}

// Candidates in the order of (logit descending, id ascending), sorted piece by piece as they are asked for.
class Ranking {
 public:
  Ranking(const float* logits, int32_t* ids, int64_t n) : logits_(logits), ids_(ids), n_(n) {
    for (int64_t i = 0; i < n; ++i) ids[i] = (int32_t)i;
  }

  int32_t at(int64_t i) {
    while (i >= sorted_) {
      const int64_t next = sorted_ == 0 ? 64 : sorted_ * 4;
      const int64_t end = next < n_ ? next : n_;
      const auto before = [this](int32_t a, int32_t b) {
        return logits_[a] > logits_[b] || (logits_[a] == logits_[b] && a < b);
      };
      if (end < n_) std::nth_element(ids_ + sorted_, ids_ + end, ids_ + n_, before);
      std::sort(ids_ + sorted_, ids_ + end, before);
      sorted_ = end;
    }
    return ids_[i];
  }

 private:
  const float* logits_;
  int32_t* ids_;
  int64_t n_;
  int64_t sorted_ = 0;
};

struct Settings {
  double temperature, top_p, min_p, uniform;
  int64_t top_k;
};

int32_t draw(const float* logits, int64_t n, int64_t best, const Settings& s, int32_t* ids) {
  const double top = logits[best];
  const auto weight = [&](int32_t id) { return exp((logits[id] - top) / s.temperature); };
  Ranking ranking(logits, ids, n);

  int64_t kept = s.top_k > 0 && s.top_k < n ? s.top_k : n;
  double total = 0;
  if (kept < n) {
    for (int64_t i = 0; i < kept; ++i) total += weight(ranking.at(i));
  } else {
    for (int64_t i = 0; i < n; ++i) total += weight((int32_t)i);
  }
  if (s.top_p < 1) {
    double sum = 0;
    int64_t i = 0;
    while (i < kept && (i == 0 || sum < s.top_p * total)) sum += weight(ranking.at(i++));
    kept = i;
    total = sum;
  }
  if (s.min_p > 0) {
    double sum = 0;
    int64_t i = 0;
    for (; i < kept; ++i) {
      const double w = weight(ranking.at(i));       // the largest weight is 1
      if (w < s.min_p) break;
      sum += w;
    }
    kept = i;
    total = sum;
  }
  double sum = 0;
  int32_t last = (int32_t)best;
  for (int64_t i = 0; i < kept; ++i) {
    const int32_t id = ranking.at(i);
    const double w = weight(id);
    if (w == 0) break;
    last = id;
    sum += w;
    if (sum > s.uniform * total) break;
  }
  return last;
}

int sample(const accel_call* call) {
  const int64_t batch = dim(call, 1, 0), vocabulary = dim(call, 1, 1);
  int32_t* out = data<int32_t>(tensor(call, 0));
  const float* logits = data<float>(tensor(call, 1));
  const float* temperature = data<float>(tensor(call, 2));
  const int32_t* top_k = data<int32_t>(tensor(call, 3));
  const float *top_p = data<float>(tensor(call, 4)), *min_p = data<float>(tensor(call, 5));
  const double* uniform = data<double>(tensor(call, 6));

  bool draws = false;
  for (int64_t b = 0; b < batch; ++b) {
    const bool good = temperature[b] >= 0 && isfinite(temperature[b]) && top_k[b] >= 0 && top_p[b] > 0 &&
                      top_p[b] <= 1 && min_p[b] >= 0 && min_p[b] <= 1 && uniform[b] >= 0 && uniform[b] < 1;
    if (!good) {
      return call->fail(call, "ERR_ACCEL_ARGUMENT",
                        "sample: row %lld has temperature %g (>= 0), top_k %d (>= 0), top_p %g (in (0, 1]), min_p %g "
                        "(in [0, 1]), uniform %g (in [0, 1))",
                        (long long)b, temperature[b], top_k[b], top_p[b], min_p[b], uniform[b]);
    }
    draws |= temperature[b] > 0;
  }
  int32_t* ids = nullptr;
  if (draws) {
    ids = static_cast<int32_t*>(call->scratch(call, (size_t)(vocabulary * call->threads) * sizeof(int32_t)));
    if (ids == nullptr) {
      return call->fail(call, "ERR_ACCEL_OUT_OF_MEMORY", "sample: no memory to rank %lld logits", (long long)vocabulary);
    }
  }
  std::atomic<int64_t> bad{-1};
  parallel(call, batch, grain_for(vocabulary), [&](int64_t begin, int64_t end, int worker) {
    for (int64_t b = begin; b < end; ++b) {
      const float* row = logits + b * vocabulary;
      int64_t best = 0;
      bool nan = false;
      for (int64_t i = 0; i < vocabulary; ++i) {
        nan |= row[i] != row[i];
        if (row[i] > row[best]) best = i;
      }
      if (nan || !isfinite(row[best])) {
        bad = b;
        out[b] = -1;
      } else if (temperature[b] == 0) {
        out[b] = (int32_t)best;
      } else {
        const Settings s = {temperature[b], top_p[b], min_p[b], uniform[b], top_k[b]};
        out[b] = draw(row, vocabulary, best, s, ids + worker * vocabulary);
      }
    }
  });
  if (bad >= 0) {
    return call->fail(call, "ERR_ACCEL_NAN", "sample: the logits of row %lld contain NaN or infinity", (long long)bad);
  }
  call->ran(call, "sample");
  return ACCEL_OK;
}

const accel_op ops[] = {
    {"sample",
     "out:tensor, logits:tensor, temperature:tensor, top_k:tensor, top_p:tensor, min_p:tensor, uniform:tensor",
     sample_check, sample, nullptr}};

}  // namespace

OpTable sample_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
