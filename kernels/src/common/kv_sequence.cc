#include "common/kv_sequence.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/error.h"

namespace accel {
namespace {

constexpr int32_t kMaxRows = 1 << 30;
constexpr int32_t kMaxTallies = 16;

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
      records_per_page_(static_cast<int32_t>(pool_->page_bytes() / shape.record_bytes())),
      erase_unit_(std::lcm(rows_per_page_, records_per_page_)),
      layers_(shape.layers) {
  static std::atomic<int64_t> created{0};
  pool_->consumers().add(this, format_text("sequence %lld", static_cast<long long>(++created)),
                         [this] { return pages_ * pool_->page_bytes(); });
  for (Layer& layer : layers_) {
    layer.table = Ref<KvTable>(new KvTable(shape.heads, 4, 1));
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

KvTable& KvSequence::writable(Layer& layer, bool overwrite, int32_t row_pages, int32_t record_pages) {
  KvTable& table = *layer.table;
  bool grow = row_pages > table.row_capacity() || record_pages > table.record_capacity();
  if (grow || (overwrite && !table.unique())) {
    // Doubling keeps the copies of a growing sequence cheap.
    int32_t row_room = row_pages > table.row_capacity() ? std::max(row_pages, 2 * table.row_capacity()) : 0;
    int32_t record_room =
        record_pages > table.record_capacity() ? std::max(record_pages, 2 * table.record_capacity()) : 0;
    layer.table = table.clone(row_room, record_room);
    overwrite = true;
  }
  if (overwrite) {
    // Nobody else reads this table, so entries left over from before a truncation are free again.
    layer.table->overwritten();
    for (int32_t h = 0; h < shape_.heads; h++) {
      layer.table->row_end(h) = row_pages_of(layer.heads[h].slots());
      layer.table->record_end(h) = record_pages_of(layer.heads[h].slots());
    }
  }
  return *layer.table;
}

KvSequence::Span KvSequence::dead(const Head& head, int32_t per_page) {
  int32_t begin = (head.gap_at + per_page - 1) / per_page;
  int32_t end = (head.gap_at + head.gap) / per_page;
  return end > begin ? Span{begin, end} : Span{begin, begin};
}

void KvSequence::release_span(const int32_t* pages, int32_t begin, int32_t end) {
  for (int32_t i = begin; i < end; i++) {
    pool_->release_page(pages[i]);
    pages_--;
  }
}

void KvSequence::reserve(int32_t layer_index, int32_t n) {
  Layer& layer = at_layer(layer_index);
  if (n < 0) fail("ERR_ACCEL_ARGUMENT", "cannot reserve %d rows", n);
  if (n == 0) return;

  // First look, then take: when the pool is too full nothing has changed.
  size_t wanted = 0;
  int32_t most_row_pages = 0;
  int32_t most_record_pages = 0;
  bool overwrite = false;
  KvTable* table = layer.table.get();
  for (int32_t h = 0; h < shape_.heads; h++) {
    const Head& head = layer.heads[h];
    if (n > kMaxRows - head.slots()) {
      fail("ERR_ACCEL_ARGUMENT", "%d more rows are more than a cache of %d rows can take", n, head.rows);
    }
    int32_t before = head.slots();
    int32_t after = before + n;
    int32_t row_first = row_pages_of(before);
    int32_t record_first = record_pages_of(before);
    wanted += 2 * (row_pages_of(after) - row_first) + record_pages_of(after) - record_first;
    if (before % rows_per_page_ != 0) {
      wanted += pool_->shared(table->keys(h)[row_first - 1]) + pool_->shared(table->values(h)[row_first - 1]);
      overwrite |= pool_->shared(table->keys(h)[row_first - 1]) || pool_->shared(table->values(h)[row_first - 1]);
    }
    if (before % records_per_page_ != 0 && pool_->shared(table->records(h)[record_first - 1])) {
      wanted++;
      overwrite = true;
    }
    overwrite |= row_first < table->row_end(h) || record_first < table->record_end(h);
    most_row_pages = std::max(most_row_pages, row_pages_of(after));
    most_record_pages = std::max(most_record_pages, record_pages_of(after));
  }
  pool_->require(wanted);
  table = &writable(layer, overwrite, most_row_pages, most_record_pages);

  std::vector<int32_t> copies;
  auto extend = [&](int32_t* list, int32_t begin, int32_t end) {
    for (int32_t i = begin; i < end; i++) {
      list[i] = pool_->take();
      pages_++;
    }
  };
  for (int32_t h = 0; h < shape_.heads; h++) {
    Head& head = layer.heads[h];
    int32_t before = head.slots();
    int32_t after = before + n;
    int32_t row_first = row_pages_of(before);
    int32_t record_first = record_pages_of(before);
    if (before % rows_per_page_ != 0) {  // the last page is partly filled
      own_page(table->keys(h)[row_first - 1], copies);
      own_page(table->values(h)[row_first - 1], copies);
    }
    if (before % records_per_page_ != 0) own_page(table->records(h)[record_first - 1], copies);
    extend(table->keys(h), row_first, row_pages_of(after));
    extend(table->values(h), row_first, row_pages_of(after));
    extend(table->records(h), record_first, record_pages_of(after));
    table->row_end(h) = std::max(table->row_end(h), row_pages_of(after));
    table->record_end(h) = std::max(table->record_end(h), record_pages_of(after));
    head.rows += n;
  }
  copy_pages(std::move(copies));
}

void KvSequence::compact(int32_t layer_index, const int32_t* counts, const Gather& gather) {
  Layer& layer = at_layer(layer_index);
  int32_t most = 0;
  size_t wanted = 0;
  for (int32_t h = 0; h < shape_.heads; h++) {
    if (counts[h] < 0 || counts[h] > layer.heads[h].rows) {
      fail("ERR_ACCEL_ARGUMENT", "cannot keep %d of the %d rows of head %d in layer %d", counts[h],
           layer.heads[h].rows, h, layer_index);
    }
    most = std::max(most, counts[h]);
    wanted += 2 * row_pages_of(counts[h]) + record_pages_of(counts[h]);
  }
  pool_->require(wanted);
  Layer after;
  after.table =
      Ref<KvTable>(new KvTable(shape_.heads, std::max(row_pages_of(most), 4), std::max(record_pages_of(most), 1)));
  after.heads.resize(shape_.heads);
  for (int32_t h = 0; h < shape_.heads; h++) {
    int32_t rows = row_pages_of(counts[h]);
    int32_t records = record_pages_of(counts[h]);
    for (int32_t i = 0; i < rows; i++) {
      after.table->keys(h)[i] = pool_->take();
      after.table->values(h)[i] = pool_->take();
    }
    for (int32_t i = 0; i < records; i++) after.table->records(h)[i] = pool_->take();
    after.table->row_end(h) = rows;
    after.table->record_end(h) = records;
    after.heads[h].rows = counts[h];
    pages_ += 2 * rows + records;
  }
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
  Head& head = layer.heads[h];
  KvTable& table = *layer.table;
  Head kept = head;
  kept.rows = rows;
  if (rows <= head.gap_at) kept.gap = kept.gap_at = 0;
  auto release = [&](const int32_t* list, int32_t per_page) {
    Span gone = dead(head, per_page);
    int32_t end = (head.slots() + per_page - 1) / per_page;
    for (int32_t i = (kept.slots() + per_page - 1) / per_page; i < end; i++) {
      if (!gone.contains(i)) release_span(list, i, i + 1);
    }
  };
  release(table.keys(h), rows_per_page_);
  release(table.values(h), rows_per_page_);
  release(table.records(h), records_per_page_);
  head = kept;
}

void KvSequence::grow_gap(Layer& layer, int32_t h, int32_t at, int32_t count) {
  Head& head = layer.heads[h];
  KvTable& table = *layer.table;
  Head grown = head;
  grown.gap_at = at;
  grown.gap = head.gap + count;
  grown.rows = head.rows - count;
  auto release = [&](const int32_t* list, int32_t per_page) {
    Span before = dead(head, per_page);
    Span now = dead(grown, per_page);
    for (int32_t i = now.begin; i < now.end; i++) {
      if (!before.contains(i)) release_span(list, i, i + 1);
    }
  };
  release(table.keys(h), rows_per_page_);
  release(table.values(h), rows_per_page_);
  release(table.records(h), records_per_page_);
  head = grown;
}

// Erases the table entries of whole units of dead slots, so that an endless stream of drops needs a bounded table.
void KvSequence::close_gap(Layer& layer, int32_t h) {
  Head& head = layer.heads[h];
  int32_t first = (head.gap_at + erase_unit_ - 1) / erase_unit_;
  int32_t units = (head.gap_at + head.gap) / erase_unit_ - first;
  if (units <= 0) return;
  int32_t rows_end = row_pages_of(head.slots());
  int32_t records_end = record_pages_of(head.slots());
  KvTable& table = writable(layer, true, 0, 0);
  auto erase = [&](int32_t* list, int32_t per_page, int32_t end) {
    int32_t begin = first * (erase_unit_ / per_page);
    int32_t count = units * (erase_unit_ / per_page);
    std::copy(list + begin + count, list + end, list + begin);
    return end - count;
  };
  erase(table.keys(h), rows_per_page_, rows_end);
  table.row_end(h) = erase(table.values(h), rows_per_page_, rows_end);
  table.record_end(h) = erase(table.records(h), records_per_page_, records_end);
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
  }
  for (int32_t h = 0; h < shape_.heads; h++) {
    if (rows < layer.heads[h].rows) truncate_head(layer, h, rows);
  }
}

int32_t KvSequence::rows(int32_t layer, int32_t head) const {
  const Layer& there = at_layer(layer);
  if (head < 0 || head >= shape_.heads) fail("ERR_ACCEL_ARGUMENT", "head %d is not in [0, %d)", head, shape_.heads);
  return there.heads[head].rows;
}

KvBytes KvSequence::bytes() const {
  size_t rows = 0;
  for (const Layer& layer : layers_) {
    for (const Head& head : layer.heads) rows += head.rows;
  }
  return {pages_ * pool_->page_bytes(), rows * (2 * shape_.row_bytes() + shape_.record_bytes()), pages_};
}

void KvSequence::release_layer(Layer& layer) {
  for (int32_t h = 0; h < shape_.heads; h++) {
    if (layer.heads[h].rows > 0) truncate_head(layer, h, 0);
  }
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
  for (int32_t h = 0; h < shape_.heads; h++) {
    const Head& head = layer.heads[h];
    heads[h] = {
        layer.table->keys(h), layer.table->values(h), layer.table->records(h), head.rows, head.gap_at, head.gap};
  }
}

}  // namespace accel
