// embedding, swiglu, add, cast, gather_rows; rmsnorm and count_nonfinite have files of their own. All are bound by
// memory, or in a decode step by the launch: 16-byte accesses, one pass, nothing else. Semantics: cpu/ops/elementwise.cc.
//
//   swiglu   silu(gate) * up in fp32, rounded once (Shazeer 2020, arXiv:2002.05202)
//
// The kernels of a decode step are launched to overlap with their predecessor's tail (accel/cuda.cuh). cast is not: it
// makes weights, which later kernels may read before they wait.
#include "cuda/ops/elementwise.h"

#include "cuda/kernels.h"
#include "cuda/ops/vectors.cuh"

namespace accel::cuda {
namespace {

// ---- out[i] = f(a[i], b[i])

struct Add {
  static constexpr bool binary = true;
  template <class T>
  static __device__ float apply(float a, float b) { return a + b; }
};

struct Swiglu {
  static constexpr bool binary = true;
  template <class T>
  static __device__ float apply(float gate, float up) {
    // The fast functions are off by a few 2^-22, far below what 16 bits hold; with expf this kernel would be bound by
    // instructions.
    if constexpr (sizeof(T) == 2) return __fdividef(gate, 1.f + __expf(-gate)) * up;
    return gate / (1.f + expf(-gate)) * up;
  }
};

struct Same {
  static constexpr bool binary = false;
  template <class T>
  static __device__ float apply(float a, float) { return a; }
};

template <class F, int N, bool kOverlap, class Out, class In>
__global__ void __launch_bounds__(256) map(Out* out, const In* a, const In* b, int64_t n) {
  if constexpr (kOverlap) {
    pdl_release();
    pdl_wait();
  }
  const int64_t first = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t packs = n / N;
  for (int64_t i = first; i < packs; i += step) {
    const Pack<In, N> x = load_pack<N>(a + i * N);
    Pack<In, N> y = x;
    if constexpr (F::binary) y = load_pack<N>(b + i * N);
    Pack<Out, N> z;
#pragma unroll
    for (int k = 0; k < N; k++) z.v[k] = from_float<Out>(F::template apply<Out>(to_float(x.v[k]), to_float(y.v[k])));
    store_pack<N>(out + i * N, z);
  }
  for (int64_t i = packs * N + first; i < n; i += step) {
    const float y = F::binary ? to_float(b[i]) : 0.f;
    out[i] = from_float<Out>(F::template apply<Out>(to_float(a[i]), y));
  }
}

template <class F, class Out, class In>
int run_map(const accel_call* call, Out* out, const In* a, const In* b, int64_t n, const char* name) {
  call->ran(call, name);
  if (n == 0) return ACCEL_OK;
  // Pairs of different sizes move as many elements as fill 16 bytes of the smaller type.
  using Small = std::conditional_t<(sizeof(In) < sizeof(Out)), In, Out>;
  return with_pack<Small>(aligned({out, a, b}, {}, 16), [&](auto count) {
    constexpr int N = count;
    const int grid = grid_for(call, divide_up(n, N), 256);
    if constexpr (F::binary) {
      launch_pdl(call, map<F, N, true, Out, In>, dim3(grid), dim3(256), 0, out, a, b, n);
    } else {
      map<F, N, false, Out, In><<<grid, 256, 0, stream_of(call)>>>(out, a, b, n);
    }
    return launched(call);
  });
}

template <class F>
int run_binary(const accel_call* call, const char* name) {
  const int64_t n = elements(tensor(call, 1));
  return with_float(tensor(call, 1)->dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    return run_map<F, T, T>(call, data<T>(tensor(call, 0)), data<T>(tensor(call, 1)), data<T>(tensor(call, 2)), n,
                            name);
  });
}

int swiglu(const accel_call* call) { return run_binary<Swiglu>(call, "swiglu"); }
int add(const accel_call* call) { return run_binary<Add>(call, "add"); }

int cast(const accel_call* call) {
  const accel_tensor *out = tensor(call, 0), *x = tensor(call, 1);
  return with_float(out->dtype, [&](auto* to) {
    return with_float(x->dtype, [&](auto* from) {
      using Out = std::remove_pointer_t<decltype(to)>;
      using In = std::remove_pointer_t<decltype(from)>;
      return run_map<Same, Out, In>(call, data<Out>(out), data<In>(x), nullptr, elements(x), "cast");
    });
  });
}

// ---- rows by index: embedding, gather_rows

struct IdCheck {
  accel_device_error* error;
  int32_t number;
};

// Which rows: those listed in device memory or, without a list, consecutive ones.
struct RowList {
  const int32_t* ids;
  int32_t first;
};

// Block x copies row x of the list; an id outside the table is reported and gives zeros.
template <class Word>
__global__ void __launch_bounds__(256)
    copy_rows(Word* out, const Word* from, RowList list, int64_t from_rows, int64_t words, IdCheck check) {
  pdl_release();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int64_t id = list.ids == nullptr ? list.first + row : list.ids[row];
  const bool good = id >= 0 && id < from_rows;
  if (!good && blockIdx.y == 0 && threadIdx.x == 0) accel_report(check.error, check.number, row, id);
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.x;
  for (int64_t i = blockIdx.y * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < words; i += step) {
    out[row * words + i] = good ? from[id * words + i] : Word{};
  }
}

int run_copy_rows(const accel_call* call, uint8_t* out, const uint8_t* from, RowList list, int64_t rows,
                  int64_t from_rows, int64_t row_bytes, IdCheck check) {
  return with_word<uint8_t>({out, from}, {row_bytes}, [&](auto* e) {
    using Word = std::remove_pointer_t<decltype(e)>;
    const int64_t words = row_bytes / static_cast<int64_t>(sizeof(Word));
    const int block = block_for(words, 256);
    // Few long rows are shared by several blocks.
    const int64_t split = rows >= call->multiprocessors ? 1 : divide_up(words, block * 4);
    launch_pdl(call, copy_rows<Word>, dim3(static_cast<unsigned>(rows), static_cast<unsigned>(split < 64 ? split : 64)),
               dim3(block), 0, reinterpret_cast<Word*>(out), reinterpret_cast<const Word*>(from), list, from_rows,
               words, check);
    return launched(call);
  });
}

int embedding(const accel_call* call) {
  const accel_tensor *out = tensor(call, 0), *table = tensor(call, 2);
  const int64_t tokens = dim(call, 1, 0), row = table->shape[1] * (table->dtype.bits / 8);
  const IdCheck check = {
      call->device_error,
      call->device_check(call, "ERR_ACCEL_ARGUMENT", "embedding: ids[%lld] is %lld, outside the table's rows")};
  call->ran(call, "embedding");
  if (tokens == 0 || row == 0) return ACCEL_OK;
  return run_copy_rows(call, data<uint8_t>(out), data<uint8_t>(table), {data<int32_t>(tensor(call, 1)), 0}, tokens,
                       table->shape[0], row, check);
}

int gather_rows(const accel_call* call) {
  const accel_tensor *out = tensor(call, 0), *x = tensor(call, 1);
  const accel_ints rows = call->args[2].ints;
  const int64_t row = x->shape[0] == 0 ? 0 : elements(x) / x->shape[0] * (x->dtype.bits / 8);
  call->ran(call, "gather_rows");
  if (rows.size == 0 || row == 0) return ACCEL_OK;
  RowList list = {nullptr, rows.data[0]};
  bool consecutive = true;  // nearly always: the last tokens of a sequence. Saves a copy to the device
  for (int64_t r = 1; r < rows.size; r++) consecutive = consecutive && rows.data[r] == list.first + r;
  if (!consecutive) {
    const void* ids = call->upload(call, rows.data, static_cast<size_t>(rows.size) * sizeof(int32_t));
    list.ids = static_cast<const int32_t*>(ids);
  }
  // The list was checked against x when the op was enqueued: nothing can be reported.
  return run_copy_rows(call, data<uint8_t>(out), data<uint8_t>(x), list, rows.size, x->shape[0], row,
                       {call->device_error, 0});
}

const OpKernel kernels[] = {
    {"embedding", embedding}, {"rmsnorm", rmsnorm},         {"swiglu", swiglu},
    {"add", add},             {"cast", cast},               {"gather_rows", gather_rows},
    {"count_nonfinite", count_nonfinite},
};

}  // namespace

OpKernels elementwise_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
