// Split-KV attention over a KIVI cache, one segment: packed query rows against the keys of some tiles (accel/decode_plan.cuh).
//
// Keys are the rows of the tensor core's product and queries its columns, so that 8 query rows, mostly one group, fill it:
//   S^T [16 keys x 8] = K [16 x C] Q^T      O^T [16 channels x 8] += V^T [16 x 16 keys] P^T
// and codes come out of their words as A fragments (kivi_layout.h): two codes of a register are half floats after one AND, as
// subnormals code * 2^-24, which the tensor core multiplies exactly. Scales and minima never touch the codes:
//   sum_c q_c (s_c k_c + m_c) = sum_c (q_c s_c) k_c + sum_c q_c m_c         s of a key channel, over the rows of a group
//   sum_t p_t (s_t v_t + m_t) = sum_t (p_t s_t) v_t + sum_t p_t m_t         s of a row, over the channels of a group
// Queries are divided by a power of two to at most 1, so that q s stays in half's range; logits get it back in fp32.
//
// Each warp takes 32 keys of every tile for itself, with a softmax state of its own; the states are joined at the end. Tiles
// come by themselves (kivi_feed.cuh). Logits of a step are made while values of the step before are added: two streams of
// instructions that do not wait for each other. Rows from `full` on, where keys or values are plain, have a path of their own,
// 16 at a time, that weighs every value in real size; it needs no speed, there are a few hundred of them.
//
// Shared memory: stages of key items, stages of value items, or in their place what the tail and the join work with; then
// the queries, half floats [R][D], padded.
#ifndef ACCEL_KIVI_STREAM_CUH
#define ACCEL_KIVI_STREAM_CUH

#include "accel/decode_plan.cuh"
#include "accel/mma.cuh"
#include "kivi_arguments.cuh"
#include "kivi_feed.cuh"
#include "kivi_fragments.cuh"
#include "kivi_softmax.cuh"

namespace accel_kivi {

// N: blocks of 8 packed rows. W: warps. Pruned: keys have fewer than D channels; otherwise loops have fixed lengths, which
// is what lets loads, shifts and products of one step overlap.
template <int D, int KB, int VB, int N, int W, bool Pruned>
class KiviStream {
  using Sums = SoftmaxState<D, N, W>;

 public:
  static constexpr int R = 8 * N;  // packed rows
  static constexpr int warps = W, stages = KB == 2 ? 3 : 2;
  static constexpr int rows = 32, tile = rows * warps;
  static constexpr int steps = D / 16;  // of 16 channels; pruned keys have fewer
  static constexpr int most_key_bytes = 2 * 2 * D * KB + 4 * D;
  static constexpr int value_bytes = 2 * (2 * D * VB + 64 * (D / 32));  // two items of the smallest group
  static constexpr int stage_bytes = most_key_bytes + value_bytes;  // of a warp
  static constexpr int row_bytes = 2 * D;
  static constexpr int plain_bytes = 2 * 16 * row_bytes + value_bytes;  // 16 plain rows of both beside a value item
  static constexpr int most_of(int a, int b) { return a > b ? a : b; }
  static constexpr int work_bytes = warps * most_of(stages * stage_bytes, most_of(plain_bytes, Sums::join_bytes));
  static constexpr int query_pairs = D / 2 + 16;  // of a row; the padding spreads rows over the banks
  static constexpr int shared_bytes = work_bytes + R * query_pairs * 4;
  static_assert(tile % 128 == 0);  // whole items
  static_assert(stage_bytes % 16 == 0 && plain_bytes % 16 == 0);
  using Barriers = KiviBarriers<stages>;
  using Ring = KiviRing<stages>;

  __device__ static Ring key_ring(uint8_t* shared, Barriers* barriers) {
    return {barriers[0], shared_address(shared), warps * most_key_bytes};
  }
  __device__ static Ring value_ring(uint8_t* shared, Barriers* barriers) {
    return {barriers[1], shared_address(shared) + stages * warps * most_key_bytes, warps * value_bytes};
  }

