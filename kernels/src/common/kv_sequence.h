// The KV cache of one sequence: which rows exist in every (layer, head), and in which pages they live. All of this is
// host bookkeeping; rows themselves are moved by work on the pool's stream.
#ifndef ACCEL_COMMON_KV_SEQUENCE_H
#define ACCEL_COMMON_KV_SEQUENCE_H

#include <functional>
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
  int32_t tallies = 0;  // numbers that follow a row, beside its position
  size_t row_bytes() const { return head_dim * dtype_bytes(dtype); }
  size_t record_bytes() const { return sizeof(int32_t) + tallies * sizeof(float); }
};

struct KvBytes {
  size_t measured;    // pages of this sequence × page size; a page shared with a fork counts in both
  size_t arithmetic;  // rows × (key + value + record)
  size_t pages;
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
    int32_t slots() const { return rows + gap; }
  };
  // Pages [begin, end) that lie completely inside a gap: their memory has gone back.
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
  KvTable& writable(Layer& layer, bool overwrite, int32_t row_pages, int32_t record_pages);
  static bool touches_gap(const Head& head, int32_t at, int32_t count);
  static Span dead(const Head& head, int32_t per_page);
  void release_span(const int32_t* pages, int32_t begin, int32_t end);
  // Calls visit(entry) for every page of a layer that is in memory.
  template <class F>
  void each_page(Layer& layer, const F& visit);
  // Replaces a shared page by one of its own; `copies` gets both numbers.
  void own_page(int32_t& page, std::vector<int32_t>& copies);
  void copy_pages(std::vector<int32_t> copies);
  void release_layer(Layer& layer);
  void truncate_head(Layer& layer, int32_t head, int32_t rows);
  void grow_gap(Layer& layer, int32_t head, int32_t at, int32_t count);
  void close_gap(Layer& layer, int32_t head);
  int32_t row_pages_of(int32_t slots) const { return (slots + rows_per_page_ - 1) / rows_per_page_; }
  int32_t record_pages_of(int32_t slots) const { return (slots + records_per_page_ - 1) / records_per_page_; }

  Ref<PagePool> pool_;
  KvShape shape_;
  int32_t rows_per_page_;
  int32_t records_per_page_;
  int32_t erase_unit_;  // slots whose table entries can go together: whole pages of rows and of records
  std::vector<Layer> layers_;
  size_t pages_ = 0;
  bool disposed_ = false;
};

}  // namespace accel
#endif
