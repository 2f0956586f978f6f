#include "common/kv_sequence.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/error.h"
#include "common/kv_dense.h"

namespace accel {
namespace {

constexpr int32_t kMaxRows = 1 << 30;
constexpr int32_t kMaxTallies = 16;
constexpr int32_t kMaxItemBytes = 1 << 24;

void check_items(const accel_kv_items& items, const char* what) {
  if (items.rows == 0) return;
  if (items.rows < 1 || items.rows > 1 << 16 || items.bytes < 16 || items.bytes > kMaxItemBytes || items.bytes % 16 != 0 ||
      items.header < 0 || items.header > kMaxItemBytes || items.header % 16 != 0) {
    fail("ERR_ACCEL_ARGUMENT",
         "items of encoded %s have %d rows in %d bytes, after a header of %d; bytes must be multiples of 16", what,
         items.rows, items.bytes, items.header);
  }
}

int32_t divide_up(int64_t n, int64_t size) { return static_cast<int32_t>((n + size - 1) / size); }

}  // namespace

Ref<KvSequence> KvSequence::create(Ref<PagePool> pool, const KvShape& shape) {
  if (shape.layers < 1 || shape.heads < 1 || shape.head_dim < 1 || shape.layers > 1 << 16 || shape.heads > 1 << 16 ||
      shape.head_dim > 1 << 16) {
    fail("ERR_ACCEL_ARGUMENT", "a KV sequence needs 1 to 65536 layers, heads and headDim, got %d, %d and %d",
         shape.layers, shape.heads, shape.head_dim);
  }
  if (shape.dtype != DType::float32 && shape.dtype != DType::bfloat16 && shape.dtype != DType::float16) {
    fail("ERR_ACCEL_DTYPE", "KV rows are float32, bfloat16 or float16, not %s", dtype_name(shape.dtype));
  }
  if (shape.tallies < 0 || shape.tallies > kMaxTallies) {
    fail("ERR_ACCEL_ARGUMENT", "tallies is %d; a row takes 0 to %d", shape.tallies, kMaxTallies);
  }
  if (!shape.positions && shape.tallies > 0) {
    fail("ERR_ACCEL_ARGUMENT", "rows without stored positions have no tallies either, got %d", shape.tallies);
  }
  check_items(shape.encoded_key, "keys");
  check_items(shape.encoded_value, "values");
  if (size_t most = std::max(shape.row_bytes(), shape.record_bytes()); pool->page_bytes() < most) {
    fail("ERR_ACCEL_ARGUMENT", "pages of %zu bytes cannot hold a %s of %zu bytes; make pageBytes larger",
         pool->page_bytes(), most == shape.row_bytes() ? "row" : "record", most);
  }
  return Ref<KvSequence>(new KvSequence(std::move(pool), shape));
}

KvSequence::KvSequence(Ref<PagePool> pool, const KvShape& shape)
    : pool_(std::move(pool)),
      shape_(shape),
      rows_per_page_(static_cast<int32_t>(pool_->page_bytes() / shape.row_bytes())),
      records_per_page_(shape.positions ? static_cast<int32_t>(pool_->page_bytes() / shape.record_bytes()) : 0),
      erase_unit_(shape.positions ? std::lcm(rows_per_page_, records_per_page_) : rows_per_page_),
      layers_(shape.layers) {
  static std::atomic<int64_t> created{0};
  pool_->consumers().add(this, format_text("sequence %lld", static_cast<long long>(++created)),
                         [this] { return pages_ * pool_->page_bytes(); });
  KvCounts capacity;
  capacity[KvList::keys] = capacity[KvList::values] = 4;
  capacity[KvList::records] = shape.positions;
  for (Layer& layer : layers_) {
    layer.table = Ref<KvTable>(new KvTable(shape.heads, capacity));
    layer.heads.resize(shape.heads);
  }
}

KvSequence::Layer& KvSequence::at_layer(int32_t layer) {
  if (disposed_) fail("ERR_ACCEL_DISPOSED", "this KV sequence was disposed");
  if (layer < 0 || layer >= shape_.layers) {
    fail("ERR_ACCEL_ARGUMENT", "layer %d is not in [0, %d)", layer, shape_.layers);
  }
  return layers_[layer];
}

int64_t KvSequence::encoded_bytes(const Head& head, KvList list) const {
  const bool keys = list == KvList::encoded_keys;
  const accel_kv_items& items = keys ? shape_.encoded_key : shape_.encoded_value;
  return head.opened ? KvDenseShape::stream(items, keys ? head.encoded_keys : head.encoded_values) : 0;
}

KvSequence::Span KvSequence::span(const Head& head, KvList list) const {
  if (is_encoded(list)) return {0, divide_up(encoded_bytes(head, list), pool_->page_bytes())};
  const int32_t per = per_page(list);
  if (per == 0) return {0, 0};
  const int32_t plain = list == KvList::keys ? head.plain_keys : list == KvList::values ? head.plain_values : 0;
  return {plain / per, divide_up(head.slots(), per)};
}

KvSequence::Span KvSequence::dead(const Head& head, KvList list) const {
  if (is_encoded(list) || head.gap == 0) return {0, 0};
  const int32_t per = per_page(list), begin = divide_up(head.gap_at, per), end = (head.gap_at + head.gap) / per;
  return end > begin ? Span{begin, end} : Span{begin, begin};
}

int32_t KvSequence::first_written(const Head& head, const Head& next, KvList list) const {
  if (!is_encoded(list)) {
    const bool appends = per_page(list) > 0 && next.slots() > head.slots();
    return appends ? head.slots() / per_page(list) : span(head, list).end;
  }
  const bool keys = list == KvList::encoded_keys;
  const accel_kv_items& items = keys ? shape_.encoded_key : shape_.encoded_value;
  const int32_t before = keys ? head.encoded_keys : head.encoded_values;
  const int32_t after = keys ? next.encoded_keys : next.encoded_values;
  if (!head.opened || items.rows == 0) return 0;
  if (before == after) return span(head, list).end;
  const int64_t at = items.header + static_cast<int64_t>(before / items.rows) * items.bytes;
  return static_cast<int32_t>(at / static_cast<int64_t>(pool_->page_bytes()));
}

void KvSequence::look(Layer& layer, int32_t h, const Head& next, Growth& growth) {
  const Head& head = layer.heads[h];
  for (KvList list : kKvLists) {
    const Span from = span(head, list), to = span(next, list);
    const int32_t fresh = std::max(from.end, to.begin);
    growth.wanted += to.end - fresh;
    growth.overwrite |= to.end > fresh && fresh < layer.table->end(list, h);
    for (int32_t i = first_written(head, next, list); i < from.end; i++) {
      if (!pool_->shared(layer.table->list(list, h)[i])) continue;
      growth.wanted++;
      growth.overwrite = true;
    }
    growth.pages[list] = std::max(growth.pages[list], to.end);
  }
}

void KvSequence::grow(Layer& layer, int32_t h, const Head& next, std::vector<int32_t>& copies) {
  const Head& head = layer.heads[h];
  for (KvList list : kKvLists) {
    int32_t* pages = layer.table->list(list, h);
    const Span from = span(head, list), to = span(next, list);
    for (int32_t i = first_written(head, next, list); i < from.end; i++) own_page(pages[i], copies);
    for (int32_t i = std::max(from.end, to.begin); i < to.end; i++) {
      pages[i] = pool_->take();
      pages_++;
    }
    layer.table->end(list, h) = std::max(layer.table->end(list, h), to.end);
  }
  layer.heads[h] = next;
}

void KvSequence::grow_all(Layer& layer, const std::vector<Head>& next) {
  // First look, then take: when the pool is too full nothing has changed.
  Growth growth;
  for (int32_t h = 0; h < shape_.heads; h++) look(layer, h, next[h], growth);
  pool_->require(growth.wanted);
  writable(layer, growth.overwrite, growth.pages);
  std::vector<int32_t> copies;
  for (int32_t h = 0; h < shape_.heads; h++) grow(layer, h, next[h], copies);
  copy_pages(std::move(copies));
}

void KvSequence::shrink(Layer& layer, int32_t h, const Head& next) {
  const Head& head = layer.heads[h];
  for (KvList list : kKvLists) {
    const int32_t* pages = layer.table->list(list, h);
    const Span from = span(head, list), to = span(next, list), before = dead(head, list), now = dead(next, list);
    const auto release = [&](int32_t begin, int32_t end) {
      for (int32_t i = begin; i < end; i++) {
        if (before.contains(i)) continue;
        pool_->release_page(pages[i]);
        pages_--;
      }
    };
    release(from.begin, std::min(to.begin, from.end));
    release(std::max(to.end, from.begin), from.end);
    release(now.begin, now.end);
  }
  layer.heads[h] = next;
}

KvTable& KvSequence::writable(Layer& layer, bool overwrite, const KvCounts& pages) {
  KvTable& table = *layer.table;
  KvCounts room;
  bool grow = false;
  for (KvList list : kKvLists) {
    if (pages[list] <= table.capacity()[list]) continue;
    // Doubling keeps the copies of a growing sequence cheap. What is left after a prompt lets the first decode steps do
    // without one: they would copy the tables of all layers and sequences at once.
    room[list] = std::max(pages[list] + pages[list] / 8, 2 * table.capacity()[list]);
    grow = true;
  }
  if (grow || (overwrite && !table.unique())) {
    layer.table = table.clone(room);
    overwrite = true;
  }
  if (overwrite) {
    // Nobody else reads this table, so entries left over from before a truncation are free again.
    for (int32_t h = 0; h < shape_.heads; h++) {
      for (KvList list : kKvLists) {
        const Span live = span(layer.heads[h], list);
        layer.table->overwritten(list, h, live.begin, live.end);
      }
    }
  }
  return *layer.table;
}

void KvSequence::reserve(int32_t layer_index, int32_t n) {
  Layer& layer = at_layer(layer_index);
  if (n < 0) fail("ERR_ACCEL_ARGUMENT", "cannot reserve %d rows", n);
  if (n == 0) return;
  std::vector<Head> next = layer.heads;
  for (Head& head : next) {
    if (n > kMaxRows - head.slots()) {
      fail("ERR_ACCEL_ARGUMENT", "%d more rows are more than a cache of %d rows can take", n, head.rows);
    }
    head.rows += n;
  }
  grow_all(layer, next);
}

void KvSequence::compact(int32_t layer_index, const int32_t* counts, const Gather& gather) {
  Layer& layer = at_layer(layer_index);
  if (!shape_.positions) {
    fail("ERR_ACCEL_ARGUMENT", "rows without stored positions cannot leave; make the sequence with positions");
  }
  Layer after;
  after.heads.resize(shape_.heads);
  std::vector<Head> next(shape_.heads);
  for (int32_t h = 0; h < shape_.heads; h++) {
    if (counts[h] < 0 || counts[h] > layer.heads[h].rows) {
      fail("ERR_ACCEL_ARGUMENT", "cannot keep %d of the %d rows of head %d in layer %d", counts[h],
           layer.heads[h].rows, h, layer_index);
    }
    if (layer.heads[h].encoded() > 0) {
      fail("ERR_ACCEL_ARGUMENT", "rows of head %d in layer %d are encoded, and a cache is compacted before that", h,
           layer_index);
    }
    // A header holds what was decided for all rows to come, as the channels that are kept.
    if (layer.heads[h].opened && shape_.encoded_key.header + shape_.encoded_value.header > 0) {
      fail("ERR_ACCEL_ARGUMENT", "head %d in layer %d has a header for encoded rows, and a cache is compacted before that",
           h, layer_index);
    }
    next[h].rows = counts[h];
  }
  KvCounts capacity;
  for (const Head& head : next) {
    for (KvList list : kKvLists) capacity[list] = std::max(capacity[list], span(head, list).end);
  }
  after.table = Ref<KvTable>(new KvTable(shape_.heads, capacity));
  grow_all(after, next);
  std::vector<accel_kv_head> before_heads(shape_.heads);
  std::vector<accel_kv_head> after_heads(shape_.heads);
  describe(layer_index, before_heads.data());
  Layer before = std::exchange(layer, std::move(after));
  describe(layer_index, after_heads.data());
  try {
    gather(*this, layer_index, before_heads.data(), *before.table, after_heads.data(), *layer.table);
  } catch (...) {
    release_layer(layer);
    layer = std::move(before);
    throw;
  }
  release_layer(before);
}

void KvSequence::truncate_head(Layer& layer, int32_t h, int32_t rows) {
  Head kept = layer.heads[h];
  kept.rows = rows;
  if (rows <= kept.gap_at) kept.gap = kept.gap_at = 0;
  shrink(layer, h, kept);
}

void KvSequence::grow_gap(Layer& layer, int32_t h, int32_t at, int32_t count) {
  Head grown = layer.heads[h];
  grown.gap_at = at;
  grown.gap += count;
  grown.rows -= count;
  shrink(layer, h, grown);
}

// Erases the table entries of whole units of dead slots, so that an endless stream of drops needs a bounded table.
void KvSequence::close_gap(Layer& layer, int32_t h) {
  Head& head = layer.heads[h];
  int32_t first = divide_up(head.gap_at, erase_unit_);
  int32_t units = (head.gap_at + head.gap) / erase_unit_ - first;
  if (units <= 0) return;
  KvTable& table = writable(layer, true, {});
  for (KvList list : kKvLists) {
    if (is_encoded(list)) continue;
    int32_t* pages = table.list(list, h);
    int32_t pages_of_unit = erase_unit_ / per_page(list);
    int32_t begin = first * pages_of_unit, count = units * pages_of_unit, end = table.end(list, h);
    std::copy(pages + begin + count, pages + end, pages + begin);
    table.end(list, h) = end - count;
  }
  head.gap -= units * erase_unit_;
  if (head.gap == 0) head.gap_at = 0;
}

bool KvSequence::touches_gap(const Head& head, int32_t at, int32_t count) {
  bool tail = at + count == head.rows;
  return tail || head.gap == 0 || (at <= head.gap_at && at + count >= head.gap_at);
}

bool KvSequence::can_drop(int32_t layer_index, int32_t at, int32_t count) const {
  for (const Head& head : at_layer(layer_index).heads) {
    if (at < 0 || count < 0 || at > head.rows || count > head.rows - at) return false;
    if (!touches_gap(head, at, count)) return false;
    if (at < head.encoded()) return false;
    if (at + count < head.rows && (head.encoded() > 0 || !shape_.positions)) return false;
  }
  return true;
}

void KvSequence::drop(int32_t layer_index, int32_t at, int32_t count) {
  Layer& layer = at_layer(layer_index);
  if (at < 0 || count < 0) fail("ERR_ACCEL_ARGUMENT", "cannot drop %d rows at row %d", count, at);
  if (count == 0) return;
  for (int32_t h = 0; h < shape_.heads; h++) {
    const Head& head = layer.heads[h];
    if (at > head.rows || count > head.rows - at) {
      fail("ERR_ACCEL_ARGUMENT", "rows [%d, %d) are not all there: head %d of layer %d has %d rows", at, at + count, h,
           layer_index, head.rows);
    }
    if (!touches_gap(head, at, count)) {
      fail("ERR_ACCEL_KV_GAP",
           "rows [%d, %d) do not touch the gap at row %d of head %d in layer %d, and a head has one gap; use compact()",
           at, at + count, head.gap_at, h, layer_index);
    }
    if (at < head.encoded() || (at + count < head.rows && head.encoded() > 0)) {
      fail("ERR_ACCEL_ARGUMENT",
           "rows [%d, %d) cannot leave head %d of layer %d: %d rows are encoded, so only newer ones can go, from the end",
           at, at + count, h, layer_index, head.encoded());
    }
    if (at + count < head.rows && !shape_.positions) {
      fail("ERR_ACCEL_ARGUMENT", "rows without stored positions can only leave from the end");
    }
  }
  for (int32_t h = 0; h < shape_.heads; h++) {
    if (at + count == layer.heads[h].rows) {
      truncate_head(layer, h, at);
    } else {
      grow_gap(layer, h, at, count);
      close_gap(layer, h);
    }
  }
}

void KvSequence::truncate(int32_t layer_index, int32_t rows) {
  Layer& layer = at_layer(layer_index);
  for (int32_t h = 0; h < shape_.heads; h++) {
    if (rows < 0 || rows > layer.heads[h].rows) {
      fail("ERR_ACCEL_ARGUMENT", "cannot truncate to %d rows: head %d of layer %d has %d", rows, h, layer_index,
           layer.heads[h].rows);
    }
    if (rows < layer.heads[h].encoded()) {
      fail("ERR_ACCEL_ARGUMENT", "cannot truncate to %d rows: %d rows of head %d in layer %d are encoded", rows,
           layer.heads[h].encoded(), h, layer_index);
    }
  }
  for (int32_t h = 0; h < shape_.heads; h++) {
    if (rows < layer.heads[h].rows) truncate_head(layer, h, rows);
  }
}

KvEncodeDue KvSequence::encode_begin(int32_t layer_index, KvEncodeRule keys, KvEncodeRule values) {
  Layer& layer = at_layer(layer_index);
  const auto target = [](KvEncodeRule rule, const accel_kv_items& items, int32_t rows, int32_t now, const char* what) {
    if (rule.block == 0) return now;
    if (rule.block < 0 || rule.keep < 0) {
      fail("ERR_ACCEL_ARGUMENT", "cannot encode %s in blocks of %d rows and keep %d", what, rule.block, rule.keep);
    }
    if (items.rows == 0) fail("ERR_ACCEL_ARGUMENT", "this sequence was made without a format for encoded %s", what);
    return std::max(now, std::max(0, rows - rule.keep) / rule.block * rule.block);
  };
  KvEncodeDue due;
  std::vector<Head> next = layer.heads;
  for (Head& head : next) {
    if (head.gap > 0) {
      fail("ERR_ACCEL_KV_GAP", "rows of layer %d cannot be encoded: some have left at row %d; use compact() before",
           layer_index, head.gap_at);
    }
    head.opened = true;
    head.encoded_keys = target(keys, shape_.encoded_key, head.rows, head.encoded_keys, "keys");
    head.encoded_values = target(values, shape_.encoded_value, head.rows, head.encoded_values, "values");
    due.keys = std::max(due.keys, head.encoded_keys - head.plain_keys);
    due.values = std::max(due.values, head.encoded_values - head.plain_values);
  }
  grow_all(layer, next);
  return due;
}

void KvSequence::encode_end(int32_t layer_index, bool done) {
  Layer& layer = at_layer(layer_index);
  for (int32_t h = 0; h < shape_.heads; h++) {
    Head next = layer.heads[h];
    if (done) {
      next.plain_keys = next.encoded_keys;
      next.plain_values = next.encoded_values;
    } else {
      next.encoded_keys = next.plain_keys;
      next.encoded_values = next.plain_values;
    }
    shrink(layer, h, next);
  }
}

std::pair<int32_t, int32_t> KvSequence::encoded(int32_t layer, int32_t head) const {
  const Layer& there = at_layer(layer);
  if (head < 0 || head >= shape_.heads) fail("ERR_ACCEL_ARGUMENT", "head %d is not in [0, %d)", head, shape_.heads);
  return {there.heads[head].encoded_keys, there.heads[head].encoded_values};
}

void KvSequence::restore(int32_t layer_index, const int32_t* rows, const int32_t* encoded_keys,
                         const int32_t* encoded_values) {
  Layer& layer = at_layer(layer_index);
  std::vector<Head> next(shape_.heads);
  for (int32_t h = 0; h < shape_.heads; h++) {
    const int32_t keys = encoded_keys[h], values = encoded_values[h];
    if (layer.heads[h].rows > 0) fail("ERR_ACCEL_ARGUMENT", "layer %d has rows already", layer_index);
    if (rows[h] < 0 || rows[h] > kMaxRows || keys < 0 || keys > rows[h] || values < 0 || values > rows[h] ||
        (keys > 0 && shape_.encoded_key.rows == 0) || (values > 0 && shape_.encoded_value.rows == 0)) {
      fail("ERR_ACCEL_ARGUMENT", "head %d of layer %d cannot have %d rows with %d encoded keys and %d encoded values", h,
           layer_index, rows[h], keys, values);
    }
    next[h].rows = rows[h];
    next[h].plain_keys = next[h].encoded_keys = keys;
    next[h].plain_values = next[h].encoded_values = values;
    next[h].opened = shape_.encoded_key.rows > 0 || shape_.encoded_value.rows > 0;
    for (KvList list : {KvList::encoded_keys, KvList::encoded_values}) {
      if (encoded_bytes(next[h], list) / static_cast<int64_t>(pool_->page_bytes()) < kMaxRows) continue;
      fail("ERR_ACCEL_ARGUMENT", "%d encoded rows of layer %d are more than a list of pages can hold", next[h].encoded(),
           layer_index);
    }
  }
  grow_all(layer, next);
}

int32_t KvSequence::rows(int32_t layer, int32_t head) const {
  const Layer& there = at_layer(layer);
  if (head < 0 || head >= shape_.heads) fail("ERR_ACCEL_ARGUMENT", "head %d is not in [0, %d)", head, shape_.heads);
  return there.heads[head].rows;
}

KvBytes KvSequence::bytes() const {
  size_t bytes = 0;
  const auto encoded = [](const accel_kv_items& items, size_t rows) {
    return items.rows == 0 ? 0 : items.header + rows * items.bytes / items.rows;
  };
  for (const Layer& layer : layers_) {
    for (const Head& head : layer.heads) {
      const size_t plain = 2ll * head.rows - head.plain_keys - head.plain_values;
      bytes += plain * shape_.row_bytes() + head.rows * shape_.record_bytes();
      if (!head.opened) continue;
      bytes += encoded(shape_.encoded_key, head.encoded_keys) + encoded(shape_.encoded_value, head.encoded_values);
    }
  }
  return {pages_ * pool_->page_bytes(), bytes, pages_};
}

void KvSequence::release_layer(Layer& layer) {
  for (int32_t h = 0; h < shape_.heads; h++) shrink(layer, h, Head{});
}

void KvSequence::dispose() {
  if (disposed_) return;
  for (Layer& layer : layers_) release_layer(layer);
  layers_.clear();
  disposed_ = true;
  pool_->consumers().remove(this);
}

KvTable& KvSequence::table(int32_t layer) { return *at_layer(layer).table; }

void KvSequence::describe(int32_t layer_index, accel_kv_head* heads) {
  Layer& layer = at_layer(layer_index);
  KvTable& table = *layer.table;
  for (int32_t h = 0; h < shape_.heads; h++) {
    const Head& head = layer.heads[h];
    heads[h] = {table.list(KvList::keys, h),
                table.list(KvList::values, h),
                table.list(KvList::records, h),
                head.opened ? table.list(KvList::encoded_keys, h) : nullptr,
                head.opened ? table.list(KvList::encoded_values, h) : nullptr,
                head.rows,
                head.gap_at,
                head.gap,
                head.plain_keys,
                head.plain_values,
                head.encoded_keys,
                head.encoded_values};
  }
}

}  // namespace accel
