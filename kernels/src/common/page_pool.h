// Fixed-size pages for KV rows, all in one reservation of address space, counted by reference so that forks share.
//
// Only the thread that enqueues uses the bookkeeping. A page may be taken again right after it was let go while older
// work still reads it: all work on a pool's pages goes through the pool's one stream, in order.
#ifndef ACCEL_COMMON_PAGE_POOL_H
#define ACCEL_COMMON_PAGE_POOL_H

#include <atomic>
#include <vector>

#include "common/ref.h"
#include "common/stream.h"

namespace accel {

class PagePool final : public RefCounted {
 public:
  static Ref<PagePool> create(Ref<Stream> stream, size_t page_bytes, size_t capacity_bytes);

  Stream& stream() const { return *stream_; }
  uint8_t* base() const { return base_; }
  size_t page_bytes() const { return page_bytes_; }
  size_t capacity_bytes() const { return pages_ * page_bytes_; }
  size_t used_bytes() const { return used_.load(std::memory_order_relaxed) * page_bytes_; }
  size_t peak_bytes() const { return peak_ * page_bytes_; }
  void reset_peak() { peak_ = used_.load(std::memory_order_relaxed); }

  // Throws ERR_ACCEL_OUT_OF_MEMORY unless `count` pages can be taken; puts memory behind them where that is needed.
  void require(size_t count);
  // A page with one reference. `require` comes first.
  int32_t take();
  void retain_page(int32_t page) { references_[page]++; }
  void release_page(int32_t page);
  bool shared(int32_t page) const { return references_[page] > 1; }

  // Gives the memory behind free pages back to the system, in stream order.
  void trim();

  // The sequences of this pool, for messages. Only used by the thread that enqueues.
  Ledger& consumers() { return consumers_; }

  // Refuses further pages: the owner is done with the pool, sequences may still be.
  void close() { closed_ = true; }

 private:
  PagePool(Ref<Stream> stream, size_t page_bytes, size_t pages);
  ~PagePool() override;
  // The first and the last chunk that a page lies in.
  std::pair<size_t, size_t> chunks_of(int32_t page) const {
    size_t at = page * page_bytes_;
    return {at / chunk_bytes_, (at + page_bytes_ - 1) / chunk_bytes_};
  }
  void commit(int32_t page);
  void count_in_chunks(int32_t page, int32_t change);
  void trim_chunks();

  Ref<Stream> stream_;
  size_t page_bytes_;
  size_t pages_;
  uint8_t* base_;
  size_t chunk_bytes_;  // 0: the system puts memory behind pages by itself
  struct Chunk {
    int32_t pages = 0;  // in use
    bool committed = false;
  };
  std::vector<Chunk> chunks_;
  std::vector<int32_t> references_;  // as long as the highest page ever taken
  std::vector<int32_t> free_;
  std::atomic<size_t> used_{0};
  size_t peak_ = 0;
  bool closed_ = false;
  Ledger consumers_;
};

}  // namespace accel
#endif
