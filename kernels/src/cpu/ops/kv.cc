// kv_append, kv_gather, kv_read: row copies through the page tables. Bit-exact; no arithmetic.
#include "cpu/builtin.h"
#include "cpu/ops/args.h"
#include "cpu/ops/kv_append.h"
#include "cpu/ops/kv_rows.h"

namespace accel::cpu {

// ---- kv_append  kv:kv, k:tensor[T,Hk,d], v:tensor[T,Hk,d], positions:tensor i32[T], lens:ints[B]
// Row i of sequence b's part goes to row n - lens[b] + i of every head, where n is that head's row count.

void check_append(Checker& check, const accel_call* call, const AppendArgs& at) {
  check.kv(at.kv, "kv", -1);
  if (!check.ok()) return;
  const accel_kv& kv = *call->args[at.kv].kv;
  const accel_ints lens = call->args[at.lens].ints;
  check.require(lens.size == kv.sequences, "ERR_ACCEL_SHAPE", "lens has %lld entries but kv has %d sequences",
                (long long)lens.size, kv.sequences);
  int64_t total = 0;
  for (int64_t b = 0; check.ok() && b < lens.size; ++b) {
    check.require(lens.data[b] >= 0, "ERR_ACCEL_ARGUMENT", "lens[%lld] is %d", (long long)b, lens.data[b]);
    total += lens.data[b];
    for (int h = 0; h < kv.heads; ++h) {
      const int rows = kv.head[b * kv.heads + h].rows;
      check.require(rows >= lens.data[b], "ERR_ACCEL_ARGUMENT",
                    "lens[%lld] is %d but head %d of that sequence has room for %d rows; reserve them first",
                    (long long)b, lens.data[b], h, rows);
    }
  }
  check.kv_dtype(at.k, "k", at.kv, "kv").kv_dtype(at.v, "v", at.kv, "kv").dtype(at.positions, "positions", {Type::i32});
  check.shape(at.k, "k", "[T,Hk,d]", {total, kv.heads, kv.head_dim});
  check.shape(at.v, "v", "[T,Hk,d]", {total, kv.heads, kv.head_dim});
  check.shape(at.positions, "positions", "[T]", {total});
}

void append_rows(const accel_call* call, const AppendArgs& at) {
  const accel_kv& kv = *call->args[at.kv].kv;
  const accel_ints lens = call->args[at.lens].ints;
  const uint8_t* k = data<uint8_t>(tensor(call, at.k));
  const uint8_t* v = data<uint8_t>(tensor(call, at.v));
  const int32_t* positions = data<int32_t>(tensor(call, at.positions));
  const int64_t row = (int64_t)kv.head_dim * type_bytes(type_of(kv.dtype));
  int64_t first = 0;
  for (int b = 0; b < kv.sequences; ++b) {
    const int64_t count = lens.data[b];
    parallel(call, count * kv.heads, grain_for(kv.head_dim / 4), [&](int64_t begin, int64_t end, int) {
      while (begin < end) {
        const int h = (int)(begin / count);
        const int64_t i0 = begin - h * count, i1 = end - h * count < count ? end - h * count : count;
        const KvRows keys = kv_keys(kv, b, h), values = kv_values(kv, b, h), records = kv_records(kv, b, h);
        const int64_t base = keys.rows - count;
        for (int64_t i = i0; i < i1; ++i) {
          const int64_t from = ((first + i) * kv.heads + h) * row;
          memcpy(keys.row(base + i), k + from, (size_t)row);
          memcpy(values.row(base + i), v + from, (size_t)row);
        }
        if (records.row_bytes > 0) records.runs(base + i0, base + i1, [&](int64_t r, int64_t n, uint8_t* to) {
          if (kv.tallies == 0) {
            memcpy(to, positions + first + (r - base), (size_t)n * 4);
            return;
          }
          memset(to, 0, (size_t)(n * records.row_bytes));  // a new row's tallies
          for (int64_t i = 0; i < n; ++i) memcpy(to + i * records.row_bytes, positions + first + (r - base) + i, 4);
        });
        begin += i1 - i0;
      }
    });
    first += count;
  }
}

namespace {

constexpr AppendArgs append_args = {0, 1, 2, 3, 4};

int kv_append_check(const accel_call* call) {
  Checker check(call, "kv_append");
  check_append(check, call, append_args);
  return check.result();
}

int kv_append(const accel_call* call) {
  append_rows(call, append_args);
  call->ran(call, "kv_append");
  return ACCEL_OK;
}

// ---- kv_gather  dst:kv, src:kv, rows:tensor i32[Hk,kmax], counts:ints[Hk]
// Row j of head h of dst becomes row rows[h][j] of src, its record too, for j < counts[h]. One sequence each; no shared
// pages.

int kv_gather_check(const accel_call* call) {
  Checker check(call, "kv_gather");
  check.kv(0, "dst", 1).kv(1, "src", 1);
  if (!check.ok()) return check.result();
  const accel_kv &dst = *call->args[0].kv, &src = *call->args[1].kv;
  const accel_ints counts = call->args[3].ints;
  check.require(type_of(dst.dtype) == type_of(src.dtype), "ERR_ACCEL_DTYPE", "dst holds %s but src holds %s",
                type_name(type_of(dst.dtype)), type_name(type_of(src.dtype)));
  check.require(dst.heads == src.heads && dst.head_dim == src.head_dim, "ERR_ACCEL_SHAPE",
                "dst has %d heads of %d channels but src has %d of %d", dst.heads, dst.head_dim, src.heads, src.head_dim);
  check.require(dst.tallies == src.tallies, "ERR_ACCEL_SHAPE", "rows of dst have %d tallies but those of src %d",
                dst.tallies, src.tallies);
  check.dtype(2, "rows", {Type::i32}).shape(2, "rows", "[Hk,kmax]", {src.heads, -1});
  check.require(counts.size == src.heads, "ERR_ACCEL_SHAPE", "counts has %lld entries but src has %d heads",
                (long long)counts.size, src.heads);
  for (int h = 0; check.ok() && h < src.heads; ++h) {
    check.require(counts.data[h] >= 0 && counts.data[h] <= check.dim(2, 1) && counts.data[h] <= dst.head[h].rows,
                  "ERR_ACCEL_ARGUMENT", "counts[%d] is %d but rows lists %lld a head and dst has room for %d", h,
                  counts.data[h], (long long)check.dim(2, 1), dst.head[h].rows);
  }
  return check.result();
}

int kv_gather(const accel_call* call) {
  const accel_kv &dst = *call->args[0].kv, &src = *call->args[1].kv;
  const accel_ints counts = call->args[3].ints;
  const int32_t* rows = data<int32_t>(tensor(call, 2));
  const int64_t width = dim(call, 2, 1);
  for (int h = 0; h < src.heads; ++h) {
    int32_t previous = -1;
    for (int64_t j = 0; j < counts.data[h]; ++j) {
      const int32_t r = rows[h * width + j];
      if (r <= previous || r >= src.head[h].rows) {
        return call->fail(call, "ERR_ACCEL_ARGUMENT",
                          "kv_gather: rows[%d][%lld] is %d after %d; they must ascend and be below src's %d rows", h,
                          (long long)j, r, previous, src.head[h].rows);
      }
      previous = r;
    }
  }
  const size_t row = (size_t)kv_keys(src, 0, 0).row_bytes, record = (size_t)kv_records(src, 0, 0).row_bytes;
  for (int h = 0; h < src.heads; ++h) {
    const KvRows k0 = kv_keys(src, 0, h), v0 = kv_values(src, 0, h), r0 = kv_records(src, 0, h);
    const KvRows k1 = kv_keys(dst, 0, h), v1 = kv_values(dst, 0, h), r1 = kv_records(dst, 0, h);
    parallel(call, counts.data[h], grain_for(src.head_dim / 4), [&](int64_t begin, int64_t end, int) {
      for (int64_t j = begin; j < end; ++j) {
        const int32_t r = rows[h * width + j];
        memcpy(k1.row(j), k0.row(r), row);
        memcpy(v1.row(j), v0.row(r), row);
        memcpy(r1.row(j), r0.row(r), record);
      }
    });
  }
  call->ran(call, "kv_gather");
  return ACCEL_OK;
}

// ---- kv_read  k:tensor?[Hk,n,d], v:tensor?[Hk,n,d], positions:tensor? i32[Hk,n], kv:kv
// n is at least every head's row count; what lies beyond a head's rows is 0 (positions: -1). Keys and values only when
// none is encoded.

int kv_read_check(const accel_call* call) {
  Checker check(call, "kv_read");
  check.kv(3, "kv", 1);
  if (!check.ok()) return check.result();
  const accel_kv& kv = *call->args[3].kv;
  const char* names[] = {"k", "v", "positions"};
  for (int i = 0; i < 3; ++i) {
    if (!check.has(i)) continue;
    if (i < 2) {
      check.kv_dtype(i, names[i], 3, "kv").shape(i, names[i], "[Hk,n,d]", {kv.heads, -1, kv.head_dim});
    } else {
      check.dtype(i, names[i], {Type::i32}).shape(i, names[i], "[Hk,n]", {kv.heads, -1});
    }
    for (int h = 0; check.ok() && h < kv.heads; ++h) {
      const int32_t encoded = i == 0 ? kv.head[h].encoded_keys : i == 1 ? kv.head[h].encoded_values : 0;
      check.require(encoded == 0, "ERR_ACCEL_ARGUMENT",
                    "%d rows of %s are encoded in head %d; read them with the codec's own op", encoded,
                    names[i], h);
      check.require(check.dim(i, 1) >= kv.head[h].rows, "ERR_ACCEL_SHAPE",
                    "%s has room for %lld rows a head but head %d has %d", names[i], (long long)check.dim(i, 1), h,
                    kv.head[h].rows);
    }
  }
  return check.result();
}

// `bytes`: of a row, those that are read.
void read_rows(const accel_call* call, uint8_t* out, int64_t n, const KvRows& from, int64_t bytes, int fill) {
  parallel(call, n, grain_for(bytes / 16), [&](int64_t begin, int64_t end, int) {
    const int64_t rows = end < from.rows ? end : from.rows;
    from.runs(begin, rows, [&](int64_t r, int64_t count, const uint8_t* p) {
      if (bytes == from.row_bytes) {
        memcpy(out + r * bytes, p, (size_t)(count * bytes));
      } else {
        for (int64_t i = 0; i < count; ++i) memcpy(out + (r + i) * bytes, p + i * from.row_bytes, (size_t)bytes);
      }
    });
    const int64_t rest = begin > from.rows ? begin : from.rows;
    if (rest < end) memset(out + rest * bytes, fill, (size_t)((end - rest) * bytes));
  });
}

int kv_read(const accel_call* call) {
  const accel_kv& kv = *call->args[3].kv;
  for (int i = 0; i < 3; ++i) {
    const accel_tensor* t = tensor(call, i);
    if (t == nullptr) continue;
    const int64_t n = t->shape[1];
    for (int h = 0; h < kv.heads; ++h) {
      const KvRows from = i == 0 ? kv_keys(kv, 0, h) : i == 1 ? kv_values(kv, 0, h) : kv_records(kv, 0, h);
      const int64_t bytes = i == 2 ? 4 : from.row_bytes;
      if (from.row_bytes == 0) {
        int32_t* out = data<int32_t>(t) + h * n;
        for (int64_t r = 0; r < n; ++r) out[r] = r < from.rows ? (int32_t)r : -1;
        continue;
      }
      read_rows(call, data<uint8_t>(t) + h * n * bytes, n, from, bytes, i == 2 ? 0xff : 0);
    }
  }
  call->ran(call, "kv_read");
  return ACCEL_OK;
}

const accel_op ops[] = {
    {"kv_append", "kv:kv+, k:tensor, v:tensor, positions:tensor, lens:ints", kv_append_check, kv_append, nullptr},
    {"kv_gather", "dst:kv, src:kv, rows:tensor, counts:ints", kv_gather_check, kv_gather, nullptr},
    {"kv_read", "k:tensor?, v:tensor?, positions:tensor?, kv:kv+", kv_read_check, kv_read, nullptr},
};

}  // namespace

OpTable kv_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
