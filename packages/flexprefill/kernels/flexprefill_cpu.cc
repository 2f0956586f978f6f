// flexprefill_blocks on the CPU (flexprefill.h has the steps). Work is cut the same way whatever the number of threads.
//
//   statistics  each (kv head, tile of 128 keys): logits of all observed queries of the group; largest and sum of a row
//   profiles    the same logits again, now as probabilities: sums over columns and diagonals
//   choose      each query head: counts, pooled profiles, pattern, the two sets
//   rows        each query-aware head: all pairs of block means, softmax, the cut
//   mask        each block of queries
#include <cstdlib>
#include <vector>

#include "accel/host.h"
#include "flexprefill.h"
#include "flexprefill_cut.h"
#include "flexprefill_tiles.h"

namespace accel_flexprefill {
namespace {

using accel::host::KvHead;
using accel::host::widen;

// The widest instruction set of this machine, or the one that ACCEL_CPU_ISA names, as in @accel/kernels.
const TileKernels& tile_kernels() {
#if defined(__x86_64__) || defined(_M_X64)
  static const TileKernels& chosen = []() -> const TileKernels& {
    const char* asked = std::getenv("ACCEL_CPU_ISA");
    const auto below = [&](const char* level) { return asked != nullptr && strcmp(asked, level) == 0; };
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && !below("base");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && !below("avx2");
    return avx512 ? tiles_avx512 : avx2 ? tiles_avx2 : tiles_base;
  }();
  return chosen;
#else
  return tiles_base;
#endif
}

// Adds 32 neighbours in a tree, as a warp does.
inline float tree_sum(float (&x)[32]) {
  for (int step = 16; step > 0; step /= 2) {
    for (int i = 0; i < step; i++) x[i] += x[i + step];
  }
  return x[0];
}

template <class T>
class Runner {
 public:
  explicit Runner(const accel_call* call)
      : call_(call), p_(problem_of(call)), kv_(*call->args[kKv].kv), tiles_(tile_kernels()) {}

  int run() {
    allocate();
    call_->ran(call_, "flexprefill_blocks");
    load_queries();
    means_of_keys();
    statistics();
    profiles();
    accel::host::parallel(call_, p_.heads, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t h = begin; h < end; h++) choose(static_cast<int>(h));
    });
    for (int h = 0; h < p_.heads; h++) {
      if (choice_[h].aware) find_rows(h);
      write_mask(h);
      write_figures(h);
    }
    return ACCEL_OK;
  }

 private:
  struct Choice {
    bool aware;
    float divergence;
    int numbers[2];  // of the vertical and the slash set
    int counts[2];
    int extra;
  };

  template <class E>
  E* scratch(int64_t n) {
    return static_cast<E*>(call_->scratch(call_, static_cast<size_t>(n) * sizeof(E)));
  }
  int64_t padded() const { return static_cast<int64_t>(p_.tiles) * kTile; }
  float* vertical(int h) { return vertical_ + h * padded(); }
  float* slash(int h) { return slash_ + h * padded(); }
  float* pooled(int h, int which) { return pooled_ + (static_cast<int64_t>(h) * 3 + which) * p_.columns; }
  uint32_t* set(int h, int which) { return sets_ + (static_cast<int64_t>(h) * 2 + which) * p_.words; }

  void allocate() {
    const int64_t heads = p_.heads;
    queries_ = scratch<float>(heads * p_.rows * p_.dim);
    means_ = scratch<float>(static_cast<int64_t>(p_.kv_heads) * p_.columns * p_.dim);
    statistics_ = scratch<float>(heads * p_.tiles * p_.rows * 2);
    row_ = scratch<float>(heads * p_.rows * 2);
    vertical_ = scratch<float>(heads * padded());
    slash_ = scratch<float>(heads * padded());
    diagonals_ = scratch<float>(heads * p_.tiles * 2 * kTile);
    pooled_ = p_.profiles != nullptr ? p_.profiles : scratch<float>(heads * 3 * p_.columns);
    sets_ = scratch<uint32_t>(heads * 2 * p_.words);
    choice_ = scratch<Choice>(heads);
    workspaces_ = scratch<float>(call_->threads * workspace());
    key_tiles_ = scratch<float>((static_cast<int64_t>(p_.columns) + kTile - 1) / kTile * kTile * p_.dim);
    row_means_ = scratch<float>(static_cast<int64_t>(p_.row_blocks) * p_.dim);
    entries_pitch_ = (p_.columns + kTile - 1) / kTile * kTile;
    entries_ = scratch<float>(p_.row_blocks * entries_pitch_);
    fine_ = p_.fine != nullptr ? p_.fine
            : p_.block == kTile ? p_.mask
                                : scratch<int32_t>(static_cast<int64_t>(p_.row_blocks) * heads * p_.words);
  }
  int64_t workspace() const { return static_cast<int64_t>(kTile) * (p_.dim + kTile); }

