// kivi_read on CUDA (definition in kivi_read.cc): a thread makes one output word, scale or minimum.
#include "accel/cuda.cuh"
#include "kivi_args.h"

namespace accel_kivi {
namespace {

using namespace read;

constexpr int kThreads = 256;

struct Read {
  accel::cuda::KvPages kv;
  KiviLayout layout;
  int key_header;
  int64_t keys, values;  // encoded rows
  uint32_t* codes_k;
  uint16_t* scale_k;
  uint16_t* min_k;
  uint32_t* codes_v;
  uint16_t* scale_v;
  uint16_t* min_v;
};

__global__ void __launch_bounds__(kThreads) read_keys(Read args) {
  const KiviLayout& l = args.layout;
  const int h = blockIdx.y, bits = l.key_bits;
  const int64_t words = args.keys * bits / 32, groups = args.keys / l.group;
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i >= l.kept * words) return;
  const int c = static_cast<int>(i / words);
  const int64_t w = i % words;
  const accel_kv_head& head = args.kv.at(0, h);
  const auto item = [&](int64_t group) { return args.key_header + group * l.key_item_bytes(); };
  if (args.codes_k != nullptr) {
    uint32_t word = 0;
    for (int j = 0; j < 32 / bits; j++) {
      const int64_t row = w * (32 / bits) + j;
      const int in_item = static_cast<int>(row % l.group);
      const CodePlace place = l.key_place(in_item % kBlockRows, c);
      const int64_t at = item(row / l.group) + in_item / kBlockRows * l.key_block_bytes() + place.byte;
      const uint32_t code = *args.kv.stream(head.encoded_key_pages, at) >> place.shift & ((1u << bits) - 1);
      word |= code << (bits * j);
    }
    args.codes_k[(h * l.kept + c) * words + w] = word;
  }
  if (w >= groups) return;
  const int64_t at = (h * l.kept + c) * groups + w;
  const auto half = [&](int place) {
    return *reinterpret_cast<const uint16_t*>(args.kv.stream(head.encoded_key_pages, item(w) + place));
  };
  if (args.scale_k != nullptr) args.scale_k[at] = half(l.key_scales() + 2 * l.key_scale(c));
  if (args.min_k != nullptr) args.min_k[at] = half(l.key_minima() + 2 * l.key_scale(c));
}

__global__ void __launch_bounds__(kThreads) read_values(Read args) {
  const KiviLayout& l = args.layout;
  const int h = blockIdx.y, bits = l.value_bits, words = l.head_dim * bits / 32, groups = l.value_groups();
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i >= args.values * words) return;
  const int64_t row = i / words, item = row / kBlockRows * l.value_item_bytes();
  const int w = static_cast<int>(i % words), r = static_cast<int>(row % kBlockRows);
  const accel_kv_head& head = args.kv.at(0, h);
  if (args.codes_v != nullptr) {
    uint32_t word = 0;
    for (int j = 0; j < 32 / bits; j++) {
      const CodePlace place = l.value_place(r, w * (32 / bits) + j);
      const uint32_t code =
          *args.kv.stream(head.encoded_value_pages, item + place.byte) >> place.shift & ((1u << bits) - 1);
      word |= code << (bits * j);
    }
    args.codes_v[(h * args.values + row) * words + w] = word;
  }
  if (w >= groups) return;
  const int64_t at = (h * args.values + row) * groups + w;
  const auto half = [&](int place) {
    return *reinterpret_cast<const uint16_t*>(
        args.kv.stream(head.encoded_value_pages, item + place + 2 * KiviLayout::value_scale(w, r)));
  };
  if (args.scale_v != nullptr) args.scale_v[at] = half(l.value_scales());
  if (args.min_v != nullptr) args.min_v[at] = half(l.value_minima());
}

}  // namespace

int read_cuda(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const auto halves = [&](int i) { return accel::cuda::data<uint16_t>(call->args[i].tensor); };
  const Read args = {accel::cuda::kv_pages(kv),
                     layout_of(call, kKv, kKeyBits),
                     kv.encoded_key.header,
                     kv.head[0].encoded_keys,
                     kv.head[0].encoded_values,
                     accel::cuda::data<uint32_t>(call->args[kCodesK].tensor),
                     halves(kScaleK),
                     halves(kMinK),
                     accel::cuda::data<uint32_t>(call->args[kCodesV].tensor),
                     halves(kScaleV),
                     halves(kMinV)};
  const KiviLayout& l = args.layout;
  call->ran(call, "kivi_read");
  const cudaStream_t stream = accel::cuda::stream_of(call);
  const auto grid = [&](int64_t words) {
    return dim3(static_cast<unsigned>((words + kThreads - 1) / kThreads), static_cast<unsigned>(kv.heads));
  };
  // A group has at least a word, so threads suffice for scales as well.
  const int64_t keys = l.kept * (args.keys * l.key_bits / 32), values = args.values * (l.head_dim * l.value_bits / 32);
  if (keys > 0) read_keys<<<grid(keys), kThreads, 0, stream>>>(args);
  if (values > 0) read_values<<<grid(values), kThreads, 0, stream>>>(args);
  return accel::cuda::launched(call);
}

}  // namespace accel_kivi
