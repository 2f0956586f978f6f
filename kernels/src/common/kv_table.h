// The page lists of one layer of one sequence: for every head those of keys, of values, of records, and of keys and
// values that a codec has encoded.
//
// Commands on the stream keep a table alive and read it later, so entries that a command may have seen never change:
// new entries are appended in place, anything else happens in a copy unless nobody but the sequence holds the table.
//
// A device with memory of its own reads a mirror of the table. Commands bring the entries that are new since the last
// one along and write them in stream order, so the mirror needs no such care.
#ifndef ACCEL_COMMON_KV_TABLE_H
#define ACCEL_COMMON_KV_TABLE_H

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "common/command.h"
#include "common/ref.h"
#include "common/storage.h"

namespace accel {

enum class KvList { keys, values, records, encoded_keys, encoded_values };
constexpr std::array kKvLists = {KvList::keys, KvList::values, KvList::records, KvList::encoded_keys,
                                 KvList::encoded_values};
// One number for each list.
class KvCounts {
 public:
  int32_t& operator[](KvList list) { return counts_[static_cast<size_t>(list)]; }
  int32_t operator[](KvList list) const { return counts_[static_cast<size_t>(list)]; }

 private:
  std::array<int32_t, kKvLists.size()> counts_{};
};

class KvTable final : public RefCounted {
 public:
  // `capacity`: pages a head, of each list.
  KvTable(int32_t heads, const KvCounts& capacity) : capacity_(capacity), ends_(heads), sent_(heads) {
    for (KvList list : kKvLists) {
      begin_[list] = stride_;
      stride_ += capacity[list];
    }
    entries_.assign(static_cast<size_t>(heads) * stride_, -1);
  }

  int32_t heads() const { return static_cast<int32_t>(ends_.size()); }
  const KvCounts& capacity() const { return capacity_; }
  int32_t* list(KvList list, int32_t head) {
    return entries_.data() + static_cast<size_t>(head) * stride_ + begin_[list];
  }
  // One past the last entry ever written: a command may have seen everything below.
  int32_t& end(KvList list, int32_t head) { return ends_[head][list]; }

  // Where a list of this table is in the mirror; the mirror is made when it is first asked for (it may throw).
  const int32_t* mirrored(Backend& backend, const int32_t* list) {
    if (!mirror_) mirror_ = Storage::allocate(backend, entries_.size() * sizeof(int32_t), "a table of KV pages");
    return reinterpret_cast<const int32_t*>(mirror_->data()) + (list - entries_.data());
  }
  // Puts everything the mirror does not have yet into a command that will be pushed.
  void send(Command& command) {
    if (!mirror_) return;
    for (int32_t h = 0; h < heads(); h++) {
      for (KvList which : kKvLists) {
        int32_t& sent = sent_[h][which];
        if (sent >= end(which, h)) continue;
        send(command, list(which, h) + sent, end(which, h) - sent);
        sent = end(which, h);
      }
    }
  }
  // Entries of a list were or will be overwritten: the mirror needs those again that are in use, which are [begin, end).
  void overwritten(KvList list, int32_t head, int32_t begin, int32_t end) {
    sent_[head][list] = begin;
    ends_[head][list] = end;
  }

  // A copy with room for at least this many pages a head.
  Ref<KvTable> clone(KvCounts capacity) {
    for (KvList which : kKvLists) capacity[which] = std::max(capacity[which], capacity_[which]);
    Ref<KvTable> copy(new KvTable(heads(), capacity));
    for (int32_t h = 0; h < heads(); h++) {
      for (KvList which : kKvLists) std::copy_n(list(which, h), end(which, h), copy->list(which, h));
    }
    copy->ends_ = ends_;
    return copy;
  }

 private:
  void send(Command& command, const int32_t* entries, int32_t count) {
    auto* to = reinterpret_cast<int32_t*>(mirror_->data()) + (entries - entries_.data());
    command.table_runs.push_back(
        {to, static_cast<uint32_t>(command.table_words.size()), static_cast<uint32_t>(count)});
    command.table_words.insert(command.table_words.end(), entries, entries + count);
  }

  KvCounts capacity_;
  KvCounts begin_;       // of each list, inside a head's entries
  int32_t stride_ = 0;   // entries of a head
  std::vector<int32_t> entries_;
  std::vector<KvCounts> ends_;
  std::vector<KvCounts> sent_;
  Ref<Storage> mirror_;
};

}  // namespace accel
#endif
