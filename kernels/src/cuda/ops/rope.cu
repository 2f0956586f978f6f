// rope_table, rope, rope_append: rotary position embedding (Su et al. 2021, arXiv:2104.09864).
//
// table [T, r/2, 2]: (cos, sin) of position * inv_freq, in fp64 and rounded once, times `scale`. Pair p of a head is
// channels (p, p + r/2), or (2p, 2p + 1) if interleaved:
//   x1' = x1 cos - x2 sin,  x2' = x2 cos + x1 sin.  Channels from r on stay as they are.
//
// One block a token. Its work is a list of items, one a thread: a pack of N pairs (or of N channels that hold N / 2
// interleaved pairs) to rotate, and for rope_append also packs of keys and values to move and records to write. A
// token of the 8B shapes is 456 items, so a decode step is one pass of one block a sequence.
#include "cuda/kernels.h"
#include "cuda/ops/append_rows.cuh"

namespace accel::cuda {
namespace {

// ---- rope_table

// A pair is stored at once where the table is on 8 bytes, which a view of a float tensor need not be.
template <bool kPaired>
__global__ void __launch_bounds__(128)
    rope_angles(float* out, const int32_t* positions, const double* inv_freq, double scale, int64_t n, int half) {
  pdl_release();
  pdl_wait();
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < n; i += step) {
    const int64_t token = i / half;
    double sine, cosine;
    sincos(positions[token] * inv_freq[i - token * half], &sine, &cosine);
    Pack<float, 2> pair = {{static_cast<float>(cosine * scale), static_cast<float>(sine * scale)}};
    if constexpr (kPaired) {
      store_pack<2>(out + 2 * i, pair);
    } else {
      out[2 * i] = pair.v[0];
      out[2 * i + 1] = pair.v[1];
    }
  }
}

int rope_table(const accel_call* call) {
  const int64_t half = dim(call, 2, 0), n = dim(call, 1, 0) * half;
  float* out = data<float>(tensor(call, 0));
  const int32_t* positions = data<int32_t>(tensor(call, 1));
  const double* inv_freq = data<double>(tensor(call, 2));
  const double scale = call->args[3].f;
  call->ran(call, "rope_table");
  if (n == 0) return ACCEL_OK;
  const auto kernel = aligned({out}, {}, 8) ? rope_angles<true> : rope_angles<false>;
  launch_pdl(call, kernel, dim3(grid_for(call, n, 128)), dim3(128), 0, out, positions, inv_freq, scale, n,
             static_cast<int>(half));
  return launched(call);
}

// ---- rotation of one item

// (cos, sin) of kPairs pairs from the p-th on. Even p and 16-byte tables: two pairs a load.
template <int kPairs, bool kWide>
__device__ inline void load_angles(const float* table, int p, float (&cosine)[kPairs], float (&sine)[kPairs]) {
  if constexpr (kWide) {
    static_assert(kPairs % 2 == 0);
#pragma unroll
    for (int k = 0; k < kPairs; k += 2) {
      const float4 a = *reinterpret_cast<const float4*>(table + 2 * (p + k));
      cosine[k] = a.x, sine[k] = a.y, cosine[k + 1] = a.z, sine[k + 1] = a.w;
    }
  } else {
#pragma unroll
    for (int k = 0; k < kPairs; k++) cosine[k] = table[2 * (p + k)], sine[k] = table[2 * (p + k) + 1];
  }
}

// The roundings are spelled out, so that rope and rope_append give the same bits however they are compiled.
template <class T>
__device__ inline void turn(float a, float b, float cosine, float sine, T& first, T& second) {
  first = from_float<T>(__fmaf_rn(a, cosine, -__fmul_rn(b, sine)));
  second = from_float<T>(__fmaf_rn(b, cosine, __fmul_rn(a, sine)));
}

// How the rotated channels of a head fall into items. N is the channels of a pack: 16 bytes, or 1.
template <int N, bool kInterleaved>
struct Rotation {
  static constexpr bool wide = N > 1;
  static constexpr int pairs = kInterleaved ? (wide ? N / 2 : 1) : N;  // of one item

