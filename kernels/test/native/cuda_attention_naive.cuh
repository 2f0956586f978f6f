// Attention, its log-sum-exp and its column sums by the definitions, from dense fp32 copies, and how results are compared.
//
// Nothing is shared with the kernels under test: logits of a query go to memory, the softmax takes two passes, sums are
// fp64. What a query sees is written out again here.
#ifndef ACCEL_TEST_CUDA_ATTENTION_NAIVE_CUH
#define ACCEL_TEST_CUDA_ATTENTION_NAIVE_CUH

#include "cuda_attention_host.cuh"

namespace accel::test {

struct Naive {
  const float* q;                        // [T, heads, head_dim]
  const float* const* keys;              // [sequence * kv heads]
  const float* const* values;
  const int32_t* rows;                   // [sequence * kv heads]
  const int32_t* lens;
  const int32_t* ranges;                 // or null
  const uint8_t* listed;                 // [row blocks * heads, tiles]: 1 = visible; or null
  int tiles;
  int sequences, heads, kv_heads, head_dim;
  int64_t queries;
  float scale;
  bool causal;
  int window;
  int max_rows;
};

constexpr int naive_blocks = 1024, naive_threads = 128;

__device__ inline double block_sum(double x, double* shared) {
  shared[threadIdx.x] = x;
  __syncthreads();
  for (int i = naive_threads / 2; i > 0; i /= 2) {
    if (threadIdx.x < i) shared[threadIdx.x] += shared[threadIdx.x + i];
    __syncthreads();
  }
  const double sum = shared[0];
  __syncthreads();
  return sum;
}
__device__ inline double block_max(double x, double* shared) {
  shared[threadIdx.x] = x;
  __syncthreads();
  for (int i = naive_threads / 2; i > 0; i /= 2) {
    if (threadIdx.x < i) shared[threadIdx.x] = fmax(shared[threadIdx.x], shared[threadIdx.x + i]);
    __syncthreads();
  }
  const double most = shared[0];
  __syncthreads();
  return most;
}

// logits: [naive_blocks, max_rows]. out may be null.
__global__ void naive_attention(Naive p, float* logits, float* out, float* lse) {
  __shared__ double shared[naive_threads];
  float* s = logits + static_cast<int64_t>(blockIdx.x) * p.max_rows;
  for (int64_t item = blockIdx.x; item < p.queries * p.heads; item += gridDim.x) {
    const int h = static_cast<int>(item % p.heads);
    int token = static_cast<int>(item / p.heads), b = 0, row_blocks = 0;
    while (token >= p.lens[b]) {
      token -= p.lens[b];
      row_blocks += (p.lens[b] + 127) / 128;
      b++;
    }
    const int head = b * p.kv_heads + h / (p.heads / p.kv_heads), n = p.rows[head], at = n - p.lens[b] + token;
    const float *q = p.q + item * p.head_dim, *k = p.keys[head], *v = p.values[head];
    double most = -INFINITY;
    for (int j = threadIdx.x; j < n; j += naive_threads) {
      bool seen = !p.causal || j <= at;
      if (p.window > 0 && j <= at - p.window) seen = false;
      if (p.ranges != nullptr && (j < p.ranges[2 * b] || j >= p.ranges[2 * b + 1])) seen = false;
      if (p.listed != nullptr && p.listed[(static_cast<int64_t>(row_blocks + token / 128) * p.heads + h) * p.tiles + j / 128] == 0) {
        seen = false;
      }
      float x = -INFINITY;
      if (seen) {
        x = 0;
        for (int c = 0; c < p.head_dim; c++) x += q[c] * k[static_cast<int64_t>(j) * p.head_dim + c];
        x *= p.scale;
      }
      s[j] = x;
      most = fmax(most, static_cast<double>(x));
    }
    most = block_max(most, shared);
    double sum = 0;
    for (int j = threadIdx.x; j < n; j += naive_threads) {
      s[j] = most == -INFINITY ? 0 : static_cast<float>(exp(s[j] - most));
      sum += s[j];
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) lse[item] = sum == 0 ? -INFINITY : static_cast<float>(most + log(sum));
    for (int c = threadIdx.x; out != nullptr && c < p.head_dim; c += naive_threads) {
      double x = 0;
      for (int j = 0; j < n; j++) {
        if (s[j] != 0) x += static_cast<double>(s[j]) * v[static_cast<int64_t>(j) * p.head_dim + c];
      }
      out[item * p.head_dim + c] = sum == 0 ? 0 : static_cast<float>(x / sum);
    }
    __syncthreads();
  }
}

// out[h, j] of one sequence: sum over queries of exp(logit - lse), fp64.
__global__ void naive_columns(Naive p, const float* lse, double* out) {
  const int n = p.rows[0], j = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), h = blockIdx.y;
  if (j >= n) return;
  const float* k = p.keys[h / (p.heads / p.kv_heads)] + static_cast<int64_t>(j) * p.head_dim;
  double sum = 0;
  for (int64_t i = 0; i < p.queries; i++) {
    if (j > n - p.queries + i || lse[i * p.heads + h] == -INFINITY) continue;
    const float* q = p.q + (i * p.heads + h) * p.head_dim;
    float x = 0;
    for (int c = 0; c < p.head_dim; c++) x += q[c] * k[c];
    sum += exp(static_cast<double>(x) * p.scale - lse[i * p.heads + h]);
  }
  out[static_cast<int64_t>(h) * n + j] = sum;
}

