#include "cpu/ops/args.h"

#include <stdarg.h>
#include <stdio.h>

#include <string>

namespace accel::cpu {
namespace {

std::string describe(const int64_t* shape, int rank) {
  std::string s = "[";
  for (int i = 0; i < rank; ++i) s += (i ? ", " : "") + (shape[i] < 0 ? std::string("any") : std::to_string(shape[i]));
  return s + "]";
}

}  // namespace

int64_t Checker::dim(int i, int axis) const {
  const accel_tensor* t = call_->args[i].tensor;
  return t != nullptr && axis < t->ndim ? t->shape[axis] : 0;
}

Checker& Checker::require(bool good, const char* code, const char* format, ...) {
  if (!ok_ || good) return *this;
  char text[512];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  ok_ = false;
  call_->fail(call_, code, "%s: %s", op_, text);
  return *this;
}

Checker& Checker::shape(int i, const char* name, const char* letters, std::initializer_list<int64_t> want) {
  const accel_tensor* t = call_->args[i].tensor;
  bool good = t->ndim == (int)want.size();
  for (int a = 0; good && a < t->ndim; ++a) {
    const int64_t w = want.begin()[a];
    good = w < 0 || t->shape[a] == w;
  }
  if (ok_ && !good) {
    require(false, "ERR_ACCEL_SHAPE", "%s must be %s = %s, got shape %s", name, letters,
            describe(want.begin(), (int)want.size()).c_str(), describe(t->shape, t->ndim).c_str());
  }
  return *this;
}

Checker& Checker::dtype(int i, const char* name, std::initializer_list<Type> allowed) {
  const Type got = type_of(call_->args[i].tensor->dtype);
  std::string list;
  for (const Type t : allowed) {
    if (t == got) return *this;
    list += (list.empty() ? "" : " or ") + std::string(type_name(t));
  }
  return require(false, "ERR_ACCEL_DTYPE", "%s must be %s, got %s", name, list.c_str(), type_name(got));
}

Checker& Checker::same_dtype(int i, const char* name, int j, const char* other) {
  const Type a = type_of(call_->args[i].tensor->dtype), b = type_of(call_->args[j].tensor->dtype);
  return require(a == b, "ERR_ACCEL_DTYPE", "%s is %s but %s is %s; they must have the same dtype", name, type_name(a),
                 other, type_name(b));
}

Checker& Checker::same_shape(int i, const char* name, int j, const char* other) {
  const accel_tensor* a = call_->args[i].tensor;
  const accel_tensor* b = call_->args[j].tensor;
  bool good = a->ndim == b->ndim;
  for (int k = 0; good && k < a->ndim; ++k) good = a->shape[k] == b->shape[k];
  if (ok_ && !good) {
    require(false, "ERR_ACCEL_SHAPE", "%s has shape %s but %s has %s; they must be equal", name,
            describe(a->shape, a->ndim).c_str(), other, describe(b->shape, b->ndim).c_str());
  }
  return *this;
}

Checker& Checker::kv(int i, const char* name, int sequences) {
  const accel_kv* kv = call_->args[i].kv;
  const Type t = type_of(kv->dtype);
  require(is_activation(t), "ERR_ACCEL_DTYPE", "%s must hold float32, bfloat16 or float16 rows, got %s", name,
          type_name(t));
  require(kv->head_dim >= 8 && kv->head_dim <= 256 && kv->head_dim % 8 == 0, "ERR_ACCEL_SHAPE",
          "%s has head_dim %d; it must be a multiple of 8 from 8 to 256", name, kv->head_dim);
  require(kv->heads > 0 && kv->sequences > 0, "ERR_ACCEL_SHAPE", "%s has %d sequences of %d heads", name,
          kv->sequences, kv->heads);
  require(sequences < 0 || kv->sequences == sequences, "ERR_ACCEL_SHAPE", "%s has %d sequences, expected %d", name,
          kv->sequences, sequences);
  require(kv->rows_per_page > 0 && (kv->records_per_page > 0 || kv->record_bytes == 0) &&
              (int64_t)kv->rows_per_page * kv->head_dim * type_bytes(t) <= kv->page_bytes && kv->tallies >= 0 &&
              (kv->record_bytes == 0 ? kv->tallies == 0 : kv->record_bytes == 4 * (1 + kv->tallies)) &&
              kv->records_per_page * (int64_t)kv->record_bytes <= kv->page_bytes,
          "ERR_ACCEL_ARGUMENT",
          "%s: %d rows of %d x %s, or %d records with %d tallies, do not fit a page of %lld bytes", name,
          kv->rows_per_page, kv->head_dim, type_name(t), kv->records_per_page, kv->tallies, (long long)kv->page_bytes);
  if (!ok_) return *this;
  for (int h = 0; h < kv->sequences * kv->heads; ++h) {
    const accel_kv_head& head = kv->head[h];
    require(head.rows >= 0 && head.gap >= 0 && head.gap_at >= 0, "ERR_ACCEL_ARGUMENT",
            "%s: head %d has %d rows with a gap of %d at %d", name, h, head.rows, head.gap, head.gap_at);
  }
  return *this;
}

Checker& Checker::same_rows(int i, const char* name) {
  if (!ok_) return *this;
  const accel_kv* kv = call_->args[i].kv;
  for (int h = 1; h < kv->heads; ++h) {
    require(kv->head[h].rows == kv->head[0].rows, "ERR_ACCEL_SHAPE",
            "all heads of %s must have the same number of rows; head 0 has %d, head %d has %d", name, kv->head[0].rows,
            h, kv->head[h].rows);
  }
  return *this;
}

Checker& Checker::tally(int i, int kv, const char* kv_name) {
  const int64_t which = call_->args[i].i;
  const int tallies = call_->args[kv].kv->tallies;
  return require(which >= 0 && which < tallies, "ERR_ACCEL_ARGUMENT",
                 "tally %lld does not exist: rows of %s have %d; see KvShape.tallies", (long long)which, kv_name,
                 tallies);
}

Checker& Checker::window(int i) {
  return require(call_->args[i].i >= 0, "ERR_ACCEL_ARGUMENT", "window must be at least 0, got %lld",
                 (long long)call_->args[i].i);
}

Checker& Checker::ranges(int i, int64_t sequences) {
  const accel_ints list = call_->args[i].ints;
  require(list.size == 0 || list.size == 2 * sequences, "ERR_ACCEL_SHAPE",
          "ranges must be empty or [begin, end) for each of %lld sequences, got %lld numbers", (long long)sequences,
          (long long)list.size);
  for (int64_t b = 0; ok_ && 2 * b < list.size; ++b) {
    require(list.data[2 * b] >= 0 && list.data[2 * b] <= list.data[2 * b + 1], "ERR_ACCEL_ARGUMENT",
            "ranges of sequence %lld are [%d, %d)", (long long)b, list.data[2 * b], list.data[2 * b + 1]);
  }
  return *this;
}

Checker& Checker::kv_dtype(int i, const char* name, int kv, const char* kv_name) {
  const Type a = type_of(call_->args[i].tensor->dtype), b = type_of(call_->args[kv].kv->dtype);
  return require(a == b, "ERR_ACCEL_DTYPE", "%s is %s but %s holds %s; they must have the same dtype", name,
                 type_name(a), kv_name, type_name(b));
}

}  // namespace accel::cpu