  const T* query(int64_t row, int h) const {
    return static_cast<const T*>(p_.q) + (row * p_.heads + h) * p_.dim;
  }

  // Observed queries of a head, one after the other.
  void load_queries() {
    for (int h = 0; h < p_.heads; h++) {
      for (int r = 0; r < p_.rows; r++) {
        const T* from = query(p_.first_query() + r, h);
        float* to = queries_ + (static_cast<int64_t>(h) * p_.rows + r) * p_.dim;
        for (int d = 0; d < p_.dim; d++) to[d] = widen(from[d]);
      }
    }
  }

  void means_of_keys() {
    accel::host::parallel(call_, static_cast<int64_t>(p_.kv_heads) * p_.columns, 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t at = begin; at < end; at++) {
        const KvHead head(kv_, 0, static_cast<int>(at / p_.columns));
        const int64_t first = at % p_.columns * p_.block, last = first + p_.block < p_.n ? first + p_.block : p_.n;
        float* mean = means_ + at * p_.dim;
        for (int d = 0; d < p_.dim; d++) mean[d] = 0;
        for (int64_t s = first; s < last; s++) {
          const T* key = head.template key<T>(s);
          for (int d = 0; d < p_.dim; d++) mean[d] += widen(key[d]);
        }
        for (int d = 0; d < p_.dim; d++) mean[d] /= static_cast<float>(last - first);
      }
    });
  }

  // Calls fn(head, tile, logits [rows][kTile]) for all of them; keys that a query does not see are -inf.
  template <class F>
  void each_tile(const F& fn) {
    accel::host::parallel(call_, static_cast<int64_t>(p_.kv_heads) * p_.tiles, 1, [&](int64_t begin, int64_t end, int w) {
      float* keys = workspaces_ + w * workspace();
      float* logits = keys + static_cast<int64_t>(kTile) * p_.dim;
      for (int64_t at = begin; at < end; at++) {
        const int kv_head = static_cast<int>(at / p_.tiles), tile = static_cast<int>(at % p_.tiles);
        load_keys(keys, kv_head, tile);
        for (int g = 0; g < p_.group; g++) {
          const int h = kv_head * p_.group + g;
          tiles_.product(logits, kTile, queries_ + static_cast<int64_t>(h) * p_.rows * p_.dim, keys, p_.rows, p_.dim);
          for (int r = 0; r < p_.rows; r++) {
            for (int c = visible(r, tile); c < kTile; c++) logits[r * kTile + c] = -INFINITY;
          }
          fn(h, tile, logits);
        }
      }
    });
  }
  // Columns of a tile that observed query r sees.
  int visible(int r, int tile) const {
    const int64_t count = static_cast<int64_t>(p_.first_visible()) + r + 1 - static_cast<int64_t>(tile) * kTile;
    return count < 0 ? 0 : count > kTile ? kTile : static_cast<int>(count);
  }
  // A tile of keys, [dim][kTile]; zeros behind the last one.
  void load_keys(float* to, int kv_head, int tile) {
    const KvHead head(kv_, 0, kv_head);
    for (int c = 0; c < kTile; c++) {
      const int64_t s = static_cast<int64_t>(tile) * kTile + c;
      const T* key = s < p_.n ? head.template key<T>(s) : nullptr;
      for (int d = 0; d < p_.dim; d++) to[d * kTile + c] = key == nullptr ? 0.0f : widen(key[d]);
    }
  }

  void statistics() {
    each_tile([&](int h, int tile, const float* logits) {
      float* to = statistics_ + (static_cast<int64_t>(h) * p_.tiles + tile) * p_.rows * 2;
      for (int r = 0; r < p_.rows; r++) {
        tiles_.statistics(logits + r * kTile, kTile, p_.scale, to + 2 * r, to + 2 * r + 1);
      }
    });
    for (int64_t at = 0; at < static_cast<int64_t>(p_.heads) * p_.rows; at++) {
      const float* from = statistics_ + (at / p_.rows * p_.tiles * p_.rows + at % p_.rows) * 2;
      float most = kLowest, sum = 0;
      for (int t = 0; t < p_.tiles; t++) most = fmaxf(most, from[static_cast<int64_t>(t) * p_.rows * 2]);
      for (int t = 0; t < p_.tiles; t++) {
        const float* part = from + static_cast<int64_t>(t) * p_.rows * 2;
        sum += part[1] * exp2f(part[0] - most);
      }
      row_[2 * at] = most;
      row_[2 * at + 1] = 1.0f / sum;
    }
  }

  void profiles() {
    each_tile([&](int h, int tile, float* logits) {
      for (int r = 0; r < p_.rows; r++) {
        const float* row = row_ + (static_cast<int64_t>(h) * p_.rows + r) * 2;
        tiles_.exponentials(logits + r * kTile, kTile, p_.scale, row[0], row[1]);
      }
      float* diagonal = diagonals_ + (static_cast<int64_t>(h) * p_.tiles + tile) * 2 * kTile;
      float* column = vertical(h) + static_cast<int64_t>(tile) * kTile;
      tiles_.sums(logits, p_.rows, column, diagonal);
      for (int c = 0; c < kTile; c++) column[c] /= static_cast<float>(p_.rows);
    });
    // Diagonal t has a part in its own tile and one in the tile before.
    for (int h = 0; h < p_.heads; h++) {
      const float* diagonal = diagonals_ + static_cast<int64_t>(h) * p_.tiles * 2 * kTile;
      for (int64_t t = 0; t < padded(); t++) {
        const float* own = diagonal + t / kTile * 2 * kTile + t % kTile;
        const float before = t < kTile ? 0.0f : own[-kTile];
        slash(h)[t] = (before + own[0]) / static_cast<float>(p_.rows);
      }
    }
  }

  // Steps 3 to 5.
  void choose(int h) {
    Choice& choice = choice_[h];
    const float* profile[2] = {vertical(h), slash(h)};
    for (int i = 0; i < 2; i++) {
      const Cut cut = cut_mass(p_.n, p_.goal, [&](int64_t t) { return key_of(profile[i][t]); });
      choice.counts[i] = static_cast<int>(1 + cut.count);
      int number = choice.counts[i] / kCountDivisor + 1;
      number = number < p_.min_blocks ? p_.min_blocks : number;
      choice.numbers[i] = number > p_.max_blocks ? p_.max_blocks : number;
      pool(pooled(h, i), profile[i]);
    }
    estimate(h);
    choice.divergence = divergence(pooled(h, 2), pooled(h, 0));
    choice.aware = choice.divergence < p_.tau;
    if (choice.aware) choice.numbers[0] = choice.numbers[1] = p_.min_blocks;
    choice.extra = 0;
    for (int i = 0; i < 2; i++) {
      const int forced = i == 0 ? 0 : p_.columns - 1;
      const auto key = [&](int64_t j) { return j == forced ? 0x7f800000u : key_of(pooled(h, i)[j]); };
      const Cut cut = cut_largest(p_.columns, choice.numbers[i], key);
      uint32_t* bits = set(h, i);
      for (int w = 0; w < p_.words; w++) bits[w] = 0;
      for (int j = 0; j < p_.columns; j++) {
        if (cut.holds(key(j), j)) bits[j / 32] |= 1u << (j % 32);
      }
    }
  }

  void pool(float* to, const float* from) const {
    for (int j = 0; j < p_.columns; j++) {
      float lane[32] = {};
      const int64_t first = static_cast<int64_t>(j) * p_.block;
      for (int i = 0; i < p_.block; i++) lane[i % 32] += first + i < p_.n ? from[first + i] : 0.0f;
      to[j] = tree_sum(lane);
    }
  }

  // a: what the mean query gives to the mean keys.
  void estimate(int h) {
    std::vector<float> mean(static_cast<size_t>(p_.dim));
    for (int d = 0; d < p_.dim; d++) {
      float sum = 0;
      for (int r = 0; r < p_.rows; r++) sum += queries_[(static_cast<int64_t>(h) * p_.rows + r) * p_.dim + d];
      mean[static_cast<size_t>(d)] = sum / static_cast<float>(p_.rows);
    }
    float* to = pooled(h, 2);
    const float* keys = means_ + static_cast<int64_t>(h / p_.group) * p_.columns * p_.dim;
    for (int j = 0; j < p_.columns; j++) {
      float lane[32] = {};
      for (int d = 0; d < p_.dim; d++) lane[d % 32] += mean[static_cast<size_t>(d)] * keys[static_cast<int64_t>(j) * p_.dim + d];
      to[j] = tree_sum(lane);
    }
    float most, sum;
    tiles_.statistics(to, p_.columns, p_.scale, &most, &sum);
    tiles_.exponentials(to, p_.columns, p_.scale, most, 1.0f / sum);
  }

  // Square root of the Jensen-Shannon divergence of two distributions.
  float divergence(const float* a, const float* v) const {
    double sum = 0;
    for (int j = 0; j < p_.columns; j++) {
      const double x = a[j], y = v[j], mean = 0.5 * (x + y);
      if (p_.compat && (x == 0 || y == 0)) return NAN;
      if (!(x == 0)) sum += x * log(x / mean);
      if (!(y == 0)) sum += y * log(y / mean);
    }
    // Rounding may leave less than nothing where the two agree.
    return static_cast<float>(sqrt(sum < 0 ? 0 : 0.5 * sum));
  }

  // Step 6: E in entries_, and its cut.
  void find_rows(int h) {
    const float* keys = means_ + static_cast<int64_t>(h / p_.group) * p_.columns * p_.dim;
    for (int j = 0; j < entries_pitch_; j++) {
      float* tile = key_tiles_ + static_cast<int64_t>(j / kTile) * kTile * p_.dim + j % kTile;
      for (int d = 0; d < p_.dim; d++) tile[d * kTile] = j < p_.columns ? keys[static_cast<int64_t>(j) * p_.dim + d] : 0.0f;
    }
    accel::host::parallel(call_, (p_.row_blocks + 3) / 4, 1, [&](int64_t begin, int64_t end, int) {
      const int first = static_cast<int>(begin) * 4;
      const int last = static_cast<int>(end) * 4 < p_.row_blocks ? static_cast<int>(end) * 4 : p_.row_blocks;
      for (int i = first; i < last; i++) mean_query(h, i);
      for (int tile = 0; tile * kTile <= p_.offset + last - 1; tile++) {
        tiles_.product(entries_ + first * entries_pitch_ + tile * kTile, entries_pitch_,
                       row_means_ + static_cast<int64_t>(first) * p_.dim,
                       key_tiles_ + static_cast<int64_t>(tile) * kTile * p_.dim, last - first, p_.dim);
      }
      for (int i = first; i < last; i++) {
        float* row = entries_ + i * entries_pitch_;
        const int seen = p_.offset + i + 1;
        float most, sum;
        tiles_.statistics(row, seen, p_.scale, &most, &sum);
        tiles_.exponentials(row, seen, p_.scale, most, 1.0f / sum);
        for (int j = seen; j < p_.columns; j++) row[j] = 0;
      }
    });
    const int64_t entries = static_cast<int64_t>(p_.row_blocks) * p_.columns;
    rows_cut_ = cut_mass(entries, p_.goal_blocks, [&](int64_t at) { return entry_key(at); });
  }
  uint32_t entry_key(int64_t at) const {
    return key_of(entries_[at / p_.columns * entries_pitch_ + at % p_.columns]);
  }
  void mean_query(int h, int i) {
    const int64_t first = static_cast<int64_t>(i) * p_.block, last = first + p_.block < p_.m ? first + p_.block : p_.m;
    float* mean = row_means_ + static_cast<int64_t>(i) * p_.dim;
    for (int d = 0; d < p_.dim; d++) mean[d] = 0;
    for (int64_t r = first; r < last; r++) {
      const T* from = query(r, h);
      for (int d = 0; d < p_.dim; d++) mean[d] += widen(from[d]);
    }
    for (int d = 0; d < p_.dim; d++) mean[d] /= static_cast<float>(last - first);
  }

  void write_mask(int h) {
    Choice& choice = choice_[h];
    const uint32_t* columns = set(h, 0);
    const uint32_t* diagonals = set(h, 1);
    for (int i = 0; i < p_.row_blocks; i++) {
      const int diagonal = p_.offset + i;
      int32_t* row = fine_ + (static_cast<int64_t>(i) * p_.heads + h) * p_.words;
      for (int w = 0; w < p_.words; w++) row[w] = 0;
      for (int j = 0; j <= diagonal; j++) {
        const int u = p_.columns - 1 - (diagonal - j);
        bool on = (columns[j / 32] >> (j % 32) & 1) != 0 || (diagonals[u / 32] >> (u % 32) & 1) != 0;
        if (!on && choice.aware) {
          const int64_t at = static_cast<int64_t>(i) * p_.columns + j;
          on = rows_cut_.holds(entry_key(at), at);
          choice.extra += on;
        }
        if (on) row[j / 32] |= static_cast<int32_t>(1u << (j % 32));
      }
    }
    if (fine_ == p_.mask) return;
    const int words = (p_.tiles + 31) / 32, ratio = kTile / p_.block;
    for (int i = 0; i < (p_.m + kTile - 1) / kTile; i++) {
      int32_t* row = p_.mask + (static_cast<int64_t>(i) * p_.heads + h) * words;
      for (int w = 0; w < words; w++) row[w] = 0;
      for (int from = i * ratio; from < (i + 1) * ratio && from < p_.row_blocks; from++) {
        const int32_t* narrow = fine_ + (static_cast<int64_t>(from) * p_.heads + h) * p_.words;
        for (int j = 0; j < p_.columns; j++) {
          if (narrow[j / 32] >> (j % 32) & 1) row[j / ratio / 32] |= static_cast<int32_t>(1u << (j / ratio % 32));
        }
      }
    }
  }

  void write_figures(int h) {
    const Choice& choice = choice_[h];
    const int words = (p_.tiles + 31) / 32, ratio = kTile / p_.block;
    const int32_t* row = p_.mask + (static_cast<int64_t>((p_.m + kTile - 1) / kTile - 1) * p_.heads + h) * words;
    float lane[32] = {};
    for (int j = 0; j < p_.columns; j++) {
      if (row[j / ratio / 32] >> (j / ratio % 32) & 1) lane[j % 32] += pooled(h, 0)[j];
    }
    float* figures = p_.figures + h * kFigureCount;
    figures[kRecall] = tree_sum(lane);
    figures[kQueryAware] = choice.aware ? 1.0f : 0.0f;
    figures[kDivergence] = choice.divergence;
    figures[kVerticalBlocks] = static_cast<float>(choice.numbers[0]);
    figures[kSlashBlocks] = static_cast<float>(choice.numbers[1]);
    if (p_.counts == nullptr) return;
    int32_t* counts = p_.counts + h * kCountCount;
    counts[kCountV] = choice.counts[0];
    counts[kCountW] = choice.counts[1];
    counts[kNumberV] = choice.numbers[0];
    counts[kNumberS] = choice.numbers[1];
    counts[kAware] = choice.aware ? 1 : 0;
    counts[kExtra] = choice.extra;
  }

  const accel_call* call_;
  const Problem p_;
  const accel_kv& kv_;
  const TileKernels& tiles_;
  float *queries_, *means_, *statistics_, *row_, *vertical_, *slash_, *diagonals_, *pooled_, *workspaces_, *key_tiles_,
      *row_means_, *entries_;
  int64_t entries_pitch_;
  uint32_t* sets_;
  Choice* choice_;
  int32_t* fine_;
  Cut rows_cut_;
};

}  // namespace

int flexprefill_cpu(const accel_call* call) {
  return accel::host::with_float(call->args[kKv].kv->dtype, [&](auto* element) {
    return Runner<std::remove_pointer_t<decltype(element)>>(call).run();
  });
}

}  // namespace accel_flexprefill