  // What the workers share besides, and what they would otherwise keep in registers through the loop.
  struct Notes {
    float2 states[W][R];
    float grow[R];        // what makes a product a logit in base 2
    int begins[R];        // the first key that a row sees
    int edge, all;        // rows [edge, all) of the segment lie on the edge of the window
  };

  // `notes` and `barriers` [2], of keys and of values: in shared memory.
  __device__ KiviStream(const KiviArguments& arguments, uint8_t* shared, Notes& notes, Barriers* barriers)
      : k_(arguments), a_(arguments.decode), p_(arguments.places), shared_(shared), notes_(notes), lane_(threadIdx.x % 32), warp_(threadIdx.x / 32), g_(lane_ / 4), t_(lane_ % 4), own_(shared + warp_ * plain_bytes),
        own_address_(shared_address(own_)), queries_(reinterpret_cast<uint32_t*>(shared + work_bytes)),
        keys_(key_ring(shared, barriers)), values_(value_ring(shared, barriers)) {}

  __device__ void segment(const KiviSegment& s, int number) {
    unit_ = s.unit;
    head_ = s.head;
    stop_ = s.stop;
    share_queries();
    if (threadIdx.x < R) {
      const int row = min(static_cast<int>(threadIdx.x), unit_.rows - 1);
      notes_.begins[threadIdx.x] = decode_visible(a_, unit_, (unit_.row + row) / a_.group).x;
    }
    if (threadIdx.x == 0) {
      notes_.edge = s.begin;
      notes_.all = s.all;
    }
    sums_.reset();
    workers_sync();  // the queries are there
    load_bounds();
    consume(s.all, s.full);
    sums_.template to_values<VB>(p_.group_shift);
    workers_sync();  // the tail takes the place of the stages
    // Blocks of 16 rows go round the warps, those of the window's edge first.
    const int begin = notes_.edge, edge = (notes_.all - begin + 15) / 16, blocks = edge + (stop_ - s.full + 15) / 16;
#pragma unroll 1
    for (int i = warp_; i < blocks; i += warps) tail(i < edge ? begin + i * 16 : s.full + (i - edge) * 16, i < edge);
    workers_sync();
    sums_.join(a_, number, unit_, notes_.states, shared_, Sums::join_bytes);
#if __CUDA_ARCH__ >= 900
    bulk_copy_fence();
#endif
  }

 private:
  __device__ static void workers_sync() { named_sync(1, 32 * W); }

  // Where the item of a row is in the keys' stream, and the row's block in the item.
  __device__ int key_item(int row) const { return p_.header + (row >> p_.group_shift) * p_.key_item; }
  __device__ int key_block(int row) const {
    return (row & ((1 << p_.group_shift) - 1)) / kBlockRows * key_block_bytes();
  }
  __device__ int used() const { return Pruned ? p_.used : steps; }
  __device__ int key_block_bytes() const { return Pruned ? p_.key_block : 2 * D * KB; }

  // ---- queries

  __device__ int64_t packed_row(int row) const {  // of q and out, in rows of D
    const int i = row / a_.group;
    return (int64_t)(unit_.token + i) * a_.query_heads + unit_.head * a_.group + (row - i * a_.group);
  }
  // Packed row `row` of the unit, or null behind the last.
  __device__ const uint16_t* query(int row) const {
    return row < unit_.rows ? static_cast<const uint16_t*>(a_.q) + packed_row(unit_.row + row) * D : nullptr;
  }
  __device__ float number(const uint16_t* x) const {
    return k_.bf16 ? to_float(*reinterpret_cast<const __nv_bfloat16*>(x)) : to_float(*reinterpret_cast<const __half*>(x));
  }
  // A channel that is kept, as a channel of the query.
  __device__ int channel(int c) const {
    // Before anything is encoded there is no list. It may come from a file.
    return p_.header == 0 || head_.encoded_keys == 0
               ? c
               : min(*reinterpret_cast<const uint16_t*>(a_.pages.stream(head_.encoded_key_pages, 2 * c)), D - 1);
  }

