// The KV cache of one sequence: which rows exist in every (layer, head), and in which pages they live. All of this is
// host bookkeeping; rows themselves are moved by work on the pool's stream.
#ifndef ACCEL_COMMON_KV_SEQUENCE_H
#define ACCEL_COMMON_KV_SEQUENCE_H

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "common/dtype.h"
#include "common/kv_table.h"
#include "common/page_pool.h"

namespace accel {

struct KvShape {
  int32_t layers;
  int32_t heads;
  int32_t head_dim;
  DType dtype;
  int32_t tallies = 0;           // numbers that follow a row, beside its position
  bool positions = true;         // false: no row ever leaves, so row r has position r and there are no records
  accel_kv_items encoded_key{};  // rows 0: keys are never encoded
  accel_kv_items encoded_value{};
  size_t row_bytes() const { return head_dim * dtype_bytes(dtype); }
  size_t record_bytes() const { return positions ? sizeof(int32_t) + tallies * sizeof(float) : 0; }
};

struct KvBytes {
  size_t measured;    // pages of this sequence × page size; a page shared with a fork counts in both
  size_t arithmetic;  // what rows, encoded rows, headers and records take
  size_t pages;
};

// The most keys and values that a head has to encode.
struct KvEncodeDue {
  int32_t keys = 0;
  int32_t values = 0;
};

// Which rows a codec holds of n: the oldest floor((n - keep) / block) * block.
struct KvEncodeRule {
  int32_t block = 0;  // 0: none
  int32_t keep = 0;
};

class KvSequence final : public RefCounted {
 public:
  static Ref<KvSequence> create(Ref<PagePool> pool, const KvShape& shape);

  const KvShape& shape() const { return shape_; }
  PagePool& pool() const { return *pool_; }
  int32_t rows_per_page() const { return rows_per_page_; }
  int32_t records_per_page() const { return records_per_page_; }

  // Room for n more rows in every head of a layer. Pages shared with a fork are copied before they are written to.
  void reserve(int32_t layer, int32_t n);
  // Keeps `counts[h]` rows of head h, gathered into fresh pages. `gather(before, after)` enqueues the copy; both refer
  // to page tables that the enqueued command must hold.
  using Gather = std::function<void(KvSequence& sequence, int32_t layer, const accel_kv_head* before,
                                    KvTable& before_table, const accel_kv_head* after, KvTable& after_table)>;
  void compact(int32_t layer, const int32_t* counts, const Gather& gather);
  // Removes rows [at, at + count) of every head by growing the gap, which they must touch (can_drop).
  bool can_drop(int32_t layer, int32_t at, int32_t count) const;
  void drop(int32_t layer, int32_t at, int32_t count);
  // Keeps the first `rows` rows of every head.
  void truncate(int32_t layer, int32_t rows);
  // Makes room for the rows that the rules want encoded, which are then there in both forms; what is enqueued next
  // encodes them, and `encode_end` lets their plain pages go, or, when that was not `done`, the room. Returns the most rows
  // that a head has to encode.
  KvEncodeDue encode_begin(int32_t layer, KvEncodeRule keys, KvEncodeRule values);
  void encode_end(int32_t layer, bool done);
  // Encoded keys and values of a head.
  std::pair<int32_t, int32_t> encoded(int32_t layer, int32_t head) const;
  // As if `encode_begin` and `encode_end` had led to these rows, one entry a head, in an empty layer: for a cache that
  // is read from a file.
  void restore(int32_t layer, const int32_t* rows, const int32_t* encoded_keys, const int32_t* encoded_values);
  int32_t rows(int32_t layer, int32_t head) const;
  KvBytes bytes() const;
  Ref<KvSequence> fork();
  // Copies the pages of a layer that a fork shares, so that its rows may be written in place.
  void own(int32_t layer);
  // Gives all pages back.
  void dispose();

  // Descriptors of a layer's heads as they are now. They point into `table(layer)`.
  void describe(int32_t layer, accel_kv_head* heads);
  KvTable& table(int32_t layer);

 private:
  struct Head {
    int32_t rows = 0;
    int32_t gap_at = 0;
    int32_t gap = 0;
    int32_t plain_keys = 0;
    int32_t plain_values = 0;
    int32_t encoded_keys = 0;
    int32_t encoded_values = 0;
    bool opened = false;  // the headers of encoded rows are there
    int32_t slots() const { return rows + gap; }
    int32_t encoded() const { return std::max(encoded_keys, encoded_values); }
  };
  // Pages [begin, end) of a list.
  struct Span {
    int32_t begin;
    int32_t end;
    bool contains(int32_t page) const { return page >= begin && page < end; }
  };
  struct Layer {
    Ref<KvTable> table;
    std::vector<Head> heads;
    bool maybe_shared = false;  // a fork may hold some of the pages; false is certain
  };

  KvSequence(Ref<PagePool> pool, const KvShape& shape);
  ~KvSequence() override { dispose(); }
  Layer& at_layer(int32_t layer);
  const Layer& at_layer(int32_t layer) const { return const_cast<KvSequence*>(this)->at_layer(layer); }
  // Makes the table safe to overwrite below its end, and large enough.
  KvTable& writable(Layer& layer, bool overwrite, const KvCounts& pages);
  static bool touches_gap(const Head& head, int32_t at, int32_t count);
  // Slots on a page of keys, values or records; 0 for a list that this sequence does not have.
  int32_t per_page(KvList list) const { return list == KvList::records ? records_per_page_ : rows_per_page_; }
  static bool is_encoded(KvList list) { return list >= KvList::encoded_keys; }
  int64_t encoded_bytes(const Head& head, KvList list) const;
  // Pages of a list that a head needs: from the first plain row (encoded ones are before it) to the end.
  Span span(const Head& head, KvList list) const;
  // Those of them that lie completely inside the gap: their memory has gone back.
  Span dead(const Head& head, KvList list) const;
  // Calls visit(entry) for every page of a layer that is in memory.
  template <class F>
  void each_page(Layer& layer, const F& visit);
  // A head becomes `next`, which has fewer pages: those it no longer needs go back.
  void shrink(Layer& layer, int32_t head, const Head& next);
  // A head becomes `next`, which has more pages, all at the ends of lists. `look` counts the pages that takes and says
  // what the table must be able to hold; `grow` takes them. Pages that will be written to get owned.
  struct Growth {
    size_t wanted = 0;
    bool overwrite = false;
    KvCounts pages;
  };
  void look(Layer& layer, int32_t head, const Head& next, Growth& growth);
  void grow(Layer& layer, int32_t head, const Head& next, std::vector<int32_t>& copies);
  void grow_all(Layer& layer, const std::vector<Head>& next);
  // First page of a list that is written to when a head grows to `next`.
  int32_t first_written(const Head& head, const Head& next, KvList list) const;
  // Replaces a shared page by one of its own; `copies` gets both numbers.
  void own_page(int32_t& page, std::vector<int32_t>& copies);
  void copy_pages(std::vector<int32_t> copies);
  void release_layer(Layer& layer);
  void truncate_head(Layer& layer, int32_t head, int32_t rows);
  void grow_gap(Layer& layer, int32_t head, int32_t at, int32_t count);
  void close_gap(Layer& layer, int32_t head);

  Ref<PagePool> pool_;
  KvShape shape_;
  int32_t rows_per_page_;
  int32_t records_per_page_;  // 0: no records
  int32_t erase_unit_;        // slots whose table entries can go together: whole pages of rows and of records
  std::vector<Layer> layers_;
  size_t pages_ = 0;
  bool disposed_ = false;
};

}  // namespace accel
#endif