  // Reads item i of the head at `from` and writes it rotated to the head at `to`, which may be the same.
  template <class T>
  static __device__ void rotate(T* to, const T* from, const float* table, int half, int i) {
    const int p = i * pairs;
    float cosine[pairs], sine[pairs];
    load_angles<pairs, wide>(table, p, cosine, sine);
    if constexpr (kInterleaved) {
      Pack<T, 2 * pairs> x;
      if constexpr (wide) {
        x = load_pack<2 * pairs>(from + 2 * p);
      } else {
        x.v[0] = from[2 * p], x.v[1] = from[2 * p + 1];
      }
#pragma unroll
      for (int k = 0; k < pairs; k++) {
        const float a = to_float(x.v[2 * k]), b = to_float(x.v[2 * k + 1]);
        turn(a, b, cosine[k], sine[k], x.v[2 * k], x.v[2 * k + 1]);
      }
      if constexpr (wide) {
        store_pack<2 * pairs>(to + 2 * p, x);
      } else {
        to[2 * p] = x.v[0], to[2 * p + 1] = x.v[1];
      }
    } else {
      Pack<T, N> x = load_pack<N>(from + p), y = load_pack<N>(from + half + p);
#pragma unroll
      for (int k = 0; k < N; k++) {
        const float a = to_float(x.v[k]), b = to_float(y.v[k]);
        turn(a, b, cosine[k], sine[k], x.v[k], y.v[k]);
      }
      store_pack<N>(to + p, x);
      store_pack<N>(to + half + p, y);
    }
  }
};

// Calls f(N, interleaved) with both as constants. Wide packs need head rows, halves and the table on 16 bytes.
template <class T, class F>
int with_rotation(std::initializer_list<const void*> addresses, int head_dim, int half, bool interleaved, F&& f) {
  const int size = static_cast<int>(sizeof(T));
  const int rotated = interleaved ? 2 * half : half;  // what must be whole packs
  const bool wide = aligned(addresses, {head_dim * size, rotated * size}, 16) && half % 2 == 0;
  return with_pack<T>(wide, [&](auto count) {
    return interleaved ? f(count, std::true_type()) : f(count, std::false_type());
  });
}

// ---- rope

template <class T, int N, bool kInterleaved>
__global__ void __launch_bounds__(256) rope_tokens(T* x, const float* table, int heads, int head_dim, int half) {
  using R = Rotation<N, kInterleaved>;
  pdl_release();
  pdl_wait();
  const int64_t token = blockIdx.x;
  x += token * heads * head_dim;
  table += token * half * 2;
  const int items = half / R::pairs;  // of one head
  for (int i = threadIdx.x; i < heads * items; i += blockDim.x) {
    const int head = i / items;
    T* at = x + static_cast<int64_t>(head) * head_dim;
    R::rotate(at, at, table, half, i - head * items);
  }
}

int rope(const accel_call* call) {
  const int64_t tokens = dim(call, 0, 0);
  const int heads = static_cast<int>(dim(call, 0, 1)), head_dim = static_cast<int>(dim(call, 0, 2));
  const int half = static_cast<int>(dim(call, 1, 1));
  const float* table = data<float>(tensor(call, 1));
  call->ran(call, "rope");
  if (tokens == 0 || heads == 0 || half == 0) return ACCEL_OK;
  return with_float(tensor(call, 0)->dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    T* x = data<T>(tensor(call, 0));
    return with_rotation<T>({x, table}, head_dim, half, call->args[2].i != 0, [&](auto count, auto interleaved) {
      using R = Rotation<decltype(count)::value, decltype(interleaved)::value>;
      const int block = block_for(static_cast<int64_t>(heads) * (half / R::pairs), 256);
      launch_pdl(call, rope_tokens<T, decltype(count)::value, decltype(interleaved)::value>,
                 dim3(static_cast<unsigned>(tokens)), dim3(block), 0, x, table, heads, head_dim, half);
      return launched(call);
    });
  });
}

// ---- rope_append  q:tensor?[T,Hq,d] in place, k:tensor[T,Hk,d], v:tensor[T,Hk,d], kv:kv, table, positions, lens

template <class T>
struct RopeAppend {
  Append to;
  T* q;
  const T* k;
  const T* v;
  const float* table;
  const int32_t* positions;
  int query_heads, head_dim, half;
};