  // Brings the kept channels of the queries in, divided by a power of two so that none exceeds 1, and by what codes are too
  // large.
  __device__ void share_queries() {
    constexpr int per_lane = D / 32;
#pragma unroll 1
    for (int row = warp_; row < R; row += warps) {
      const uint16_t* q = query(row);
      float x[per_lane], most = 0;
#pragma unroll
      for (int i = 0; i < per_lane; i++) {
        const int c = lane_ + 32 * i;
        x[i] = q == nullptr || c >= k_.layout.kept ? 0.f : number(q + channel(c));
        most = fmaxf(most, fabsf(x[i]));
      }
      for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, step));
      const int exponent = most > 0 ? ilogbf(most) + 1 : 0;
      auto* to = reinterpret_cast<__half*>(queries_ + row * query_pairs);
#pragma unroll
      for (int i = 0; i < per_lane; i++) {
        const int c = lane_ + 32 * i;
        const int right = c % 16 < 8 ? 1 : KeyCodes<KB>::right;
        to[i * 32 + c % 8 / 2 * 8 + c % 16 / 8 * 4 + c % 32 / 16 * 2 + c % 2] = __float2half_rn(ldexpf(x[i], -exponent) / right);
      }
      if (lane_ == 0) notes_.grow[row] = ldexpf(a_.scale, exponent);
    }
  }
  __device__ void load_bounds() {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int row = n * 8 + t_ * 2 + i;
        grow_[n][i] = notes_.grow[row];
        last_[n][i] = decode_visible(a_, unit_, (unit_.row + min(row, unit_.rows - 1)) / a_.group).y;
      }
    }
  }
  // The queries of steps c (even) and c + 1: of left channels (columns 0 to 7 of a fragment) for both, then of right ones.
  __device__ uint4 query_fragments(int c, int n) const {
    return *reinterpret_cast<const uint4*>(queries_ + (n * 8 + g_) * query_pairs + c * 8 + t_ * 4);
  }
  // Scales of keys for these steps, or minima: left and right channels of the one, then of the other.
  __device__ uint4 key_numbers(const uint8_t* from, int c) const {
    if (!Pruned || c + 1 < p_.used) return *reinterpret_cast<const uint4*>(from + c * 32 + t_ * 16);
    const uint2 last = *reinterpret_cast<const uint2*>(from + c * 32 + t_ * 8);
    return {last.x, last.y, 0u, 0u};
  }

  // ---- 32 encoded rows at a time

  __device__ void consume(int begin, int full) {
    const int tiles = (full - begin + tile - 1) / tile, own = begin + warp_ * rows;
    const int count = own < full ? (full - own + tile - 1) / tile : 0;
    // Of this warp, in a stage: codes and scales of its keys, and its values.
    const int item = (warp_ * rows >> p_.group_shift) * p_.key_item;
    const uint8_t* codes = shared_ + item + key_block(warp_ * rows);
    const uint8_t* scales = shared_ + item + p_.key_scales;
    const uint8_t* items = shared_ + stages * warps * most_key_bytes + 2 * warp_ * p_.value_item;
    float s[2][N][4];
    if (count > 0) next_logits(codes, scales, s);
    for (int i = 0; i < count; i++) {
      uint32_t p[2][N][2];
      sums_.weigh(s);
#pragma unroll
      for (int b = 0; b < 2; b++) {
#pragma unroll
        for (int n = 0; n < N; n++) weight_fragment<__half>(s[b][n], p[b][n]);
      }
      if (i + 1 < count) next_logits(codes, scales, s);
      const uint8_t* now = items + values_.wait();
      values(now, p[0]);
      values(now + p_.value_item, p[1]);
      values_.leave();
    }
    if (count < tiles) {  // the last tile has no rows for this warp
      keys_.wait();
      keys_.leave();
      values_.wait();
      values_.leave();
    }
  }
  __device__ void next_logits(const uint8_t* codes, const uint8_t* scales, float (&s)[2][N][4]) {
    const uint32_t stage = keys_.wait();
    key_logits<2>(codes + stage, scales + stage, s);
    keys_.leave();
  }

  // Logits of B blocks of 16 encoded keys, in base 2 and less the reference of their rows (kivi_softmax.cuh). s[b][n]: keys g,
  // g + 8 of the block; rows 2t, 2t + 1 of n.
  template <int B>
  __device__ void key_logits(const uint8_t* codes, const uint8_t* scales, float (&s)[B][N][4]) const {
    using Codes = KeyCodes<KB>;
    // Sums over minima. Those of left channels are rows g of a fragment and those of right channels its rows g + 8, so of the
    // product with the left channels of the queries one half is of use, and of that with the right ones the other.
    float left[N][4], right[N][4];
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        left[n][e] = right[n][e] = 0;
#pragma unroll
        for (int b = 0; b < B; b++) s[b][n][e] = 0;
      }
    }
    Codes words[B];
