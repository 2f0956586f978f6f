// Forks of a cache share its pages until one of them writes: KvSequence's part of that.
#include <utility>

#include "common/error.h"
#include "common/kv_sequence.h"

namespace accel {

template <class F>
void KvSequence::each_page(Layer& layer, const F& visit) {
  for (int32_t h = 0; h < shape_.heads; h++) {
    for (KvList list : kKvLists) {
      const Span live = span(layer.heads[h], list), gone = dead(layer.heads[h], list);
      int32_t* pages = layer.table->list(list, h);
      for (int32_t i = live.begin; i < live.end; i++) {
        if (!gone.contains(i)) visit(pages[i]);
      }
    }
  }
}

Ref<KvSequence> KvSequence::fork() {
  at_layer(0);
  Ref<KvSequence> child(new KvSequence(pool_, shape_));
  for (int32_t l = 0; l < shape_.layers; l++) {
    Layer& from = layers_[l];
    Layer& to = child->layers_[l];
    to.table = from.table->clone({});
    to.heads = from.heads;
    each_page(from, [&](int32_t page) { pool_->retain_page(page); });
    to.maybe_shared = from.maybe_shared = true;
  }
  child->pages_ = pages_;
  return child;
}

void KvSequence::own(int32_t layer_index) {
  Layer& layer = at_layer(layer_index);
  if (!layer.maybe_shared) return;
  // First look, then take: when the pool is too full nothing has changed.
  size_t wanted = 0;
  each_page(layer, [&](int32_t page) { wanted += pool_->shared(page); });
  if (wanted > 0) {
    pool_->require(wanted);
    writable(layer, true, {});
    std::vector<int32_t> copies;
    each_page(layer, [&](int32_t& page) { own_page(page, copies); });
    copy_pages(std::move(copies));
  }
  layer.maybe_shared = false;
}

void KvSequence::own_page(int32_t& page, std::vector<int32_t>& copies) {
  if (!pool_->shared(page)) return;
  int32_t fresh = pool_->take();
  copies.push_back(page);
  copies.push_back(fresh);
  pool_->release_page(page);
  page = fresh;
}

void KvSequence::copy_pages(std::vector<int32_t> copies) {
  if (copies.empty()) return;
  pool_->stream().push_task([pool = pool_, copies = std::move(copies)](StreamBackend& device) {
    device.copy_pages(pool->base(), pool->page_bytes(), copies.data(), copies.size() / 2);
  });
}

}  // namespace accel
