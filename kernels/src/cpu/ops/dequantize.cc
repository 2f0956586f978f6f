// dequantize  out:tensor[R,C], x:tensor u8[R,B], format:int: rows of quantised blocks (common/quant_blocks.h) to floats.
// Runs once, when weights are loaded. 16-bit results are rounded to nearest even.
#include <type_traits>

#include "common/quant_blocks.h"
#include "cpu/builtin.h"
#include "cpu/ops/args.h"

namespace accel::cpu {
namespace {

int dequantize_check(const accel_call* call) {
  Checker check(call, "dequantize");
  check.activation(0, "out").dtype(1, "x", {Type::u8}).shape(0, "out", "[R,C]", {-1, -1});
  check.shape(1, "x", "[R,B]", {check.dim(0, 0), -1});
  const int64_t columns = check.dim(0, 1), bytes = check.dim(1, 1), id = call->args[2].i;
  const bool known = quant::with_format(id, [&](auto format) {
    using Format = decltype(format);
    check.require(columns % Format::elements == 0 && bytes == columns / Format::elements * Format::bytes, "ERR_ACCEL_SHAPE",
                  "%lld columns are not what %lld bytes hold: blocks have %d elements in %d bytes", (long long)columns,
                  (long long)bytes, Format::elements, Format::bytes);
  });
  return check.require(known, "ERR_ACCEL_ARGUMENT", "there is no block format %lld", (long long)id).result();
}

template <class Format, class Out>
void dequantize_blocks(Out* out, const uint8_t* x, int64_t blocks) {
  for (int64_t k = 0; k < blocks; ++k, x += Format::bytes, out += Format::elements) {
    for (int g = 0; g < Format::elements / Format::group; ++g) {
      const quant::Scale scale = Format::scale(x, g);
      for (int j = 0; j < Format::group; ++j) {
        const int i = g * Format::group + j;
        host::narrow(quant::value<Format>(x, scale, i), out + i);
      }
    }
  }
}

int dequantize(const accel_call* call) {
  const uint8_t* x = data<uint8_t>(tensor(call, 1));
  quant::with_format(call->args[2].i, [&](auto format) {
    using Format = decltype(format);
    host::with_float(tensor(call, 0)->dtype, [&](auto* element) {
      auto* out = data<std::remove_pointer_t<decltype(element)>>(tensor(call, 0));
      const int64_t blocks = elements(tensor(call, 0)) / Format::elements;
      parallel(call, blocks, grain_for(Format::elements), [&](int64_t begin, int64_t end, int) {
        dequantize_blocks<Format>(out + begin * Format::elements, x + begin * Format::bytes, end - begin);
      });
    });
  });
  call->ran(call, "dequantize");
  return ACCEL_OK;
}

const accel_op ops[] = {
    {"dequantize", "out:tensor, x:tensor, format:int", dequantize_check, dequantize, nullptr},
};

}  // namespace

OpTable dequantize_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
