// The sequence in which values are folded through a prompt, for one channel: what the CPU and CUDA versions of cam_smear
// share, so that they give the same bits.
#ifndef ACCEL_CAM_SMEAR_H
#define ACCEL_CAM_SMEAR_H

#include "cam.h"

namespace accel_cam {

// Rows [start, sources) of n may be folded into the `window` rows after each.
struct Span {
  int64_t n, start, sources, window;
};

// V'_i = V_i + (1/w) * sum of M_j V'_j over the sources among the w rows before i. The sum is carried along: each step
// adds the newest source and takes away the one that fell out of reach. What such a sum loses by rounding is made good
// every w steps, when it is added up again from the w terms at hand. Nothing is added where no source is in reach.
//
// `ring` holds M_j V'_j of the last w rows, `stride` apart; zero at first.
class Carry {
 public:
  Carry() = default;
  ACCEL_CAM_BOTH Carry(const Span& span, float* ring, int64_t stride)
      : ring_(ring), stride_(stride), window_(static_cast<int>(span.window)), factor_(1.f / static_cast<float>(span.window)) {}

  // Rows in reach that are folded.
  ACCEL_CAM_BOTH bool reached() const { return count_ > 0; }
  ACCEL_CAM_BOTH float value(float v) const {
#ifdef __CUDA_ARCH__
    return count_ > 0 ? __fadd_rn(v, __fmul_rn(sum_, factor_)) : v;
#else
    return count_ > 0 ? v + sum_ * factor_ : v;
#endif
  }
  // Goes on to the next row. `v` is V' of this one, `open` whether it is folded; `was_open` the same of the row w before.
  ACCEL_CAM_BOTH void step(float v, bool open, bool was_open) {
    const float term = open ? v : 0.f;
    float& slot = ring_[at_ * stride_];
    sum_ = sum_ - slot + term;
    slot = term;
    count_ += static_cast<int>(open) - static_cast<int>(was_open);
    if (++at_ < window_) return;
    at_ = 0;
    sum_ = 0;
    for (int i = 0; i < window_; i++) sum_ += ring_[i * stride_];
  }

 private:
  float* ring_ = nullptr;
  int64_t stride_ = 0;
  int window_ = 0, at_ = 0, count_ = 0;
  float factor_ = 0, sum_ = 0;
};

// The largest of a source's rivals: the scores before `start`, given, and those of its own window or of the last one.
template <class Load>
ACCEL_CAM_BOTH inline float rivals(const Span& span, int64_t j, bool fixed, float before, const Load& load) {
  float most = before;
  const int64_t first = fixed ? span.n - span.window : j;
  for (int64_t i = first; i < first + span.window; i++) {
    const float x = load(i);
    most = x > most ? x : most;
  }
  return most;
}

}  // namespace accel_cam
#endif
