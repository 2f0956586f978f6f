// row_entropy: Shannon entropy of every row, in nats. Rows of an attention map spread over many keys have a high one.
//
//   out   f32 [rows]
//   probs f32 [rows, columns], every row sums to one
#include <stdint.h>

#include <cmath>

#include "accel/op.h"

namespace {

enum { kOut, kProbs };

bool is_f32(const accel_tensor* t, int ndim) {
  return t->ndim == ndim && t->dtype.code == ACCEL_FLOAT && t->dtype.bits == 32;
}

float* data(const accel_arg& arg) {
  return reinterpret_cast<float*>(static_cast<uint8_t*>(arg.tensor->data) + arg.tensor->byte_offset);
}

// Runs on the caller's thread before anything is enqueued, so a wrong call is an exception with a stack.
int check(const accel_call* call) {
  const accel_tensor* out = call->args[kOut].tensor;
  const accel_tensor* probs = call->args[kProbs].tensor;
  if (!is_f32(out, 1) || !is_f32(probs, 2)) {
    return call->fail(call, "ERR_ACCEL_DTYPE", "out must be float32 [rows] and probs float32 [rows, columns].");
  }
  if (out->shape[0] != probs->shape[0]) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "out has %lld elements but probs has %lld rows.",
                      (long long)out->shape[0], (long long)probs->shape[0]);
  }
  return ACCEL_OK;
}

struct Rows {
  float* out;
  const float* probs;
  int64_t columns;
};

void run_range(void* user, int64_t begin, int64_t end, int32_t) {
  const Rows& rows = *static_cast<const Rows*>(user);
  for (int64_t row = begin; row < end; ++row) {
    double sum = 0;
    for (int64_t column = 0; column < rows.columns; ++column) {
      const float p = rows.probs[row * rows.columns + column];
      if (p > 0) sum -= p * std::log(p);
    }
    rows.out[row] = static_cast<float>(sum);
  }
}

// Runs on the stream's worker; `parallel` splits the rows over all threads.
int run(const accel_call* call) {
  const accel_tensor* probs = call->args[kProbs].tensor;
  Rows rows{data(call->args[kOut]), data(call->args[kProbs]), probs->shape[1]};
  call->ran(call, "row_entropy");
  call->parallel(call, probs->shape[0], 1, run_range, &rows);
  return ACCEL_OK;
}

const accel_op ops[] = {{"row_entropy", "out:tensor, probs:tensor", check, run, nullptr}};
const accel_op_library library = {ACCEL_OP_ABI, ACCEL_LIBRARY_NAME, ACCEL_LIBRARY_VERSION, 1, ops};

}  // namespace

extern "C" ACCEL_EXPORT const accel_op_library* accel_op_library_get(uint32_t) { return &library; }