// ---- comparison

constexpr float wrong = 1e30f;

// Largest over rows of max |got - want| / max |want|; `wrong` for NaN, or if a row of zeros is not all zeros.
template <class T>
__global__ void row_error(const T* got, const float* want, int64_t rows, int width, float* worst) {
  const int lane = threadIdx.x % 32;
  for (int64_t r = blockIdx.x * 8ll + threadIdx.x / 32; r < rows; r += gridDim.x * 8ll) {
    float off = 0, size = 0;
    for (int c = lane; c < width; c += 32) {
      const float x = cuda::to_float(got[r * width + c]), y = want[r * width + c];
      const float d = x == y ? 0 : fabsf(x - y);
      off = d <= wrong ? fmaxf(off, d) : wrong;
      size = fmaxf(size, fabsf(y));
    }
    for (int i = 16; i > 0; i /= 2) {
      off = fmaxf(off, __shfl_xor_sync(~0u, off, i));
      size = fmaxf(size, __shfl_xor_sync(~0u, size, i));
    }
    const float error = off == 0 ? 0 : off == wrong || size == 0 ? wrong : off / size;
    if (lane == 0) atomicMax(reinterpret_cast<int*>(worst), __float_as_int(error));
  }
}

// Largest |got - want|; -inf must be -inf.
__global__ void absolute_error(const float* got, const float* want, int64_t n, float* worst) {
  for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll) {
    const float d = got[i] == want[i] ? 0 : fabsf(got[i] - want[i]);
    atomicMax(reinterpret_cast<int*>(worst), __float_as_int(d <= wrong ? d : wrong));
  }
}

inline float read_worst(Buffer<float>& worst) {
  CUDA(cudaDeviceSynchronize());
  const float x = worst.host()[0];
  CUDA(cudaMemset(worst.data, 0, sizeof(float)));
  return x;
}
inline float error_of_rows(accel_dtype dtype, const void* got, const float* want, int64_t rows, int width,
                           Buffer<float>& worst) {
  cuda::with_float(dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    row_error<T><<<512, 256>>>(static_cast<const T*>(got), want, rows, width, worst.data);
    return 0;
  });
  return read_worst(worst);
}
inline float error_of_numbers(const float* got, const float* want, int64_t n, Buffer<float>& worst) {
  absolute_error<<<512, 256>>>(got, want, n, worst.data);
  return read_worst(worst);
}

// Whether all bytes from `data` on are still poison.
inline bool untouched(const uint8_t* data, size_t bytes) {
  std::vector<uint8_t> host(bytes);
  CUDA(cudaMemcpy(host.data(), data, bytes, cudaMemcpyDeviceToHost));
  return std::all_of(host.begin(), host.end(), [](uint8_t b) { return b == 0xff; });
}

}  // namespace accel::test
#endif
