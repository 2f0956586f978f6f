// The page lists of one layer of one sequence: for every head the pages of keys, of values and of records.
//
// Commands on the stream keep a table alive and read it later, so entries that a command may have seen never change:
// new entries are appended in place, anything else happens in a copy unless nobody but the sequence holds the table.
//
// A device with memory of its own reads a mirror of the table. Commands bring the entries that are new since the last
// one along and write them in stream order, so the mirror needs no such care.
#ifndef ACCEL_COMMON_KV_TABLE_H
#define ACCEL_COMMON_KV_TABLE_H

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/command.h"
#include "common/ref.h"
#include "common/storage.h"

namespace accel {

class KvTable final : public RefCounted {
 public:
  KvTable(int32_t heads, int32_t row_pages, int32_t record_pages)
      : row_capacity_(row_pages),
        record_capacity_(record_pages),
        stride_(2 * row_pages + record_pages),
        entries_(static_cast<size_t>(heads) * stride_, -1),
        row_end_(heads, 0),
        record_end_(heads, 0),
        sent_rows_(heads, 0),
        sent_records_(heads, 0) {}

  int32_t row_capacity() const { return row_capacity_; }
  int32_t record_capacity() const { return record_capacity_; }

  int32_t* keys(int32_t head) { return &entries_[static_cast<size_t>(head) * stride_]; }
  int32_t* values(int32_t head) { return keys(head) + row_capacity_; }
  int32_t* records(int32_t head) { return keys(head) + 2 * row_capacity_; }

  // One past the last entry ever written: a command may have seen everything below.
  int32_t& row_end(int32_t head) { return row_end_[head]; }
  int32_t& record_end(int32_t head) { return record_end_[head]; }

  // Where a list of this table is in the mirror; the mirror is made when it is first asked for (it may throw).
  const int32_t* mirrored(Backend& backend, const int32_t* list) {
    if (!mirror_) mirror_ = Storage::allocate(backend, entries_.size() * sizeof(int32_t), "a table of KV pages");
    return reinterpret_cast<const int32_t*>(mirror_->data()) + (list - entries_.data());
  }
  // Puts everything the mirror does not have yet into a command that will be pushed.
  void send(Command& command) {
    if (!mirror_) return;
    for (size_t h = 0; h < row_end_.size(); h++) {
      auto head = static_cast<int32_t>(h);
      if (sent_rows_[h] < row_end_[h]) {
        send(command, keys(head) + sent_rows_[h], row_end_[h] - sent_rows_[h]);
        send(command, values(head) + sent_rows_[h], row_end_[h] - sent_rows_[h]);
        sent_rows_[h] = row_end_[h];
      }
      if (sent_records_[h] < record_end_[h]) {
        send(command, records(head) + sent_records_[h], record_end_[h] - sent_records_[h]);
        sent_records_[h] = record_end_[h];
      }
    }
  }
  // Entries were or will be overwritten: the mirror needs them all again.
  void overwritten() {
    std::fill(sent_rows_.begin(), sent_rows_.end(), 0);
    std::fill(sent_records_.begin(), sent_records_.end(), 0);
  }

  // A copy with room for at least this many pages a head.
  Ref<KvTable> clone(int32_t row_pages, int32_t record_pages) {
    auto heads = static_cast<int32_t>(row_end_.size());
    Ref<KvTable> copy(new KvTable(heads, std::max(row_pages, row_capacity_), std::max(record_pages, record_capacity_)));
    for (int32_t h = 0; h < heads; h++) {
      std::copy_n(keys(h), row_end_[h], copy->keys(h));
      std::copy_n(values(h), row_end_[h], copy->values(h));
      std::copy_n(records(h), record_end_[h], copy->records(h));
      copy->row_end_[h] = row_end_[h];
      copy->record_end_[h] = record_end_[h];
    }
    return copy;
  }

 private:
  void send(Command& command, const int32_t* entries, int32_t count) {
    auto* to = reinterpret_cast<int32_t*>(mirror_->data()) + (entries - entries_.data());
    command.table_runs.push_back(
        {to, static_cast<uint32_t>(command.table_words.size()), static_cast<uint32_t>(count)});
    command.table_words.insert(command.table_words.end(), entries, entries + count);
  }

  int32_t row_capacity_;
  int32_t record_capacity_;
  int32_t stride_;
  std::vector<int32_t> entries_;
  std::vector<int32_t> row_end_;
  std::vector<int32_t> record_end_;
  Ref<Storage> mirror_;
  std::vector<int32_t> sent_rows_;
  std::vector<int32_t> sent_records_;
};

}  // namespace accel
#endif
