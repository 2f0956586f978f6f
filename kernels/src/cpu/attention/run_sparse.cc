// Block-sparse attention on the CPU: one item is (sequence, query head, block of 128 queries), each with a list of its own,
// so the heads of a group do not share packed keys as they do in dense attention. Listed tiles are visited in ascending
// order, as all tiles are in dense attention: with a full list the results have the same bits.
#include <algorithm>
#include <atomic>

#include "cpu/attention/run.h"
#include "cpu/attention/window.h"

namespace accel::cpu {
namespace {

struct Item {
  int32_t sequence, head, first, queries;  // queries counted inside the sequence
  const uint32_t* listed;
  int32_t tiles;                           // listed ones that are not in the future
};

// The listed columns from `first` up to the diagonal, which counts whether it is listed or not.
int32_t count_tiles(const uint32_t* words, int64_t first, int64_t diagonal) {
  int32_t count = 1;
  for (int64_t w = first / 32; w * 32 < diagonal; ++w) {
    const int64_t bits = diagonal - w * 32, skip = first - w * 32;
    uint32_t word = bits < 32 ? words[w] & ((1u << bits) - 1) : words[w];
    if (skip > 0) word &= ~0u << skip;
    count += __builtin_popcount(word);
  }
  return count;
}

class SparseRunner {
 public:
  SparseRunner(const accel_call* call, const AttentionRequest& r, const BlockMask& mask)
      : call_(call), r_(r), mask_(mask), kv_(*r.kv), kernels_(attention_kernels()), window_(call, *r.kv, r.lens, r.window) {}

  int run() {
    int64_t blocks = 0;
    for (int b = 0; b < kv_.sequences; ++b) blocks += row_blocks(b);
    const int64_t count = blocks * r_.query_heads;
    if (count == 0) return ACCEL_OK;
    const size_t floats = (kernels_.tiled_floats(kv_.head_dim, list_tile) + 31) / 16 * 16;
    auto* items = static_cast<Item*>(call_->scratch(call_, (size_t)count * sizeof(Item)));
    auto* workspace = static_cast<float*>(call_->scratch(call_, floats * call_->threads * sizeof(float)));
    lay_out(items);
    // Longest first, handed out one by one: the last items to finish are small.
    std::stable_sort(items, items + count, [](const Item& a, const Item& b) { return a.tiles > b.tiles; });
    std::atomic<int64_t> next{0};
    parallel(call_, std::min<int64_t>(call_->threads, count), 1, [&](int64_t, int64_t, int worker) {
      for (int64_t i = next++; i < count; i = next++) kernels_.tiled(block(items[i]), workspace + worker * floats);
    });
    call_->ran(call_, "block_sparse_tiled");
    return ACCEL_OK;
  }

 private:
  int32_t row_blocks(int b) const { return (r_.lens[b] + list_tile - 1) / list_tile; }

  void lay_out(Item* items) {
    int64_t number = 0, token = 0;         // of a row block and of a sequence's first query, through the batch
    for (int b = 0; b < kv_.sequences; token += r_.lens[b++]) {
      for (int i = 0; i < row_blocks(b); ++i, ++number) {
        for (int h = 0; h < r_.query_heads; ++h) {
          const uint32_t* listed = mask_.words + (number * r_.query_heads + h) * mask_.stride;
          const int32_t first = i * list_tile, queries = std::min(list_tile, r_.lens[b] - first);
          const int64_t past = kv_.head[b * kv_.heads].rows - r_.lens[b];
          const int32_t* seen = window_.of(h / group_, token + first);
          const int32_t tiles = count_tiles(listed, seen == nullptr ? 0 : *seen / list_tile, past / list_tile + i);
          *items++ = {b, h, first, queries, listed, tiles};
          if (mask_.counts != nullptr) mask_.counts[b * r_.query_heads + h] += tiles;
        }
      }
    }
  }

  AttentionBlock block(const Item& item) const {
    AttentionBlock x = {};
    const int kv_head = item.head / group_;
    const int64_t n = kv_.head[item.sequence * kv_.heads + kv_head].rows;
    int64_t token = item.first;
    for (int b = 0; b < item.sequence; ++b) token += r_.lens[b];
    x.type = r_.type;
    x.head_dim = kv_.head_dim;
    x.group = 1;
    x.queries = item.queries;
    x.q_stride = x.out_stride = (int64_t)r_.query_heads * kv_.head_dim;
    const int64_t element = token * x.q_stride + (int64_t)item.head * kv_.head_dim;
    x.q = static_cast<const uint8_t*>(r_.q) + element * type_bytes(r_.type);
    x.out = static_cast<uint8_t*>(r_.out) + element * type_bytes(r_.type);
    x.scale = (float)(r_.scale * 1.44269504088896340736);
    x.keys = kv_keys(kv_, item.sequence, kv_head);
    x.values = kv_values(kv_, item.sequence, kv_head);
    x.causal = true;
    x.last = n - r_.lens[item.sequence] + item.first;
    x.end = x.k1 = n;
    x.window_begin = window_.of(kv_head, token);
    x.listed = item.listed;
    x.lse_stride = r_.query_heads;
    if (r_.lse != nullptr) x.lse = r_.lse + token * r_.query_heads + item.head;
    return x;
  }

  const accel_call* call_;
  const AttentionRequest& r_;
  const BlockMask& mask_;
  const accel_kv& kv_;
  const AttentionKernels& kernels_;
  const WindowBegins window_;
  const int group_ = r_.query_heads / kv_.heads;
};

}  // namespace

int run_block_sparse(const accel_call* call, const AttentionRequest& request, const BlockMask& mask) {
  return SparseRunner(call, request, mask).run();
}

}  // namespace accel::cpu