#pragma unroll
    for (int c = 0; c < steps; c += 2) {
      if (Pruned && c >= p_.used) break;
      const uint4 scale = key_numbers(scales, c), low = key_numbers(scales + 32 * used(), c);
      const uint32_t lows[4] = {low.x, low.y, low.z, low.w};
      uint4 q[N];
#pragma unroll
      for (int n = 0; n < N; n++) {
        q[n] = query_fragments(c, n);
        mma_m16n8k16<__half>(left[n], lows, q[n].x, q[n].y);
        mma_m16n8k16<__half>(right[n], lows, q[n].z, q[n].w);
      }
      key_step<B>(codes, c, scale.x, scale.y, q, false, words, s);
      if (Pruned && c + 1 >= p_.used) break;
      key_step<B>(codes, c + 1, scale.z, scale.w, q, true, words, s);
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const float offset = (left[n][i] + Codes::right * right[n][i + 2]) * grow_[n][i] - sums_.reference[n][i];
        const float upper = Codes::upper * grow_[n][i], lower = Codes::lower * grow_[n][i];
#pragma unroll
        for (int b = 0; b < B; b++) {
          s[b][n][i] = s[b][n][i] * upper + offset;
          s[b][n][i + 2] = s[b][n][i + 2] * lower + offset;
        }
      }
    }
  }

  // One step of 16 channels of them; `second` of the two that q is for.
  template <int B>
  __device__ void key_step(const uint8_t* codes, int c, uint32_t scale0, uint32_t scale1, const uint4 (&q)[N], bool second,
                           KeyCodes<KB> (&words)[B], float (&s)[B][N][4]) const {
    uint32_t a[B][4];
#pragma unroll
    for (int b = 0; b < B; b++) words[b].load(codes + b * key_block_bytes(), c, used(), lane_, a[b]);
#pragma unroll
    for (int n = 0; n < N; n++) {
      const uint32_t b0 = multiply_pairs(second ? q[n].y : q[n].x, scale0);
      const uint32_t b1 = multiply_pairs(second ? q[n].w : q[n].z, scale1);
#pragma unroll
      for (int b = 0; b < B; b++) mma_m16n8k16<__half>(s[b][n], a[b], b0, b1);
    }
  }

  // O += codes and minima of 16 encoded values, in units of the codes.
  __device__ void values(const uint8_t* item, const uint32_t (&p)[N][2]) {
    const auto* scale = reinterpret_cast<const uint2*>(item + p_.value_scales) + t_;
    const auto* low = reinterpret_cast<const uint2*>(item + p_.value_minima) + t_;
    const uint2 own_low = g_ < p_.value_groups ? low[g_ * 4] : uint2{0u, 0u};
    uint32_t lows[4] = {own_low.x, 0, own_low.y, 0};
    // Rows g + 8 are of no use: any register will do.
    asm("" : "=r"(lows[1]));
    asm("" : "=r"(lows[3]));
#pragma unroll
    for (int n = 0; n < N; n++) mma_m16n8k16<__half>(sums_.low[n], lows, p[n][0], p[n][1]);
    ValueCodes<VB> words;
    uint32_t weighted[N][2];
#pragma unroll
    for (int u = 0; u < steps; u++) {
      if (u % 2 == 0) {  // groups are 32 channels or more; the scales of a larger one are taken again
        const int c = u * 16 >> p_.group_shift;
        const uint2 of_group = scale[c * 4];
#pragma unroll
        for (int n = 0; n < N; n++) {
          weighted[n][0] = multiply_pairs(p[n][0], of_group.x);
          weighted[n][1] = multiply_pairs(p[n][1], of_group.y);
        }
      }
      uint32_t a[4];
      words.load(item, u, steps, lane_, a);
#pragma unroll
      for (int n = 0; n < N; n++) mma_m16n8k16<__half>(sums_.o[u][n], a, weighted[n][0], weighted[n][1]);
    }
  }

  // ---- 16 rows of which keys or values, or some, are plain, or which lie on the edge of the window

  __device__ void tail(int first, bool on_edge) {
    constexpr int values_at = 16 * row_bytes, item_at = 2 * values_at;
    const bool packed_keys = first < head_.encoded_keys, packed_values = first < head_.encoded_values;
    if (packed_keys) {
      const int item = key_item(first);
      copy_stream(head_.encoded_key_pages, item + key_block(first), key_block_bytes(), 0);
      copy_stream(head_.encoded_key_pages, item + p_.key_scales, 64 * used(), key_block_bytes());
    } else {
      copy_rows(head_.key_pages, first, head_.encoded_keys, 0);
    }
    copy_rows(head_.value_pages, first, head_.encoded_values, values_at);
    if (packed_values) {
      copy_stream(head_.encoded_value_pages, first / kBlockRows * p_.value_item, p_.value_item, item_at);
    }
    arrived();
    float s[1][N][4];
    if (packed_keys) key_logits<1>(own_, own_ + key_block_bytes(), s);
    else plain_logits(s);
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int key = first + g_ + e / 2 * 8;
        if (key >= min(last_[n][e % 2], stop_)) s[0][n][e] = -INFINITY;
      }
    }
    if (on_edge) hide_old(first, s[0]);
    sums_.weigh(s);
    plain_values(own_address_ + values_at, s[0]);
    if (packed_values) encoded_values(own_ + item_at, first, s[0]);
    __syncwarp();  // the next rows take the place of these
  }

  // Takes the logits of keys that lie before their rows' windows out.
  __device__ void hide_old(int first, float (&s)[N][4]) const {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int begin = notes_.begins[n * 8 + t_ * 2 + i];
        if (first + g_ < begin) s[n][i] = -INFINITY;
        if (first + g_ + 8 < begin) s[n][i + 2] = -INFINITY;
      }
    }
  }
  __device__ void arrived() const {
    cp_async_commit();
    cp_async_wait<0>();
    __syncwarp();
  }
  // Bytes of a stream to the warp's memory.
  __device__ void copy_stream(const int32_t* pages, int at, int bytes, int to) const {
    for (int i = lane_ * 16; i < bytes; i += 512) cp_async16(own_address_ + to + i, a_.pages.stream(pages, at + i));
  }
  // 16 plain rows, swizzled; zeros for rows that are encoded or not there.
  __device__ void copy_rows(const int32_t* pages, int first, int encoded, int to) const {
    constexpr int row_chunks = D / 8;
    for (int i = lane_; i < 16 * row_chunks; i += 32) {
      const int row = i / row_chunks, chunk = i % row_chunks, key = first + row;
      const bool there = key >= encoded && key < stop_;
      const uint8_t* from = there ? a_.pages.row(pages, KvPages::slot(head_, key)) + chunk * 16 : a_.pages.base;
      cp_async16(own_address_ + to + swizzle<row_chunks>(row, chunk), from, there);
    }
  }

  __device__ void multiply_plain(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) const {
    if (k_.bf16) mma_m16n8k16<__nv_bfloat16>(c, a, b0, b1);
    else mma_m16n8k16<__half>(c, a, b0, b1);
  }

  __device__ void plain_logits(float (&s)[1][N][4]) const {
#pragma unroll
    for (int n = 0; n < N; n++) {
      const auto* q = reinterpret_cast<const uint32_t*>(query(n * 8 + g_));
#pragma unroll
      for (int e = 0; e < 4; e++) s[0][n][e] = 0;
#pragma unroll
      for (int c = 0; c < steps; c++) {
        uint32_t a[4];
        ldmatrix_x4(a, own_address_ + swizzle<D / 8>(lane_ % 16, c * 2 + lane_ / 16));
        const uint32_t b0 = q == nullptr ? 0u : q[c * 8 + t_], b1 = q == nullptr ? 0u : q[c * 8 + 4 + t_];
        multiply_plain(s[0][n], a, b0, b1);
      }
#pragma unroll
      for (int e = 0; e < 4; e++) s[0][n][e] = s[0][n][e] * a_.scale - sums_.reference[n][e % 2];
    }
  }

  __device__ void plain_values(uint32_t rows_at, const float (&s)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++) {
      uint32_t p[2];
      if (k_.bf16) weight_fragment<__nv_bfloat16>(s[n], p);
      else weight_fragment<__half>(s[n], p);
#pragma unroll
      for (int u = 0; u < steps; u++) {
        uint32_t a[4];
        // V^T from rows of V: the transposed matrices in the order channels, channels + 8, rows + 8, both.
        ldmatrix_x4_trans(a, rows_at + swizzle<D / 8>(lane_ % 8 + lane_ / 16 * 8, u * 2 + lane_ / 8 % 2));
        multiply_plain(sums_.o[u][n], a, p[0], p[1]);
      }
    }
  }

  // Values of rows [first, encoded) as half floats; the other rows of the item are zeros with minima 0.
  __device__ void encoded_values(const uint8_t* item, int first, const float (&s)[N][4]) {
    const auto half = [&](int at) { return __half2float(*reinterpret_cast<const __half*>(item + at)); };
    uint32_t p[N][2];
#pragma unroll
    for (int n = 0; n < N; n++) weight_fragment<__half>(s[n], p[n]);
    ValueCodes<VB> words;
#pragma unroll
    for (int u = 0; u < steps; u++) {
      uint32_t codes[4], a[4];
      words.load(item, u, steps, lane_, codes);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float2 code = ValueCodes<VB>::numbers(codes[i], u, i);
        const int at = 2 * ((u * 16 >> p_.group_shift) * 16 + t_ * 4 + i / 2 * 2);
        const int row = first + t_ * 2 + i / 2 * 8;
        const float x = code.x * half(p_.value_scales + at) + half(p_.value_minima + at);
        const float y = code.y * half(p_.value_scales + at + 2) + half(p_.value_minima + at + 2);
        a[i] = pack_pair<__half>(row < head_.encoded_values ? x : 0.f, row + 1 < head_.encoded_values ? y : 0.f);
      }
#pragma unroll
      for (int n = 0; n < N; n++) mma_m16n8k16<__half>(sums_.o[u][n], a, p[n][0], p[n][1]);
    }
  }

  const KiviArguments& k_;
  const DecodeArguments& a_;
  const KiviPlaces& p_;
  uint8_t* shared_;
  Notes& notes_;
  int lane_, warp_, g_, t_;
  uint8_t* own_;
  uint32_t own_address_;
  uint32_t* queries_;
  DecodeUnit unit_;
  accel_kv_head head_;
  int stop_;  // keys of this segment end here
  float grow_[N][2];  // notes_.grow of rows 2t, 2t + 1
  int last_[N][2];    // keys that these rows see end here
  Sums sums_;
  Ring keys_, values_;
};

}  // namespace accel_kivi
#endif
