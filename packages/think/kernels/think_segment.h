// The inner loop of think_attention on the CPU, once for each instruction set.
#ifndef ACCEL_THINK_SEGMENT_H
#define ACCEL_THINK_SEGMENT_H

#include "accel/op.h"

namespace accel_think {

// Packed rows that are worked on together, each one query of one query head: they share the keys that were loaded.
constexpr int kRows = 16;

// Some queries of one kv head against some of its keys.
struct Segment {
  const accel_kv* kv;
  int sequence, head;
  int kept;                // channels of pruned keys
  int rows;                // up to kRows
  const float* whole;      // [rows][D] queries times the scale
  const float* pruned;     // [rows][kept] those of them at the kept channels
  const int64_t* begins;   // [rows] the first key that a query sees
  const int64_t* ends;     // [rows] the first key that it does not see any more
  int64_t begin, end;      // keys; begin is a multiple of 16
  uint8_t* item;           // room for one
  // The state of the softmax, written: largest logit, sum of exp(logit - top), and the values with these weights.
  float* top;              // [rows]
  float* sum;              // [rows]
  float* out;              // [rows][D]
};

using SegmentKernel = void (*)(const Segment& segment);

void segment_base(const Segment& segment);
void segment_avx2(const Segment& segment);
void segment_avx512(const Segment& segment);

}  // namespace accel_think
#endif
