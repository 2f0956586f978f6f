// The op ABI: how a package brings its own kernels.
//
// A package builds a plain shared library that exports one function, `accel_op_library_get`. It returns a table of
// ops; each op has a name, a signature, a check that runs when the op is enqueued, and one function per device.
// The library knows neither Node nor the rest of the runtime. The built-in ops of @accel/kernels use the same table.
//
//   check  runs on the caller's thread before the op is enqueued. It sees shapes, dtypes and scalars, never data, and
//          is the one place where arguments are validated. It returns ACCEL_OK or calls `fail`.
//   cpu    runs on the stream's worker thread. It may use `parallel` and `scratch`. Data pointers are host memory.
//   cuda   runs on the stream's worker thread and only launches work on `stream`. NULL = not available. It never waits
//          for the device, never reads device data and takes memory only from `scratch` and `upload`, so that the
//          runtime may capture it into a graph. Device code helpers are in accel/cuda.cuh.
//
// Signature grammar: "name:type, name:type" with type = tensor | tensor? | int | float | ints | kv | kv+.
// By convention outputs come first. A `tensor?` may be absent: its `tensor` pointer is then NULL. A `kv+` may have rows
// that a codec has encoded; an op that takes a plain `kv` is never given such rows.
#ifndef ACCEL_OP_H
#define ACCEL_OP_H

#include <stddef.h>
#include <stdint.h>

#include "accel/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ACCEL_OP_ABI 4u
#define ACCEL_OK 0
#define ACCEL_FAILED 1

#if defined(_WIN32)
#define ACCEL_EXPORT __declspec(dllexport)
#else
#define ACCEL_EXPORT __attribute__((visibility("default")))
#endif

typedef enum accel_arg_kind {
  ACCEL_ARG_TENSOR = 1,
  ACCEL_ARG_INT = 2,
  ACCEL_ARG_FLOAT = 3,
  ACCEL_ARG_INTS = 4,
  ACCEL_ARG_KV = 5
} accel_arg_kind;

// A list of host integers, for example tokens per sequence. Copied when the op is enqueued.
typedef struct accel_ints {
  const int32_t* data;
  int64_t size;
} accel_ints;

// Rows of one (sequence, layer, kv head). Rows are ordered by position. Row r lives in slot
//   s(r) = r < gap_at ? r : r + gap
// and slot s lives in page pages[s / rows_per_page] at row s % rows_per_page of that page. Keys, values and records
// have page lists of their own, with the same slots. The gap lets rows leave in front of the newest ones in O(1).
//
// A codec may hold the oldest keys and values in a format of its own. Keys of rows [0, encoded_keys) are encoded, in items
// (accel_kv_items) that form a stream of bytes through their pages: byte x is byte x % page_bytes of page
// encoded_key_pages[x / page_bytes]. Keys of rows [plain_keys, rows) are plain, in the slots above. While an op encodes,
// rows [plain_keys, encoded_keys) are there in both forms: those it reads and those it writes. Otherwise the two numbers
// are equal. The same for values; the two boundaries may differ. A head with encoded rows has no gap. Until a sequence is
// encoded for the first time there is no header either, and the two lists are NULL.
typedef struct accel_kv_head {
  const int32_t* key_pages;
  const int32_t* value_pages;
  const int32_t* record_pages;
  const int32_t* encoded_key_pages;
  const int32_t* encoded_value_pages;
  int32_t rows;
  int32_t gap_at;
  int32_t gap;
  int32_t plain_keys;
  int32_t plain_values;
  int32_t encoded_keys;
  int32_t encoded_values;
} accel_kv_head;

// How a codec lays out encoded rows: after a header, item i holds rows [i * rows, (i + 1) * rows). All bytes are multiples
// of 16, so that a piece of 16 bytes never lies in two pages. What is inside is the codec's own affair.
typedef struct accel_kv_items {
  int32_t rows;                    // 0: there are none
  int32_t bytes;
  int32_t header;
} accel_kv_items;

