// dequantize  out:tensor[R,C], x:tensor u8[R,B], format:int. Semantics and checks: cpu/ops/dequantize.cc, to the bit.
//
// Runs once, right after a weight was copied to the device, so the bytes are read as they lie: blocks have odd sizes and
// hence no alignment. A thread makes eight neighbours, which share a scale, and stores them together.
#include "common/quant_blocks.h"
#include "cuda/kernels.h"
#include "cuda/ops/vectors.cuh"

namespace accel::cuda {
namespace {

constexpr int kRun = 8;

template <class Format, class Out>
__global__ void __launch_bounds__(256) dequantize_blocks(Out* out, const uint8_t* x, int64_t runs, bool wide) {
  constexpr int kRuns = Format::elements / kRun;
  constexpr int kPack = 16 / static_cast<int>(sizeof(Out));
  static_assert(Format::group % kRun == 0 && kRun % kPack == 0);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t r = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; r < runs; r += step) {
    const uint8_t* block = x + r / kRuns * Format::bytes;
    const int first = static_cast<int>(r % kRuns) * kRun;
    const quant::Scale scale = Format::scale(block, first / Format::group);
    Out* to = out + r * kRun;
#pragma unroll
    for (int k = 0; k < kRun; k += kPack) {
      Pack<Out, kPack> pack;
#pragma unroll
      for (int j = 0; j < kPack; j++) pack.v[j] = from_float<Out>(quant::value<Format>(block, scale, first + k + j));
      if (wide) {
        store_pack<kPack>(to + k, pack);
      } else {
#pragma unroll
        for (int j = 0; j < kPack; j++) to[k + j] = pack.v[j];
      }
    }
  }
}

int dequantize(const accel_call* call) {
  const accel_tensor* out = tensor(call, 0);
  const uint8_t* x = data<uint8_t>(tensor(call, 1));
  const int64_t runs = elements(out) / kRun;
  call->ran(call, "dequantize");
  if (runs == 0) return ACCEL_OK;
  return with_float(out->dtype, [&](auto* element) {
    auto* to = data<std::remove_pointer_t<decltype(element)>>(out);
    quant::with_format(call->args[2].i, [&](auto format) {
      using Format = decltype(format);
      dequantize_blocks<Format><<<grid_for(call, runs, 256), 256, 0, stream_of(call)>>>(to, x, runs, aligned({to}, {}, 16));
    });
    return launched(call);
  });
}

const OpKernel kernels[] = {{"dequantize", dequantize}};

}  // namespace

OpKernels dequantize_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
