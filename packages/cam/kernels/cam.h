// What the ops of CaM share: arguments, the gate and its random numbers.
//
// Zhang et al., CaM: Cache Merging for Memory-efficient LLMs Inference, ICML 2024 (PMLR 235:58840).
#ifndef ACCEL_CAM_H
#define ACCEL_CAM_H

#include "accel/op.h"

#ifdef __CUDACC__
#define ACCEL_CAM_BOTH __host__ __device__
#else
#define ACCEL_CAM_BOTH
#endif

namespace accel_cam {

namespace merge {
enum { kP, kMerged, kKv, kRows, kRow, kUniforms, kGate, kSeed, kLayer, kTally, kTargets, kRecent, kDivisor };
}
namespace smear {
enum { kP, kMerged, kKv, kScores, kUniforms, kGate, kSeed, kLayer, kWindow, kStart, kDenominator };
enum { kMoving = 0, kFixed = 1 };
constexpr int64_t kMostWindow = 1024;
}

// When a value is folded: never, always, or with probability p.
enum { kNever = 0, kAlways = 1, kBernoulli = 2 };

struct Gate {
  int kind;
  uint32_t layer;
  uint64_t seed;
};

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): state to output, with the step of the state.
ACCEL_CAM_BOTH inline uint64_t mix(uint64_t z) {
  z += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// A number in [0, 1) with 24 bits, for the token at `position`: the same whatever the batch, the device, or the number
// of steps before, so that nothing changes from one replay of a step to the next.
ACCEL_CAM_BOTH inline float uniform(const Gate& gate, int head, int32_t position) {
  const uint64_t where = mix(mix(gate.seed) ^ (static_cast<uint64_t>(gate.layer) << 32 | static_cast<uint32_t>(head)));
  return static_cast<float>(mix(where ^ static_cast<uint32_t>(position)) >> 40) * 5.9604644775390625e-8f;
}

// A ratio as a probability: 0/0 is 0, x/0 is 1.
ACCEL_CAM_BOTH inline float probability(float ratio) {
  return ratio != ratio ? 0.f : ratio < 0.f ? 0.f : ratio > 1.f ? 1.f : ratio;
}

ACCEL_CAM_BOTH inline bool opens(const Gate& gate, float u, float p) {
  return gate.kind == kAlways || (gate.kind == kBernoulli && u < p);
}

int merge_check(const accel_call* call);
int merge_cpu(const accel_call* call);
int smear_check(const accel_call* call);
int smear_cpu(const accel_call* call);
#if ACCEL_WITH_CUDA
int merge_cuda(const accel_call* call);  // cam_merge.cu
int smear_cuda(const accel_call* call);  // cam_smear.cu
#else
constexpr accel_op_fn merge_cuda = nullptr;
constexpr accel_op_fn smear_cuda = nullptr;
#endif

}  // namespace accel_cam
#endif
