// The page lists of one layer of one sequence: for every head the pages of keys, of values and of positions.
//
// Commands on the stream keep a table alive and read it later, so entries that a command may have seen never change:
// new entries are appended in place, anything else happens in a copy unless nobody but the sequence holds the table.
#ifndef ACCEL_COMMON_KV_TABLE_H
#define ACCEL_COMMON_KV_TABLE_H

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/ref.h"

namespace accel {

class KvTable final : public RefCounted {
 public:
  KvTable(int32_t heads, int32_t row_pages, int32_t position_pages)
      : row_capacity_(row_pages),
        position_capacity_(position_pages),
        stride_(2 * row_pages + position_pages),
        entries_(static_cast<size_t>(heads) * stride_, -1),
        row_end_(heads, 0),
        position_end_(heads, 0) {}

  int32_t row_capacity() const { return row_capacity_; }
  int32_t position_capacity() const { return position_capacity_; }

  int32_t* keys(int32_t head) { return &entries_[static_cast<size_t>(head) * stride_]; }
  int32_t* values(int32_t head) { return keys(head) + row_capacity_; }
  int32_t* positions(int32_t head) { return keys(head) + 2 * row_capacity_; }

  // One past the last entry ever written: a command may have seen everything below.
  int32_t& row_end(int32_t head) { return row_end_[head]; }
  int32_t& position_end(int32_t head) { return position_end_[head]; }

  // A copy with room for at least this many pages a head.
  Ref<KvTable> clone(int32_t row_pages, int32_t position_pages) {
    auto heads = static_cast<int32_t>(row_end_.size());
    Ref<KvTable> copy(new KvTable(heads, std::max(row_pages, row_capacity_),
                                  std::max(position_pages, position_capacity_)));
    for (int32_t h = 0; h < heads; h++) {
      std::copy_n(keys(h), row_end_[h], copy->keys(h));
      std::copy_n(values(h), row_end_[h], copy->values(h));
      std::copy_n(positions(h), position_end_[h], copy->positions(h));
      copy->row_end_[h] = row_end_[h];
      copy->position_end_[h] = position_end_[h];
    }
    return copy;
  }

 private:
  int32_t row_capacity_;
  int32_t position_capacity_;
  int32_t stride_;
  std::vector<int32_t> entries_;
  std::vector<int32_t> row_end_;
  std::vector<int32_t> position_end_;
};

}  // namespace accel
#endif
