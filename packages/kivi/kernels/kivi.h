// The ops of KIVI and their arguments.
#ifndef ACCEL_KIVI_H
#define ACCEL_KIVI_H

#include "accel/op.h"

namespace accel_kivi {

// Key bits, value bits, group and channels always follow each other.
namespace encode {
enum { kKv, kKeyBits, kValueBits, kGroup, kChannels, kKeyLimit, kValueLimit };
}
namespace attention {
enum { kOut, kLse, kQ, kKv, kLens, kScale, kWindow, kKeyBits, kValueBits, kGroup, kChannels };
}
namespace read {
enum { kCodesK, kScaleK, kMinK, kCodesV, kScaleV, kMinV, kKv, kKeyBits, kValueBits, kGroup, kChannels };
}

int encode_check(const accel_call* call);
int encode_cpu(const accel_call* call);
int attention_check(const accel_call* call);
int attention_cpu(const accel_call* call);
int read_check(const accel_call* call);
int read_cpu(const accel_call* call);
#if ACCEL_WITH_CUDA
int encode_cuda(const accel_call* call);  // kivi_encode.cu
int read_cuda(const accel_call* call);    // kivi_read.cu
int attention_cuda(const accel_call* call);  // kivi_attention.cu
#else
constexpr accel_op_fn encode_cuda = nullptr;
constexpr accel_op_fn read_cuda = nullptr;
constexpr accel_op_fn attention_cuda = nullptr;
#endif

}  // namespace accel_kivi
#endif