template <class T, int N, bool kInterleaved>
__global__ void __launch_bounds__(512) rope_append_tokens(RopeAppend<T> a) {
  using R = Rotation<N, kInterleaved>;
  pdl_release();
  pdl_wait();
  const int64_t token = blockIdx.x;
  const KvPages& kv = a.to.kv;
  const int heads = kv.heads, d = a.head_dim;
  const Append::Place place = a.to.place(static_cast<int>(token));
  const float* table = a.table + token * a.half * 2;
  const T* k = a.k + token * heads * d;
  const T* v = a.v + token * heads * d;

  const int turned = a.half / R::pairs;            // items of a head: rotated,
  const int kept = (d - 2 * a.half) / N;           // moved as they are,
  const int whole = d / N;                         // and all of it
  const int q_end = a.query_heads * turned, k_end = q_end + heads * turned, rest_end = k_end + heads * kept,
            v_end = rest_end + heads * whole, end = v_end + heads;
  for (int i = threadIdx.x; i < end; i += blockDim.x) {
    if (i < q_end) {
      const int head = i / turned;
      T* at = a.q + (token * a.query_heads + head) * d;
      R::rotate(at, at, table, a.half, i - head * turned);
    } else if (i < k_end) {
      const int head = (i - q_end) / turned;
      const accel_kv_head& h = kv.at(place.sequence, head);
      T* at = reinterpret_cast<T*>(kv.key(h, h.rows - place.back));
      R::rotate(at, k + head * d, table, a.half, i - q_end - head * turned);
    } else if (i < rest_end) {
      const int head = (i - k_end) / kept, c = 2 * a.half + (i - k_end - head * kept) * N;
      const accel_kv_head& h = kv.at(place.sequence, head);
      T* at = reinterpret_cast<T*>(kv.key(h, h.rows - place.back));
      store_pack<N>(at + c, load_pack<N>(k + head * d + c));
    } else if (i < v_end) {
      const int head = (i - rest_end) / whole, c = (i - rest_end - head * whole) * N;
      const accel_kv_head& h = kv.at(place.sequence, head);
      T* at = reinterpret_cast<T*>(kv.value(h, h.rows - place.back));
      store_pack<N>(at + c, load_pack<N>(v + head * d + c));
    } else {
      const accel_kv_head& h = kv.at(place.sequence, i - v_end);
      begin_record(kv, h, h.rows - place.back, a.positions[token]);
    }
  }
}

int rope_append(const accel_call* call) {
  const accel_kv& kv = *call->args[3].kv;
  const accel_tensor *q = tensor(call, 0), *k = tensor(call, 1);
  const int64_t tokens = k->shape[0];
  call->ran(call, "rope_append");
  if (tokens == 0) return ACCEL_OK;
  return with_float(k->dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    RopeAppend<T> a = {append_to(call, kv, call->args[6].ints),
                       data<T>(q),
                       data<T>(k),
                       data<T>(tensor(call, 2)),
                       data<float>(tensor(call, 4)),
                       data<int32_t>(tensor(call, 5)),
                       q == nullptr ? 0 : static_cast<int>(q->shape[1]),
                       kv.head_dim,
                       static_cast<int>(dim(call, 4, 1))};
    const void* pages = reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(kv.base) |
                                                      static_cast<uintptr_t>(kv.page_bytes));
    return with_rotation<T>({a.q, a.k, a.v, a.table, pages}, a.head_dim, a.half, call->args[7].i != 0,
                            [&](auto count, auto interleaved) {
      constexpr int N = decltype(count)::value;
      using R = Rotation<N, decltype(interleaved)::value>;
      const int64_t items = static_cast<int64_t>(a.query_heads + kv.heads) * (a.half / R::pairs) +
                            static_cast<int64_t>(kv.heads) * ((a.head_dim - 2 * a.half) / N + a.head_dim / N + 1);
      launch_pdl(call, rope_append_tokens<T, N, decltype(interleaved)::value>, dim3(static_cast<unsigned>(tokens)),
                 dim3(block_for(items, 512)), 0, a);
      return launched(call);
    });
  });
}

const OpKernel kernels[] = {{"rope_table", rope_table}, {"rope", rope}, {"rope_append", rope_append}};

}  // namespace

OpKernels rope_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
