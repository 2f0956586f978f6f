#include "common/page_pool.h"

#include <algorithm>
#include <memory>

#include "common/error.h"

namespace accel {

Ref<PagePool> PagePool::create(Ref<Stream> stream, size_t page_bytes, size_t capacity_bytes) {
  if (page_bytes < 64 || page_bytes % 64 != 0) {
    fail("ERR_ACCEL_ARGUMENT", "pageBytes is %zu; it must be a positive multiple of 64", page_bytes);
  }
  size_t pages = capacity_bytes / page_bytes;
  if (pages == 0) {
    fail("ERR_ACCEL_ARGUMENT", "capacityBytes is %zu, less than one page of %zu bytes", capacity_bytes, page_bytes);
  }
  if (pages > INT32_MAX) {
    fail("ERR_ACCEL_ARGUMENT", "%zu pages are more than a pool can number (2^31 - 1); use larger pages", pages);
  }
  return Ref<PagePool>(new PagePool(std::move(stream), page_bytes, pages));
}

PagePool::PagePool(Ref<Stream> stream, size_t page_bytes, size_t pages)
    : stream_(std::move(stream)),
      page_bytes_(page_bytes),
      pages_(pages),
      base_(stream_->backend().reserve_pages(pages * page_bytes)),
      chunk_bytes_(stream_->backend().page_chunk()) {
  if (chunk_bytes_ > 0) chunks_.resize((pages * page_bytes + chunk_bytes_ - 1) / chunk_bytes_);
  stream_->backend().ledger().add(this, "KV pages", [this] { return used_bytes(); });
}

PagePool::~PagePool() {
  stream_->backend().ledger().remove(this);
  stream_->backend().release_pages(base_, pages_ * page_bytes_);
}

void PagePool::require(size_t count) {
  if (closed_) fail("ERR_ACCEL_DISPOSED", "the page pool of this sequence was disposed");
  size_t left = pages_ - used_.load(std::memory_order_relaxed);
  if (count <= left) {
    if (chunk_bytes_ == 0) return;
    // The pages that `take` will give, in its order.
    size_t again = std::min(count, free_.size());
    for (size_t i = 0; i < again; i++) commit(free_[free_.size() - 1 - i]);
    for (size_t i = 0; i < count - again; i++) commit(static_cast<int32_t>(references_.size() + i));
    return;
  }
  fail("ERR_ACCEL_OUT_OF_MEMORY",
       "the KV page pool is full: %s wanted, %s free of %s. Largest consumers: %s. Make the pool larger (kvBytes), "
       "dispose of sequences, or use a policy that keeps fewer rows",
       format_bytes(static_cast<double>(count * page_bytes_)).c_str(),
       format_bytes(static_cast<double>(left * page_bytes_)).c_str(),
       format_bytes(static_cast<double>(capacity_bytes())).c_str(), consumers_.largest(5).c_str());
}

void PagePool::commit(int32_t page) {
  auto [first, last] = chunks_of(page);
  for (size_t c = first; c <= last; c++) {
    if (chunks_[c].committed) continue;
    stream_->backend().commit_pages(base_, c * chunk_bytes_, chunk_bytes_);
    chunks_[c].committed = true;
  }
}

void PagePool::count_in_chunks(int32_t page, int32_t change) {
  auto [first, last] = chunks_of(page);
  for (size_t c = first; c <= last; c++) chunks_[c].pages += change;
}

int32_t PagePool::take() {
  int32_t page;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
    references_[page] = 1;
  } else {
    page = static_cast<int32_t>(references_.size());
    references_.push_back(1);
  }
  if (chunk_bytes_ > 0) count_in_chunks(page, 1);
  size_t used = used_.fetch_add(1, std::memory_order_relaxed) + 1;
  peak_ = std::max(peak_, used);
  return page;
}

void PagePool::release_page(int32_t page) {
  if (--references_[page] > 0) return;
  free_.push_back(page);
  if (chunk_bytes_ > 0) count_in_chunks(page, -1);
  used_.fetch_sub(1, std::memory_order_relaxed);
}

void PagePool::trim() {
  if (free_.empty()) return;
  // Descending, so that pages are next taken from the front and the used ones stay together.
  std::sort(free_.begin(), free_.end(), std::greater<>());
  if (chunk_bytes_ > 0) return trim_chunks();
  std::vector<int32_t> runs;
  for (auto page = free_.rbegin(); page != free_.rend(); ++page) {
    if (!runs.empty() && runs[runs.size() - 2] + runs.back() == *page) {
      runs.back()++;
    } else {
      runs.push_back(*page);
      runs.push_back(1);
    }
  }
  stream_->push_task(
      [self = Ref<PagePool>::share(this), runs = std::move(runs)](StreamBackend& device) {
        device.discard_pages(self->base_, self->page_bytes_, runs.data(), runs.size() / 2);
      },
      true);
}

void PagePool::trim_chunks() {
  std::vector<size_t> gone;
  for (size_t c = 0; c < chunks_.size(); c++) {
    if (!chunks_[c].committed || chunks_[c].pages > 0) continue;
    chunks_[c].committed = false;
    gone.push_back(c);
  }
  if (gone.empty()) return;
  uint64_t number = stream_->backend().mark_discard(base_, gone);
  stream_->push_task(
      [self = Ref<PagePool>::share(this), gone = std::move(gone), number](StreamBackend& device) {
        device.discard_chunks(self->base_, gone, number);
      },
      true);
}

}  // namespace accel
