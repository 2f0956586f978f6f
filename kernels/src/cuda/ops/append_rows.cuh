// Where the rows of a packed batch go when they are appended to the cache: row i of sequence b's part is row
// n - lens[b] + i of every head, n being that head's row count on the device. kv_append and rope_append share this.
#ifndef ACCEL_CUDA_OPS_APPEND_ROWS_CUH
#define ACCEL_CUDA_OPS_APPEND_ROWS_CUH

#include <vector>

#include "cuda/ops/vectors.cuh"

namespace accel::cuda {

struct Append {
  KvPages kv;
  const int32_t* begin;  // [sequences + 1] first token of each sequence; null: every sequence has one token

  // The rows counted back from the head's end that token t is: row = rows - back.
  struct Place {
    int sequence;
    int back;
  };
  __device__ Place place(int t) const {
    if (begin == nullptr) return {t, 1};
    int low = 0, high = kv.sequences;  // begin[low] <= t < begin[high]; empty sequences are never chosen
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (begin[middle] <= t) low = middle;
      else high = middle;
    }
    return {low, begin[low + 1] - t};
  }
};

// A new row's record: its position, and tallies at 0.
__device__ inline void begin_record(const KvPages& kv, const accel_kv_head& h, int row, int32_t position) {
  if (kv.record_words == 0) return;
  int32_t* record = kv.record(h, row);
  record[0] = position;
  for (int i = 1; i < kv.record_words; i++) record[i] = 0;
}

inline Append append_to(const accel_call* call, const accel_kv& kv, accel_ints lens) {
  Append append = {kv_pages(kv), nullptr};
  std::vector<int32_t> begin(static_cast<size_t>(lens.size) + 1, 0);
  bool ones = true;
  for (int64_t b = 0; b < lens.size; b++) {
    begin[b + 1] = begin[b] + lens.data[b];
    ones = ones && lens.data[b] == 1;
  }
  if (!ones) {
    append.begin = static_cast<const int32_t*>(call->upload(call, begin.data(), begin.size() * sizeof(int32_t)));
  }
  return append;
}

}  // namespace accel::cuda
#endif
