// xattention_select on CUDA, and the last step of xattention_blocks. Definition: xattention_select.cc; rule:
// xattention_rule.h.
//
// A block of threads chooses one row. Nothing is sorted. Other blocks than the forced ones have keys that order them;
// with G(x) = forced + sum of those with keys above x, a block is taken iff G(its key) is below the share. G falls with
// x, so there is a least key x with that, found by halving its range some 60 times, and taken are the keys from x on.
// Sums are integers, so their order does not matter. Keys are in shared memory, or in scratch where rows are too long
// for it.
#include "xattention_rule.h"
#include "xattention_select.cuh"

namespace accel_xattention {
namespace {

using namespace accel::cuda;

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kSharedColumns = 8192;  // a million tokens; 64 KB, which every card has

struct Sum {
  __device__ int64_t operator()(int64_t a, int64_t b) const { return a + b; }
};
struct Maximum {
  __device__ int64_t operator()(int64_t a, int64_t b) const { return a > b ? a : b; }
};

// Joins a number of every thread; all get the result. Two places, used in turn, so that one barrier is enough.
class Joiner {
 public:
  __device__ explicit Joiner(int64_t (*places)[kWarps]) : places_(places) {}
  template <class F>
  __device__ int64_t operator()(int64_t x, F join) {
    for (int step = 16; step > 0; step /= 2) x = join(x, __shfl_xor_sync(~0u, x, step));
    int64_t* place = places_[turn_ ^= 1];
    if (threadIdx.x % 32 == 0) place[threadIdx.x / 32] = x;
    __syncthreads();
    x = place[0];
    for (int w = 1; w < kWarps; w++) x = join(x, place[w]);
    return x;
  }

 private:
  int64_t (*places_)[kWarps];
  int turn_ = 0;
};

// What a row is.
struct Row {
  const float* sums;
  uint32_t* mask;
  double threshold;
  int diagonal;
  bool first_chunk;
};

__device__ Row row_of(const SelectRows& rows, int64_t number) {
  Row row;
  if (rows.rules != nullptr) {
    row.sums = rows.sums + number * rows.columns;
    row.mask = rows.mask + number * rows.words;
    row.threshold = rows.thresholds[number];
    row.diagonal = min(max(rows.rules[2 * number], 0), rows.columns - 1);  // data: not to be trusted
    row.first_chunk = rows.rules[2 * number + 1] != 0;
    return row;
  }
  const int64_t head = number / rows.blocks, i = number % rows.blocks, block = rows.first_block + i;
  row.sums = rows.sums + (head * rows.sum_blocks + rows.sums_first + i) * rows.columns;
  row.mask = rows.mask + (block * rows.heads + head) * rows.words;
  row.threshold = rows.thresholds[head];
  row.diagonal = static_cast<int>(rows.offset + block);
  row.first_chunk = row.diagonal < rows.first_chunk;
  return row;
}

__global__ void __launch_bounds__(kThreads) choose_rows(const SelectRows rows, uint64_t* spill) {
  extern __shared__ uint64_t shared_keys[];
  __shared__ int64_t places[2][kWarps];
  const Row row = row_of(rows, blockIdx.x);
  const int d = row.diagonal;
  uint64_t* keys = spill == nullptr ? shared_keys : spill + static_cast<int64_t>(blockIdx.x) * rows.columns;
  Joiner all(places);

  int64_t part = 0, forced = 0;
  uint64_t largest = 0;
  for (int j = threadIdx.x; j <= d; j += kThreads) {
    const int64_t a = fixed_point(row.sums[j]);
    const bool is_forced = j == d || (j == 0 && !row.first_chunk);
    // 0 orders below every other key, and adds nothing. Only a thread that wrote a key reads it.
    const uint64_t key = is_forced ? 0 : key_of(a, j);
    keys[j] = key;
    part += a;
    if (is_forced) forced += a;
    largest = key > largest ? key : largest;
  }
  const int64_t total = all(part, Sum());
  forced = all(forced, Sum());
  largest = static_cast<uint64_t>(all(static_cast<int64_t>(largest), Maximum()));

  uint64_t from = largest + 1;  // the least key that is taken
  if (below(forced, row.threshold, total)) {
    uint64_t low = 1;
    from = largest;
    while (low < from) {  // the same in every thread
      const uint64_t middle = low + (from - low) / 2;
      int64_t above = 0;
      for (int j = threadIdx.x; j <= d; j += kThreads) {
        if (keys[j] > middle) above += sum_of(keys[j]);
      }
      above = all(above, Sum());
      if (below(forced + above, row.threshold, total)) {
        from = middle;
      } else {
        low = middle + 1;
      }
    }
  }
  if (from == 0) from = 1;  // there are no others
  if (row.first_chunk && below(0, row.threshold, total)) {
    uint64_t next = 0;
    for (int j = threadIdx.x; j <= d; j += kThreads) {
      if (keys[j] < from && keys[j] > next) next = keys[j];
    }
    next = static_cast<uint64_t>(all(static_cast<int64_t>(next), Maximum()));
    if (next > 0) from = next;
  }

  int64_t kept = 0;
  for (int base = 0; base < rows.words * 32; base += kThreads) {
    const int j = base + static_cast<int>(threadIdx.x);
    bool taken = false;
    if (j <= d) {
      const uint64_t key = keys[j];
      taken = j == 0 || j == d || key >= from;
      // Forced blocks are in `forced`.
      if (taken) kept += sum_of(key);
    }
    const uint32_t word = __ballot_sync(~0u, taken);
    if (threadIdx.x % 32 == 0 && j / 32 < rows.words) row.mask[j / 32] = word;
  }
  kept = all(kept, Sum());
  if (threadIdx.x == 0) {
    const double recall = static_cast<double>(forced + kept) / static_cast<double>(total);
    if (rows.rules != nullptr) {
      rows.recall32[blockIdx.x] = static_cast<float>(recall);
    } else {
      rows.recall[blockIdx.x / rows.blocks * static_cast<int64_t>(rows.row_blocks) + rows.first_block +
                  blockIdx.x % rows.blocks] = recall;
    }
  }
}

}  // namespace

int select_rows(const accel_call* call, const SelectRows& rows, int64_t count) {
  if (count == 0) return ACCEL_OK;
  const bool fits = rows.columns <= kSharedColumns;
  const size_t bytes = static_cast<size_t>(rows.columns) * sizeof(uint64_t);
  uint64_t* spill = fits ? nullptr : static_cast<uint64_t*>(call->scratch(call, bytes * static_cast<size_t>(count)));
  if (fits && bytes > 32768) {  // more than any kernel may have without asking, with what it has besides
    cudaFuncSetAttribute(choose_rows, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedColumns * sizeof(uint64_t));
  }
  choose_rows<<<static_cast<unsigned>(count), kThreads, fits ? bytes : 0, stream_of(call)>>>(rows, spill);
  return launched(call);
}

int select_cuda(const accel_call* call) {
  const accel_tensor* sums = call->args[kSelectSums].tensor;
  SelectRows rows = {};
  rows.sums = data<float>(sums);
  rows.thresholds = data<double>(call->args[kSelectThresholds].tensor);
  rows.columns = static_cast<int>(sums->shape[1]);
  rows.words = static_cast<int>(ceil_div(rows.columns, 32));
  rows.rules = data<int32_t>(call->args[kSelectRules].tensor);
  rows.recall32 = data<float>(call->args[kSelectRecall].tensor);
  rows.mask = data<uint32_t>(call->args[kSelectMask].tensor);
  call->ran(call, "xattention_select");
  return select_rows(call, rows, sums->shape[0]);
}

}  // namespace accel_xattention
