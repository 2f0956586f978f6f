// How the query heads of a group become one number of their kv head, for the ops that count attention.
#ifndef ACCEL_CUDA_OPS_HEAD_REDUCE_CUH
#define ACCEL_CUDA_OPS_HEAD_REDUCE_CUH

#include "accel/cuda.cuh"

namespace accel::cuda {

// As ops take it. none: a row per query head. first: the first query head of the group stands for all.
enum class Reduce : int { none, mean, max, sum, first };

// Joins what one query head gave to what the heads before it gave; a mean is divided at the end.
template <class Number>
__device__ inline Number join(Reduce reduce, Number sofar, Number x) {
  if (reduce == Reduce::first) return sofar;
  return reduce == Reduce::max ? (x > sofar ? x : sofar) : sofar + x;
}

}  // namespace accel::cuda
#endif