// One layer's cache for a batch of sequences. Page p starts at base + p * page_bytes. A key or value row is head_dim
// elements of dtype. A row's record is its original position, one int32, and `tallies` float32 numbers that follow the
// row wherever it goes (attention received so far, say): record_bytes = 4 * (1 + tallies). Where no row ever leaves,
// there are no records (record_bytes 0) and the position of row r is r.
typedef struct accel_kv {
  uint8_t* base;
  int64_t page_bytes;
  accel_dtype dtype;
  int32_t head_dim;
  int32_t sequences;
  int32_t heads;
  int32_t rows_per_page;           // keys and values
  int32_t records_per_page;
  int32_t record_bytes;
  int32_t tallies;
  accel_kv_items encoded_key;
  accel_kv_items encoded_value;
  const accel_kv_head* head;       // [sequences * heads], sequence major; host memory
  // CUDA only. The same array in device memory, its page lists too. A launch may be captured into a graph and replayed
  // with other rows: kernels take counts from device_head, and grids are chosen by row_limit, which no head exceeds.
  const accel_kv_head* device_head;
  int32_t row_limit;
} accel_kv;

// What kernels write data errors to: the first one wins. See `device_check` and accel_report in accel/cuda.cuh.
typedef struct accel_device_error {
  int32_t check;                   // 0: nothing was wrong
  int32_t reserved;
  int64_t index;
  int64_t value;
} accel_device_error;

typedef struct accel_arg {
  accel_arg_kind kind;
  union {
    const accel_tensor* tensor;
    int64_t i;
    double f;
    accel_ints ints;
    const accel_kv* kv;
  };
} accel_arg;

typedef void (*accel_range_fn)(void* user, int64_t begin, int64_t end, int32_t worker);

// What an op may ask of the runtime.
typedef struct accel_call {
  const accel_arg* args;           // in the order of the signature
  int32_t nargs;
  int32_t threads;                 // worker ids passed to accel_range_fn are in [0, threads)
  accel_device device;
  void* stream;                    // cudaStream_t on CUDA, NULL on CPU
  void* host;                      // opaque
  // Splits [0, n) into ranges of at least `grain` and runs fn on all threads; returns when all are done. A thread may
  // get several ranges, in any order. CPU only.
  void (*parallel)(const struct accel_call* call, int64_t n, int64_t grain, accel_range_fn fn, void* user);
  // Uninitialised memory of the device, 64-byte aligned (CUDA: 256), for this op alone: on the CPU valid until the op
  // returns, on CUDA for what the op launches. Several calls give separate blocks. Never NULL: when there is no memory
  // the op ends there and the stream reports it. Not from inside `parallel`.
  void* (*scratch)(const struct accel_call* call, size_t bytes);
  // Records which kernel ran, for receipts. `name` must be a string literal.
  void (*ran)(const struct accel_call* call, const char* name);
  // Reports an error. `code` is a code of AccelError ("ERR_ACCEL_SHAPE", ...); always returns ACCEL_FAILED.
  int (*fail)(const struct accel_call* call, const char* code, const char* format, ...);
  // CUDA only. A copy of host memory (a few KB: lengths, work lists) on the device, for what this op launches.
  const void* (*upload)(const struct accel_call* call, const void* host, size_t bytes);
  // CUDA only. Announces what a kernel may find wrong with the data. `code` and `format` are string literals; `format`
  // takes two %lld, an index and a value. Returns the number that the kernel passes to accel_report with
  // `device_error`; the stream then fails with this message at the next synchronize or read.
  int32_t (*device_check)(const struct accel_call* call, const char* code, const char* format);
  accel_device_error* device_error;
  int32_t capability;              // CUDA only: compute capability, 90 for 9.0
  int32_t multiprocessors;         // CUDA only
} accel_call;

typedef int (*accel_op_fn)(const accel_call* call);

typedef struct accel_op {
  const char* name;
  const char* signature;
  accel_op_fn check;               // may be NULL: nothing to check beyond the signature
  accel_op_fn cpu;
  accel_op_fn cuda;
} accel_op;

typedef struct accel_op_library {
  uint32_t abi;                    // ACCEL_OP_ABI the library was built with
  const char* name;
  const char* version;
  int32_t count;
  const accel_op* ops;
} accel_op_library;

// Exported by every op library. It returns its table whatever the host's ABI is; the host compares `abi` and reports
// both versions when they differ.
typedef const accel_op_library* (*accel_op_library_get_fn)(uint32_t host_abi);

#ifdef __cplusplus
}
#endif
#endif
