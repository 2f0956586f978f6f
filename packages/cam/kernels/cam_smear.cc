// cam_smear: folds values through a prompt, one row after the other (the prompt form of KVCache-Factory and LOOM-Scope).
//
//   p           f32 [Hk, n]  the probabilities, -1 for rows that are no sources; optional
//   merged      i32 [Hk, n]  1 where a value was folded; optional
//   kv          one sequence whose heads all have n rows; values change in place, so no page may be shared
//   scores      f32 [Hk, n]  attention A that each row received from the last queries; its scale does not matter
//   uniforms    f32 [Hk, n]  random numbers; absent: from seed, layer, head and position
//   gate        0 never, 1 always, 2 with probability p
//   window      w: a source is folded into the w rows after it, with 1/w
//   start       rows before it are no sources; the last w are none either
//   denominator 0: p_j = A_j / max(A before start, A of the w rows from j on); 1: of the last w rows instead
//
// Rows that were folded already are folded on: V'_i = V_i + (1/w) sum of M_j V'_j. All gates can be drawn first, because
// they do not depend on values; what is left is a recurrence for each channel. Sums are fp32, a value is rounded once.
#include <cmath>
#include <type_traits>

#include "cam_args.h"
#include "cam_smear.h"

namespace accel_cam {

using namespace accel::host;
using namespace smear;

int smear_check(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  if (check_kv(call, "cam_smear", kv) != ACCEL_OK) return ACCEL_FAILED;
  const int64_t n = kv.head[0].rows, window = call->args[kWindow].i, start = call->args[kStart].i;
  for (int h = 1; h < kv.heads; ++h) {
    if (kv.head[h].rows == n) continue;
    return call->fail(call, "ERR_ACCEL_SHAPE", "cam_smear: head %d has %d rows but head 0 has %lld.", h, kv.head[h].rows,
                      (long long)n);
  }
  if (check_floats(call, "cam_smear", kP, "p", n, kKv) != ACCEL_OK ||
      check_ints(call, "cam_smear", kMerged, "merged", n, kKv) != ACCEL_OK ||
      check_floats(call, "cam_smear", kScores, "scores", n, kKv) != ACCEL_OK ||
      check_floats(call, "cam_smear", kUniforms, "uniforms", n, kKv) != ACCEL_OK ||
      check_gate(call, "cam_smear", kGate, kSeed, kLayer) != ACCEL_OK) {
    return ACCEL_FAILED;
  }
  if (window < 1 || window > kMostWindow || window > n || start < 0 || start > n) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT",
                      "cam_smear: window %lld must be from 1 to %lld and start %lld not negative, neither above the %lld rows.",
                      (long long)window, (long long)kMostWindow, (long long)start, (long long)n);
  }
  if (call->args[kDenominator].i != kMoving && call->args[kDenominator].i != kFixed) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "cam_smear: denominator is %lld; it must be 0 (moving) or 1 (fixed).",
                      (long long)call->args[kDenominator].i);
  }
  return ACCEL_OK;
}

namespace {

constexpr int64_t kChannels = 32;  // of one item of work

template <class T>
void smear_channels(const KvHead& head, const Span& span, const uint8_t* open, float* ring, int64_t c0, int64_t c1) {
  // One carry a channel; they all take the same steps.
  for (int64_t i = 0; i < span.window * kChannels; ++i) ring[i] = 0;
  Carry carries[kChannels];
  for (int64_t c = 0; c < c1 - c0; ++c) carries[c] = Carry(span, ring + c, kChannels);
  for (int64_t i = span.start; i < span.n; ++i) {
    const bool is_open = open[i] != 0, was_open = i - span.window >= span.start && open[i - span.window] != 0;
    T* row = head.value<T>(i) + c0;
    for (int64_t c = 0; c < c1 - c0; ++c) {
      const float v = carries[c].value(widen(row[c]));
      if (carries[c].reached()) narrow(v, row + c);
      carries[c].step(v, is_open, was_open);
    }
  }
}

}  // namespace

int smear_cpu(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t n = kv.head[0].rows, window = call->args[kWindow].i;
  const Span span = {n, call->args[kStart].i, n - window, window};
  const Gate gate = gate_of(call, kGate, kSeed, kLayer);
  const bool fixed = call->args[kDenominator].i == kFixed;
  const float* scores = data<float>(call->args[kScores].tensor);
  const float* uniforms = data<float>(call->args[kUniforms].tensor);
  float* p_out = data<float>(call->args[kP].tensor);
  int32_t* merged = data<int32_t>(call->args[kMerged].tensor);
  uint8_t* open = static_cast<uint8_t*>(call->scratch(call, static_cast<size_t>(kv.heads * n)));
  const int64_t ring = window * kChannels;
  float* rings = static_cast<float*>(call->scratch(call, static_cast<size_t>(call->threads * ring) * sizeof(float)));
  call->ran(call, "cam_smear");

  for (int h = 0; h < kv.heads; ++h) {
    const KvHead head(kv, 0, h);
    const float* of = scores + h * n;
    float before = -INFINITY;
    for (int64_t i = 0; i < span.start; ++i) before = of[i] > before ? of[i] : before;
    parallel(call, n, 1 + 16384 / window, [&](int64_t begin, int64_t end, int) {
      for (int64_t j = begin; j < end; ++j) {
        const bool source = j >= span.start && j < span.sources;
        float p = -1;
        bool is_open = false;
        if (source) {
          p = probability(of[j] / rivals(span, j, fixed, before, [&](int64_t i) { return of[i]; }));
          const float u = uniforms != nullptr ? uniforms[h * n + j] : uniform(gate, h, head.record(j)[0]);
          is_open = opens(gate, u, p);
        }
        open[h * n + j] = is_open;
        if (p_out != nullptr) p_out[h * n + j] = p;
        if (merged != nullptr) merged[h * n + j] = is_open;
      }
    });
  }
  const int64_t groups = (kv.head_dim + kChannels - 1) / kChannels;
  parallel(call, kv.heads * groups, 1, [&](int64_t begin, int64_t end, int32_t worker) {
    for (int64_t item = begin; item < end; ++item) {
      const int h = static_cast<int>(item / groups);
      const int64_t c0 = item % groups * kChannels, c1 = c0 + kChannels < kv.head_dim ? c0 + kChannels : kv.head_dim;
      with_float(kv.dtype, [&](auto* e) {
        smear_channels<std::remove_pointer_t<decltype(e)>>(KvHead(kv, 0, h), span, open + h * n, rings + worker * ring,
                                                           c0, c1);
      });
    }
  });
  return ACCEL_OK;
}

}  // namespace accel_cam
