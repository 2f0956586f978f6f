// kivi_encode on CUDA (definition in kivi_encode.cc). A block of threads encodes one item: the group of keys or the 16
// values whose number is blockIdx.x modulo the items of a head.
//
// The rows of the item are copied to shared memory as halves, 16 bytes a thread and step. From there come the minima and
// maxima, and then the words, each made by one thread from the numbers it holds and stored side by side with those of its
// warp. While decoding nearly all blocks have nothing to do: a key item is due every so many steps, a value item gets one
// row. Row counts come from the device's table, so the launch can be replayed.
#include <type_traits>

#include "accel/cuda.cuh"
#include "kivi_args.h"
#include "kivi_quant.h"

namespace accel_kivi {
namespace {

using namespace encode;

constexpr int kThreads = 128, kWarps = kThreads / 32;

struct Encode {
  accel::cuda::KvPages kv;
  KiviLayout layout;
  int key_header;
  int key_items, items;  // of a head, of the grid
  accel_device_error* error;
  int32_t checks[kFaults];
};

// Rows of the tile, in halves: 8 more than there are numbers, so that lanes that read 8 rows meet no bank twice.
__host__ __device__ constexpr int padded(int numbers) { return numbers + 8; }
__host__ __device__ inline int tile_halves(const KiviLayout& l) {
  const int keys = l.group * padded(l.channels()), values = kBlockRows * padded(l.head_dim);
  return keys > values ? keys : values;
}
// Two halves for each pair of channels and part of the rows, or for each row and group of a value item.
__host__ __device__ inline int range_pairs(const KiviLayout& l) {
  const int pairs = l.channels() / 2, values = kBlockRows * l.value_groups();
  const int keys = pairs > kThreads ? pairs : kThreads;
  return keys > values ? keys : values;
}

// A place in a stream of fewer than 2^32 bytes.
__device__ inline uint8_t* place(const accel::cuda::KvPages& kv, const int32_t* pages, uint32_t byte) {
  const uint32_t size = static_cast<uint32_t>(kv.page_bytes), page = byte / size;
  return kv.base + pages[page] * kv.page_bytes + (byte - page * size);
}

// Copies rows of head_dim numbers to the tile. `row(i)` is where row i lies.
template <class T, class Row>
__device__ inline void load_rows(int rows, int dim, int stride, __half* tile, const Row& row) {
  constexpr int N = 16 / sizeof(T);
  const int packs = dim / N;
#pragma unroll 4
  for (int i = threadIdx.x; i < rows * packs; i += kThreads) {
    const int r = i / packs, c = i % packs;
    const uint4 pack = *reinterpret_cast<const uint4*>(row(r) + 16 * c);
    const T* x = reinterpret_cast<const T*>(&pack);
    __half2 out[N / 2];
#pragma unroll
    for (int k = 0; k < N / 2; k++) {
      out[k] = __halves2half2(__float2half_rn(accel::cuda::to_float(x[2 * k])),
                              __float2half_rn(accel::cuda::to_float(x[2 * k + 1])));
    }
    __half2* to = reinterpret_cast<__half2*>(tile + r * stride + N * c);
#pragma unroll
    for (int k = 0; k < N / 2; k++) to[k] = out[k];
  }
}

struct Range {
  __half2 low, high;
};
__device__ inline Range whole_range() {
  const __half infinity = __ushort_as_half(0x7c00);
  return {__half2half2(infinity), __half2half2(__hneg(infinity))};
}
// NaN wins.
__device__ inline Range joined(Range a, Range b) { return {__hmin2_nan(a.low, b.low), __hmax2_nan(a.high, b.high)}; }

// Scale and minimum of a group; reports what is wrong with it.
__device__ inline __half2 scale_and_low(const Encode& args, float low, float high, int most, int fault, int row) {
  const bool number = fabsf(low) <= kMostHalf && fabsf(high) <= kMostHalf;
  if (!number || high - low > kMostHalf) {
    accel::cuda::accel_report(args.error, args.checks[number ? fault + 1 : fault], blockIdx.x / args.items, row);
  }
  return __floats2half2_rn(scale_of(low, high, most), low + 0.f);
}

// The words of a block: a row of 32, one for each lane.
struct Words {
  int bits, steps;
  __device__ int full() const { return KiviLayout::words(bits, steps); }
  __device__ int rows() const { return full() + (KiviLayout::half_word(bits, steps) ? 1 : 0); }
  // Pairs in word row `row`, and the bits between the two codes of a pair.
  __device__ int pairs(int row) const { return row < full() ? 16 / bits : 4; }
  __device__ int apart(int row) const { return row < full() ? 16 : 8; }
  __device__ int byte(int row, int lane) const { return 128 * row + (row < full() ? 4 : 2) * lane; }
};

template <class T>
__device__ void encode_keys(const Encode& args, const accel_kv_head& head, int first, __half* tile, Range* ranges) {
  const KiviLayout& l = args.layout;
  const int n = l.channels(), stride = padded(n), most = (1 << l.key_bits) - 1;
  const uint32_t item = args.key_header + static_cast<uint32_t>(first / l.group) * l.key_item_bytes();
  const int32_t* pages = head.encoded_key_pages;
  if (args.key_header == 0) {
    load_rows<T>(l.group, n, stride, tile, [&](int r) { return args.kv.key(head, first + r); });
  } else {
    for (int i = threadIdx.x; i < l.group * n; i += kThreads) {
      const int r = i / n, c = i % n;
      float x = 0;
      if (c < l.kept) {
        const int channel = *reinterpret_cast<const uint16_t*>(place(args.kv, pages, 2 * c));
        // The list may have come from a file, so it is not trusted.
        x = accel::cuda::to_float(reinterpret_cast<const T*>(args.kv.key(head, first + r))[min(channel, l.head_dim - 1)]);
      }
      tile[r * stride + c] = __float2half_rn(x);
    }
  }
  __syncthreads();

  const int pairs = n / 2, parts = max(kThreads / pairs, 1);
  for (int i = threadIdx.x; i < parts * pairs; i += kThreads) {
    Range range = whole_range();
    for (int r = i / pairs; r < l.group; r += parts) {
      const __half2 x = *reinterpret_cast<const __half2*>(tile + r * stride + i % pairs * 2);
      range = joined(range, {x, x});
    }
    ranges[i] = range;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < pairs; i += kThreads) {
    Range range = ranges[i];
    for (int part = 1; part < parts; part++) range = joined(range, ranges[part * pairs + i]);
    const float2 low = __half22float2(range.low), high = __half22float2(range.high);
    const __half2 a = scale_and_low(args, low.x, high.x, most, kKeyNumber, first);
    const __half2 b = scale_and_low(args, low.y, high.y, most, kKeyNumber, first);
    const __half2 scales = __lows2half2(a, b), lows = __highs2half2(a, b);
    ranges[i] = {lows, scales};
    *reinterpret_cast<__half2*>(place(args.kv, pages, item + l.key_scales() + 2 * l.key_scale(2 * i))) = scales;
    *reinterpret_cast<__half2*>(place(args.kv, pages, item + l.key_minima() + 2 * l.key_scale(2 * i))) = lows;
  }
  __syncthreads();

  const Words words = {l.key_bits, n / 16};
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (int i = threadIdx.x / 32; i < l.key_blocks() * words.rows(); i += kWarps) {
    const int block = i / words.rows(), row = i % words.rows(), apart = words.apart(row);
    uint32_t word = 0;
    for (int j = 0; j < words.pairs(row); j++) {
      const int p = row * (16 / l.key_bits) + j;
      const CodePair pair = KiviLayout::pair(l.key_bits, n / 16, false, p);
      const int r = block * kBlockRows + g + pair.lower * 8, c = pair.step * 16 + pair.right * 8 + 2 * t;
      const float2 x = __half22float2(*reinterpret_cast<const __half2*>(tile + r * stride + c));
      const float2 low = __half22float2(ranges[c / 2].low), scale = __half22float2(ranges[c / 2].high);
      word |= static_cast<uint32_t>(code_of(x.x, low.x, scale.x, most)) << (l.key_bits * j);
      word |= static_cast<uint32_t>(code_of(x.y, low.y, scale.y, most)) << (l.key_bits * j + apart);
    }
    uint8_t* to = place(args.kv, pages, item + block * l.key_block_bytes() + words.byte(row, lane));
    if (apart == 16) {
      *reinterpret_cast<uint32_t*>(to) = word;
    } else {
      *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(word);
    }
  }
}

// Rows [first, end) of the item of 16 rows that they are in. The first rows of an item make the rest of it zero.
template <class T>
__device__ void encode_values(const Encode& args, const accel_kv_head& head, int first, int end, __half* tile,
                              __half2* groups) {
  const KiviLayout& l = args.layout;
  const int dim = l.head_dim, stride = padded(dim), most = (1 << l.value_bits) - 1;
  const int row0 = first / kBlockRows * kBlockRows, from = first - row0, to = end - row0;
  const uint32_t item = static_cast<uint32_t>(row0 / kBlockRows) * l.value_item_bytes();
  const int32_t* pages = head.encoded_value_pages;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  load_rows<T>(to - from, dim, stride, tile + from * stride, [&](int r) { return args.kv.value(head, first + r); });
  __syncthreads();

  // A lane looks at two channels of every 64; a group is 8 to 32 lanes, or twice all of them.
  const int width = min(l.group / 2, 32), span = max(l.group, 64);
  for (int r = from + warp; r < to; r += kWarps) {
    for (int base = 0; base < dim; base += span) {
      Range range = whole_range();
      for (int c = base + 2 * lane; c < min(base + span, dim); c += 64) {
        const __half2 x = *reinterpret_cast<const __half2*>(tile + r * stride + c);
        range = joined(range, {x, x});
      }
      for (int step = width / 2; step > 0; step /= 2) {
        range = joined(range, {__shfl_xor_sync(~0u, range.low, step), __shfl_xor_sync(~0u, range.high, step)});
      }
      const int c = base + 2 * lane;
      if (lane % width != 0 || c >= dim) continue;
      range = joined(range, {__lowhigh2highlow(range.low), __lowhigh2highlow(range.high)});
      groups[c / l.group * kBlockRows + r] = scale_and_low(args, __low2float(range.low), __low2float(range.high), most,
                                                           kValueNumber, row0 + r);
    }
  }
  __syncthreads();

  const bool fresh = from == 0;
  for (int i = threadIdx.x; i < l.value_groups() * kBlockRows; i += kThreads) {
    const bool there = i % kBlockRows >= from && i % kBlockRows < to;
    if (!there && !fresh) continue;
    const __half2 x = there ? groups[i] : __half2half2(__ushort_as_half(0));
    const int to = 2 * KiviLayout::value_scale(i / kBlockRows, i % kBlockRows);
    *reinterpret_cast<__half*>(place(args.kv, pages, item + l.value_scales() + to)) = __low2half(x);
    *reinterpret_cast<__half*>(place(args.kv, pages, item + l.value_minima() + to)) = __high2half(x);
  }

  const Words words = {l.value_bits, dim / 16};
  const int g = lane / 4, t = lane % 4;
  // Rows 2t, 2t + 1 and the same plus 8 are this lane's.
  const auto due = [&](int r) { return r >= from && r < to; };
  const bool any = due(2 * t) || due(2 * t + 1) || due(2 * t + 8) || due(2 * t + 9);
  if (!any && !fresh) return;
  for (int row = warp; row < words.rows(); row += kWarps) {
    const int apart = words.apart(row);
    uint8_t* at = place(args.kv, pages, item + words.byte(row, lane));
    uint32_t word = fresh         ? 0
                    : apart == 16 ? *reinterpret_cast<const uint32_t*>(at)
                                  : *reinterpret_cast<const uint16_t*>(at);
    for (int j = 0; j < words.pairs(row); j++) {
      const CodePair pair = KiviLayout::pair(l.value_bits, dim / 16, true, row * (16 / l.value_bits) + j);
      const int c = pair.step * 16 + pair.lower * 8 + g;
#pragma unroll
      for (int second = 0; second < 2; second++) {
        const int r = 2 * t + second + pair.right * 8, shift = l.value_bits * j + second * apart;
        if (!due(r)) continue;
        const float2 group = __half22float2(groups[c / l.group * kBlockRows + r]);
        const int code = code_of(__half2float(tile[r * stride + c]), group.y, group.x, most);
        word = (word & ~(static_cast<uint32_t>(most) << shift)) | static_cast<uint32_t>(code) << shift;
      }
    }
    if (apart == 16) {
      *reinterpret_cast<uint32_t*>(at) = word;
    } else {
      *reinterpret_cast<uint16_t*>(at) = static_cast<uint16_t>(word);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) encode_items(const __grid_constant__ Encode args) {
  extern __shared__ __align__(16) uint8_t shared[];
  accel::cuda::pdl_release();
  accel::cuda::pdl_wait();
  const unsigned index = blockIdx.x / args.items;
  const accel_kv_head& head = args.kv.head[index];
  __half* tile = reinterpret_cast<__half*>(shared);
  void* rest = tile + tile_halves(args.layout);
  const int at = static_cast<int>(blockIdx.x - index * args.items);
  if (at < args.key_items) {
    const int first = head.plain_keys + at * args.layout.group;
    if (first < head.encoded_keys) encode_keys<T>(args, head, first, tile, static_cast<Range*>(rest));
    return;
  }
  const int row0 = (head.plain_values / kBlockRows + at - args.key_items) * kBlockRows;
  const int first = max(head.plain_values, row0), end = min(head.encoded_values, row0 + kBlockRows);
  if (first < end) encode_values<T>(args, head, first, end, tile, static_cast<__half2*>(rest));
}

}  // namespace

int encode_cuda(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  Encode args = {accel::cuda::kv_pages(kv), layout_of(call, kKv, kKeyBits), kv.encoded_key.header, 0, 0,
                 call->device_error, {}};
  const int64_t keys = call->args[kKeyLimit].i, values = call->args[kValueLimit].i;
  args.key_items = static_cast<int>((keys + args.layout.group - 1) / args.layout.group);
  // So many rows may begin anywhere in an item.
  args.items = args.key_items + static_cast<int>(values == 0 ? 0 : (values + 14) / kBlockRows + 1);
  if (args.items == 0) return ACCEL_OK;
  for (int i = 0; i < kFaults; i++) args.checks[i] = call->device_check(call, kFaultTexts[i].code, kFaultTexts[i].format);
  const size_t shared = tile_halves(args.layout) * sizeof(__half) + range_pairs(args.layout) * sizeof(Range);
  const dim3 grid(static_cast<unsigned>(args.items) * kv.sequences * kv.heads);  // one number: there may be many of both
  call->ran(call, "kivi_encode");
  return accel::cuda::with_float(kv.dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    if (shared > 48 * 1024) {
      cudaFuncSetAttribute(encode_items<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    }
    accel::cuda::launch_pdl(call, encode_items<T>, grid, dim3(kThreads), shared, args);
    return accel::cuda::launched(call);
  });
}

}  // namespace accel_kivi
