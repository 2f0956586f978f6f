// Rows of one head of the paged cache, found through its page table (slot rule in accel/op.h).
#ifndef ACCEL_CPU_OPS_KV_ROWS_H
#define ACCEL_CPU_OPS_KV_ROWS_H

#include "accel/op.h"
#include "cpu/ops/dtypes.h"

namespace accel::cpu {

// The keys, the values or the records of one head.
struct KvRows {
  uint8_t* base;
  int64_t page_bytes;
  int64_t row_bytes;
  const int32_t* pages;
  int32_t rows_per_page;
  int32_t rows;
  int32_t gap_at;
  int32_t gap;

  int64_t slot(int64_t r) const { return r < gap_at ? r : r + gap; }

  uint8_t* row(int64_t r) const {
    const int64_t s = slot(r), page = s / rows_per_page;
    return base + pages[page] * page_bytes + (s - page * rows_per_page) * row_bytes;
  }

  // How many rows from r on lie next to each other in memory; at most `limit`.
  int64_t run(int64_t r, int64_t limit) const {
    const int64_t s = slot(r);
    int64_t n = rows_per_page - s % rows_per_page;
    if (r < gap_at && gap_at - r < n) n = gap_at - r;
    return n < limit ? n : limit;
  }

  // Calls fn(first row, count, address) for the contiguous pieces of [begin, end).
  template <class F>
  void runs(int64_t begin, int64_t end, const F& fn) const {
    while (begin < end) {
      const int64_t n = run(begin, end - begin);
      fn(begin, n, row(begin));
      begin += n;
    }
  }
};

inline KvRows kv_keys(const accel_kv& kv, int sequence, int head) {
  const accel_kv_head& h = kv.head[sequence * kv.heads + head];
  const int64_t row = (int64_t)kv.head_dim * type_bytes(type_of(kv.dtype));
  return {kv.base, kv.page_bytes, row, h.key_pages, kv.rows_per_page, h.rows, h.gap_at, h.gap};
}

inline KvRows kv_values(const accel_kv& kv, int sequence, int head) {
  KvRows rows = kv_keys(kv, sequence, head);
  rows.pages = kv.head[sequence * kv.heads + head].value_pages;
  return rows;
}

// A record is the position, then the tallies, 4 bytes each; row_bytes 0: rows have none, their numbers are the positions.
inline KvRows kv_records(const accel_kv& kv, int sequence, int head) {
  const accel_kv_head& h = kv.head[sequence * kv.heads + head];
  return {kv.base, kv.page_bytes, kv.record_bytes, h.record_pages, kv.records_per_page, h.rows, h.gap_at, h.gap};
}

// Calls fn(row, tally) for rows [begin, end) of `records`.
template <class F>
inline void each_tally(const KvRows& records, int which, int64_t begin, int64_t end, const F& fn) {
  records.runs(begin, end, [&](int64_t r, int64_t n, uint8_t* p) {
    p += 4 * (1 + which);
    for (int64_t i = 0; i < n; ++i, p += records.row_bytes) fn(r + i, *reinterpret_cast<float*>(p));
  });
}

}  // namespace accel::cpu
#endif
