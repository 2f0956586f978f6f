// streamingllm_merge: joins the attention over two disjoint sets of keys into the attention over their union.
//
//   out   [T, Hq, d]     float32, bfloat16 or float16; may be the same tensor as a or b
//   lse   f32 [T, Hq]    log-sum-exp of the union; optional
//   a, b  [T, Hq, d]     outputs over the two sets, same type as out
//   a_lse, b_lse         f32 [T, Hq]; -inf where a query saw nothing of the set
//
// out = (e^a_lse a + e^b_lse b) / (e^a_lse + e^b_lse), with the larger exponent taken out first.
#include <stdint.h>

#include <cmath>
#include <initializer_list>

#include "accel/host.h"
#include "streamingllm_merge.h"

namespace {

using namespace accel_streamingllm;
using accel::host::Bf16, accel::host::F16, accel::host::is_f32, accel::host::narrow, accel::host::widen;

bool is_bf16(const accel_tensor* t) { return t->dtype.code == ACCEL_BFLOAT && t->dtype.bits == 16; }
bool is_f16(const accel_tensor* t) { return t->dtype.code == ACCEL_FLOAT && t->dtype.bits == 16; }

// `t` has the first `ndim` dimensions of `like`.
bool agrees(const accel_tensor* t, const accel_tensor* like, int32_t ndim) {
  if (t->ndim != ndim) return false;
  for (int32_t i = 0; i < ndim; ++i) {
    if (t->shape[i] != like->shape[i]) return false;
  }
  return true;
}

int check(const accel_call* call) {
  const accel_tensor* out = call->args[kOut].tensor;
  if (out->ndim != 3) return call->fail(call, "ERR_ACCEL_SHAPE", "streamingllm_merge: out must be [tokens, heads, dim].");
  if (!is_f32(out) && !is_bf16(out) && !is_f16(out)) {
    return call->fail(call, "ERR_ACCEL_DTYPE", "streamingllm_merge: out must be float32, bfloat16 or float16.");
  }
  for (const int i : {kA, kB}) {
    const accel_tensor* part = call->args[i].tensor;
    if (!agrees(part, out, 3)) {
      return call->fail(call, "ERR_ACCEL_SHAPE", "streamingllm_merge: a and b must have the shape of out.");
    }
    if (part->dtype.code != out->dtype.code || part->dtype.bits != out->dtype.bits) {
      return call->fail(call, "ERR_ACCEL_DTYPE", "streamingllm_merge: a and b must have the type of out.");
    }
  }
  for (const int i : {kLse, kALse, kBLse}) {
    const accel_tensor* lse = call->args[i].tensor;
    if (lse == nullptr) continue;  // only `lse` may be absent
    if (!agrees(lse, out, 2) || !is_f32(lse)) {
      return call->fail(call, "ERR_ACCEL_SHAPE", "streamingllm_merge: every lse must be float32 [tokens, heads].");
    }
  }
  return ACCEL_OK;
}

template <class T>
void merge_rows(void* user, int64_t begin, int64_t end, int32_t) {
  const Merge& merge = *static_cast<const Merge*>(user);
  for (int64_t row = begin; row < end; ++row) {
    const float la = merge.a_lse[row];
    const float lb = merge.b_lse[row];
    const float most = la > lb || la != la ? la : lb;  // NaN wins: it must not get lost
    const bool nothing = most == -INFINITY;
    float wa = nothing ? 0.f : std::exp(la - most);
    float wb = nothing ? 0.f : std::exp(lb - most);
    const float sum = wa + wb;
    if (merge.lse != nullptr) merge.lse[row] = nothing ? -INFINITY : most + std::log(sum);
    if (!nothing) {
      wa /= sum;
      wb /= sum;
    }
    const T* a = static_cast<const T*>(merge.a) + row * merge.dim;
    const T* b = static_cast<const T*>(merge.b) + row * merge.dim;
    T* out = static_cast<T*>(merge.out) + row * merge.dim;
    for (int64_t c = 0; c < merge.dim; ++c) narrow(wa * widen(a[c]) + wb * widen(b[c]), out + c);
  }
}

int run(const accel_call* call) {
  const accel_tensor* out = call->args[kOut].tensor;
  Merge merge = merge_of(call);
  call->ran(call, "streamingllm_merge");
  call->parallel(call, merge.rows, 64,
                 is_f32(out)    ? merge_rows<float>
                 : is_bf16(out) ? merge_rows<Bf16>
                                : merge_rows<F16>,
                 &merge);
  return ACCEL_OK;
}

const accel_op ops[] = {
    {"streamingllm_merge", "out:tensor, lse:tensor?, a:tensor, a_lse:tensor, b:tensor, b_lse:tensor", check, run,
     streamingllm_merge_cuda},
};
const accel_op_library library = {ACCEL_OP_ABI, ACCEL_LIBRARY_NAME, ACCEL_LIBRARY_VERSION, 1, ops};

}  // namespace

extern "C" ACCEL_EXPORT const accel_op_library* accel_op_library_get(uint32_t) { return &library; }
