// kv_export, kv_import, kv_check: a layer of a cache out of its pages and back, for files. Bit-exact; no arithmetic.
#include "common/kv_dense.h"
#include "cpu/builtin.h"
#include "cpu/ops/args.h"
#include "cpu/ops/kv_rows.h"

namespace accel::cpu {
namespace {

// Bytes that lie next to each other in memory.
struct Run {
  uint8_t* at;
  int64_t bytes;
};

// From byte `at` of the rows [first, …) on.
Run in_rows(const KvRows& rows, int64_t first, int64_t at) {
  const int64_t row = first + at / rows.row_bytes, inside = at % rows.row_bytes;
  return {rows.row(row) + inside, rows.run(row, rows.rows - row) * rows.row_bytes - inside};
}

// From byte `at` of a stream of encoded rows on.
Run in_stream(const accel_kv& kv, const int32_t* pages, int64_t size, int64_t at) {
  const int64_t page = at / kv.page_bytes, inside = at % kv.page_bytes, left = kv.page_bytes - inside;
  return {kv.base + pages[page] * kv.page_bytes + inside, left < size - at ? left : size - at};
}

// From byte `at` of a head's block on.
Run in_head(const accel_kv& kv, int h, const KvDense& size, int64_t at) {
  const accel_kv_head& head = kv.head[h];
  if (at < size.keys) return in_rows(kv_keys(kv, 0, h), head.plain_keys, at);
  at -= size.keys;
  if (at < size.values) return in_rows(kv_values(kv, 0, h), head.plain_values, at);
  at -= size.values;
  if (at < size.encoded_keys) return in_stream(kv, head.encoded_key_pages, size.encoded_keys, at);
  at -= size.encoded_keys;
  if (at < size.encoded_values) return in_stream(kv, head.encoded_value_pages, size.encoded_values, at);
  return in_rows(kv_records(kv, 0, h), 0, at - size.encoded_values);
}

// Calls fn(place in the layer's block, address, bytes) for the contiguous pieces of bytes [begin, end) of the block.
template <class F>
void each_run(const accel_kv& kv, int64_t begin, int64_t end, const F& fn) {
  const KvDenseShape shape = kv_dense_shape(kv);
  int64_t first = 0;
  for (int h = 0; h < kv.heads && first < end; ++h) {
    const KvDense size = shape.of(kv.head[h]);
    const int64_t last = first + size.total() < end ? first + size.total() : end;
    for (int64_t at = begin > first ? begin : first; at < last;) {
      const Run run = in_head(kv, h, size, at - first);
      const int64_t n = run.bytes < last - at ? run.bytes : last - at;
      fn(at, run.at, n);
      at += n;
    }
    first += size.total();
  }
}

int check_transfer(const accel_call* call, const char* op, int kv_at, int bytes_at) {
  Checker check(call, op);
  check.kv(kv_at, "kv", 1).dtype(bytes_at, "bytes", {Type::u8}).shape(bytes_at, "bytes", "[n]", {-1});
  if (!check.ok()) return check.result();
  const accel_kv& kv = *call->args[kv_at].kv;
  const KvDenseShape shape = kv_dense_shape(kv);
  int64_t total = 0;
  for (int h = 0; h < kv.heads; ++h) {
    const accel_kv_head& head = kv.head[h];
    check.require((kv.encoded_key.rows == 0 || head.encoded_key_pages != nullptr) &&
                      (kv.encoded_value.rows == 0 || head.encoded_value_pages != nullptr),
                  "ERR_ACCEL_ARGUMENT", "head %d has no header for encoded rows yet; call encode() first", h);
    check.require(head.plain_keys == head.encoded_keys && head.plain_values == head.encoded_values,
                  "ERR_ACCEL_ARGUMENT", "rows of head %d are being encoded", h);
    total += shape.of(head).total();
  }
  const int64_t offset = call->args[2].i, n = check.dim(bytes_at, 0);
  check.require(offset >= 0 && offset % 4 == 0 && n % 4 == 0 && offset <= total && n <= total - offset,
                "ERR_ACCEL_ARGUMENT", "bytes [%lld, %lld) are not all there: the layer has %lld, in words of 4",
                (long long)offset, (long long)(offset + n), (long long)total);
  return check.result();
}

constexpr int64_t kGrain = 1 << 18;  // bytes that are worth a thread

// ---- kv_export  bytes:tensor u8[n], kv:kv+, offset:int
// Bytes [offset, offset + n) of the layer's block (common/kv_dense.h). One sequence.

int kv_export_check(const accel_call* call) { return check_transfer(call, "kv_export", 1, 0); }

int kv_export(const accel_call* call) {
  const accel_kv& kv = *call->args[1].kv;
  uint8_t* bytes = data<uint8_t>(tensor(call, 0));
  const int64_t offset = call->args[2].i;
  parallel(call, dim(call, 0, 0), kGrain, [&](int64_t begin, int64_t end, int) {
    each_run(kv, offset + begin, offset + end,
             [&](int64_t at, const uint8_t* from, int64_t n) { memcpy(bytes + (at - offset), from, (size_t)n); });
  });
  call->ran(call, "kv_export");
  return ACCEL_OK;
}

// ---- kv_import  kv:kv+, bytes:tensor u8[n], offset:int
// The other way. No page may be shared with a fork.

int kv_import_check(const accel_call* call) { return check_transfer(call, "kv_import", 0, 1); }

int kv_import(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  const uint8_t* bytes = data<uint8_t>(tensor(call, 1));
  const int64_t offset = call->args[2].i;
  parallel(call, dim(call, 1, 0), kGrain, [&](int64_t begin, int64_t end, int) {
    each_run(kv, offset + begin, offset + end,
             [&](int64_t at, uint8_t* to, int64_t n) { memcpy(to, bytes + (at - offset), (size_t)n); });
  });
  call->ran(call, "kv_import");
  return ACCEL_OK;
}

// ---- kv_check  kv:kv+, limit:int
// Fails unless the positions of every head ascend within [0, limit) and no tally is NaN: what other ops rely on.

int kv_check_check(const accel_call* call) {
  Checker check(call, "kv_check");
  check.kv(0, "kv", 1);
  if (!check.ok()) return check.result();
  const accel_kv& kv = *call->args[0].kv;
  const int64_t limit = call->args[1].i;
  check.require(limit >= 0 && limit <= INT32_MAX, "ERR_ACCEL_ARGUMENT", "limit is %lld", (long long)limit);
  for (int h = 0; h < kv.heads; ++h) {
    check.require(kv.head[h].rows <= limit, "ERR_ACCEL_ARGUMENT",
                  "head %d has %d rows, more than there are positions below %lld", h, kv.head[h].rows, (long long)limit);
  }
  return check.result();
}

int kv_check(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  const int64_t limit = call->args[1].i;
  call->ran(call, "kv_check");
  if (kv.record_bytes == 0) return ACCEL_OK;
  for (int h = 0; h < kv.heads; ++h) {
    const KvRows records = kv_records(kv, 0, h);
    int32_t previous = -1;
    for (int64_t r = 0; r < records.rows; ++r) {
      const int32_t* record = reinterpret_cast<const int32_t*>(records.row(r));
      if (record[0] <= previous || record[0] >= limit) {
        return call->fail(call, "ERR_ACCEL_ARGUMENT",
                          "kv_check: row %lld has position %lld; positions must ascend from 0 and be below the limit",
                          (long long)r, (long long)record[0]);
      }
      previous = record[0];
      for (int t = 0; t < kv.tallies; ++t) {
        if ((record[1 + t] & 0x7fffffff) <= 0x7f800000) continue;
        return call->fail(call, "ERR_ACCEL_NAN", "kv_check: in row %lld, tally %lld is NaN", (long long)r, (long long)t);
      }
    }
  }
  return ACCEL_OK;
}

const accel_op ops[] = {
    {"kv_export", "bytes:tensor, kv:kv+, offset:int", kv_export_check, kv_export, nullptr},
    {"kv_import", "kv:kv+, bytes:tensor, offset:int", kv_import_check, kv_import, nullptr},
    {"kv_check", "kv:kv+, limit:int", kv_check_check, kv_check, nullptr},
};

}  // namespace

OpTable kv_transfer_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
