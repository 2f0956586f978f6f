// kivi_attention on CUDA. Signature and checks: kivi_attention.cc.
//
// Two kernels as in the attention_decode of @accel/kernels: attend_split gives every block an equal share of all keys
// (accel/decode_plan.cuh) and streams it (kivi_stream.cuh), decode_combine joins the segments. 16-bit caches with 64 or 128
// channels, groups of 32 and more, equal bits for keys and values, pages of a power of two bytes from kLeastPageBytes on. Up to
// 8 packed rows of a sequence (a decode step of one group) are one block of rows; more, as in a later turn, are cut into
// blocks of 16, or of 8 where keys have lost channels.
// Everything else runs on kivi_attention_reference.
#include <algorithm>
#include <vector>

#include "accel/window.cuh"
#include "kivi_attend.cuh"

namespace accel_kivi {

int attention_reference(const accel_call* call, const KiviArguments& a, int64_t queries, int window);

namespace {

int run_fast(const accel_call* call, const KiviArguments& a, int packed) {
  if (a.layout.key_bits == 2) return attend_2_2(call, a, packed);
  if (a.layout.key_bits == 4) return attend_4_4(call, a, packed);
  return attend_8_8(call, a, packed);
}

bool supports(const accel_call* call, const accel_kv& kv, const KiviLayout& l) {
  if (call->capability < 80 || kv.dtype.bits != 16 || (l.head_dim != 64 && l.head_dim != 128) || l.group < 32) return false;
  if (l.key_bits != l.value_bits) return false;
  if ((kv.page_bytes & (kv.page_bytes - 1)) != 0 || kv.page_bytes < kLeastPageBytes) return false;
  // Places in a stream are 32-bit numbers.
  return (int64_t)kv.row_limit * std::max(l.key_item_bytes() / l.group, l.value_item_bytes() / kBlockRows) <= 1ll << 30;
}

}  // namespace

int attention_cuda(const accel_call* call) {
  const accel_tensor* q = call->args[attention::kQ].tensor;
  const accel_kv& kv = *call->args[attention::kKv].kv;
  const accel_ints lens = call->args[attention::kLens].ints;
  const auto number = [&](int i) { return static_cast<int>(call->args[i].i); };
  KiviArguments k = {};
  k.layout = {number(attention::kKeyBits), number(attention::kValueBits), number(attention::kGroup), kv.head_dim,
              number(attention::kChannels)};
  k.places = KiviPlaces::of(k.layout, kv.encoded_key.header);
  while (1ll << k.page_shift < kv.page_bytes) k.page_shift++;

  DecodeArguments& a = k.decode;
  a.pages = kv_pages(kv);
  a.q = data(q);
  a.out = data(call->args[attention::kOut].tensor);
  a.lse = data<float>(call->args[attention::kLse].tensor);
  a.query_heads = static_cast<int>(q->shape[1]);
  a.group = a.query_heads / kv.heads;
  a.align = 128;  // whole items of any group
  a.causal = true;
  a.scale = static_cast<float>(call->args[attention::kScale].f) * 1.4426950408889634f;
  std::vector<int32_t> begin(lens.size + 1, 0);
  int longest = 0;
  for (int64_t b = 0; b < lens.size; b++) {
    begin[b + 1] = begin[b] + lens.data[b];
    longest = std::max(longest, lens.data[b]);
  }
  if (q->shape[0] == 0) return ACCEL_OK;
  a.query_begin = static_cast<const int32_t*>(call->upload(call, begin.data(), begin.size() * sizeof(int32_t)));
  const int window = window_of(call->args[attention::kWindow]);
  const bool fast = supports(call, kv, k.layout);
  if (fast) a.window_begin = window_begins(call, a.pages, a.query_begin, q->shape[0], window);
  a.settled = plan_settled(call, a);

  k.bf16 = kv.dtype.code == ACCEL_BFLOAT;
  const int ran = fast ? run_fast(call, k, longest * a.group) : unsupported;
  return ran == unsupported ? attention_reference(call, k, q->shape[0], window) : ran;
}

}  // namespace accel_kivi
