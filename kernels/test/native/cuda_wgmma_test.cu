// Proves the layouts behind the Hopper attention kernel on the device: TMA boxes with the 128-byte swizzle, k-major and
// mn-major wgmma descriptors, A operands from registers, and zeros for boxes that reach outside a page. All inputs are
// small integers, so every product is exact and compared bit for bit; one-hot operands show which element went where.
//   nvcc -std=c++20 -gencode arch=compute_90a,code=sm_90a -I include -I src test/native/cuda_wgmma_test.cu
#include <stdio.h>
#include <stdlib.h>

#include <functional>
#include <string>
#include <vector>

#include "cuda/attention/prefill_sm90_consumer.cuh"
#include "accel/tma.cuh"

using namespace accel::cuda;
using namespace accel::cuda::prefill;

namespace {

int failures = 0;

void report(bool good, const std::string& name, const std::string& detail = "") {
  printf("%s %s%s%s\n", good ? "ok  " : "FAIL", name.c_str(), detail.empty() ? "" : ": ", detail.c_str());
  if (!good) failures++;
}

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  exit(1);
}

template <class T>
T* upload(const std::vector<T>& host) {
  T* device = nullptr;
  must(cudaMalloc(&device, host.size() * sizeof(T)), "cudaMalloc");
  must(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  return device;
}

template <class T>
CUtensorMapDataType map_type() {
  return std::is_same_v<T, __half> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

template <int D>
struct TestShared {
  alignas(1024) uint8_t a[kTile * 128 * (D / 64)];
  alignas(1024) uint8_t b[kTile * 128 * (D / 64)];
  uint64_t full;
};

// Loads two [128, D] tiles; two warpgroups then compute 64 rows each.
template <int D>
__device__ TestShared<D>& load_tiles(const CUtensorMap* a, const CUtensorMap* b) {
  extern __shared__ __align__(1024) uint8_t memory[];
  TestShared<D>& shared = *reinterpret_cast<TestShared<D>*>(memory);
  if (threadIdx.x == 0) {
    mbarrier_init(&shared.full, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect(&shared.full, sizeof shared.a + sizeof shared.b);
    for (int i = 0; i < D / 64; i++) {
      tma_load(shared.a + i * Shared<D>::kPanel, a, &shared.full, i * 64, 0, 0, keep_in_l2());
      tma_load(shared.b + i * Shared<D>::kPanel, b, &shared.full, i * 64, 0, 0, keep_in_l2());
    }
  }
  __syncthreads();
  mbarrier_wait(&shared.full, 0);
  return shared;
}

template <int N>
__device__ void store_accumulator(const float (&d)[N], float* out) {
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
  for (int i = 0; i < N; i++) out[(row + i / 2 % 2 * 8) * (N * 2) + i / 4 * 8 + column + i % 2] = d[i];
}

// out [128, 128] = a [128, D] b [128, D] transposed
template <class T, int D>
__global__ void scores_kernel(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b,
                              float* out) {
  TestShared<D>& shared = load_tiles<D>(&a, &b);
  float s[64];
  for (int i = 0; i < 64; i++) s[i] = 1e9f + i;  // must be overwritten, not added to
  pin(s);
  wgmma_fence();
  start_scores<T, D>(s, shared_address(shared.a) + threadIdx.x / 128 * 8192, shared_address(shared.b));
  wgmma_commit();
  wgmma_wait<0>();
  pin(s);
  store_accumulator(s, out);
}

// out [128, D] = start + p [128, 128] v [128, D], p from registers
template <class T, int D>
__global__ void output_kernel(const __grid_constant__ CUtensorMap unused, const __grid_constant__ CUtensorMap v,
                              const float* p, float start, float* out) {
  TestShared<D>& shared = load_tiles<D>(&unused, &v);
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
  float s[64], o[D / 2];
  for (int i = 0; i < 64; i++) s[i] = p[(row + i / 2 % 2 * 8) * kTile + i / 4 * 8 + column + i % 2];
  for (int i = 0; i < D / 2; i++) o[i] = start;
  uint32_t terms[32];
  pack_terms<T>(terms, s);
  pin(o);
  pin(terms);
  wgmma_fence();
  start_output<T, D>(o, terms, shared_address(shared.b));
  wgmma_commit();
  wgmma_wait<0>();
  pin(o);
  pin(terms);
  store_accumulator(o, out);
}

// One box of 16 rows x 64 channels as it lies in shared memory, unswizzled.
__global__ void box_kernel(const __grid_constant__ CUtensorMap pool, int x, int row, int page, uint16_t* out) {
  __shared__ alignas(1024) uint16_t box[16 * 64];
  __shared__ uint64_t full;
  for (int i = threadIdx.x; i < 16 * 64; i += 32) box[i] = 0xffff;
  // The fill is a generic write, the copy an asynchronous one.
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  if (threadIdx.x == 0) {
    mbarrier_init(&full, 1);
    mbarrier_init_fence();
  }
  __syncwarp();
  if (threadIdx.x == 0) {
    mbarrier_arrive_expect(&full, sizeof box);
    tma_load(box, &pool, &full, x, row, page, keep_in_l2());
  }
  mbarrier_wait(&full, 0);
  for (int i = threadIdx.x; i < 16 * 64; i += 32) {
    const int r = i / 64, chunk = i % 64 / 8;
    out[i] = box[r * 64 + (chunk ^ (r & 7)) * 8 + i % 8];
  }
}

using Matrix = std::function<int(int, int)>;  // (row, column) to a small integer
int noise(int i, int j, int seed) {
  uint32_t x = (i * 7919u + j) * 2654435761u + seed * 97u;
  x ^= x >> 15;
  x *= 2246822519u;
  return static_cast<int>((x ^ x >> 13) % 9) - 4;
}

template <class T>
std::vector<T> tile(const Matrix& m, int rows, int columns) {
  std::vector<T> values(rows * columns);
  for (int i = 0; i < rows * columns; i++) values[i] = static_cast<T>(static_cast<float>(m(i / columns, i % columns)));
  return values;
}

template <class T, int D>
CUtensorMap tile_map(const void* data) {
  CUtensorMap map;
  const TensorShape shape = {const_cast<void*>(data), {D, kTile, 1}, {D * 2, kTile * D * 2}, {kTile, 1}};
  if (make_tensor_map(&map, map_type<T>(), shape) != CUDA_SUCCESS) {
    fprintf(stderr, "no tensor map\n");
    exit(1);
  }
  return map;
}

void compare(const std::string& name, const float* device, int rows, int columns, const Matrix& expected) {
  std::vector<float> got(rows * columns);
  const cudaError_t error = cudaDeviceSynchronize();
  if (error != cudaSuccess) {
    report(false, name, cudaGetErrorString(error));
    exit(1);
  }
  must(cudaMemcpy(got.data(), device, got.size() * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
  int wrong = 0;
  char detail[128] = "";
  for (int i = 0; i < rows * columns; i++) {
    const float want = static_cast<float>(expected(i / columns, i % columns));
    if (got[i] != want && wrong++ == 0) {
      snprintf(detail, sizeof detail, "first [%d,%d] is %g, not %g", i / columns, i % columns, got[i], want);
    }
  }
  report(wrong == 0, name, wrong == 0 ? "" : std::to_string(wrong) + " wrong, " + detail);
}

template <class T, int D>
void test_scores(const std::string& name, const Matrix& q, const Matrix& k) {
  T *a = upload(tile<T>(q, kTile, D)), *b = upload(tile<T>(k, kTile, D));
  float* out = upload(std::vector<float>(kTile * kTile));
  const auto kernel = scores_kernel<T, D>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(TestShared<D>));
  kernel<<<1, 256, sizeof(TestShared<D>)>>>(tile_map<T, D>(a), tile_map<T, D>(b), out);
  compare(name, out, kTile, kTile, [&](int i, int j) {
    int sum = 0;
    for (int c = 0; c < D; c++) sum += q(i, c) * k(j, c);
    return sum;
  });
}

template <class T, int D>
void test_output(const std::string& name, const Matrix& p, const Matrix& v, int start) {
  T* b = upload(tile<T>(v, kTile, D));
  float* s = upload(tile<float>(p, kTile, kTile));
  float* out = upload(std::vector<float>(kTile * D));
  const auto kernel = output_kernel<T, D>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(TestShared<D>));
  kernel<<<1, 256, sizeof(TestShared<D>)>>>(tile_map<T, D>(b), tile_map<T, D>(b), s, static_cast<float>(start), out);
  compare(name, out, kTile, D, [&](int i, int c) {
    int sum = start;
    for (int j = 0; j < kTile; j++) sum += p(i, j) * v(j, c);
    return sum;
  });
}

void test_box(const std::string& name, int x, int row, int page) {
  constexpr int kPages = 4, kRows = 16, kChannels = 128;
  std::vector<uint16_t> pool(kPages * kRows * kChannels);
  for (size_t i = 0; i < pool.size(); i++) pool[i] = static_cast<uint16_t>(i + 1);
  CUtensorMap map;
  const TensorShape shape = {
      upload(pool), {kChannels, kRows, 1 << 20}, {kChannels * 2, kRows * kChannels * 2}, {16, 1}};
  if (make_tensor_map(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, shape) != CUDA_SUCCESS) {
    report(false, name, "no tensor map");
    return;
  }
  uint16_t* out = upload(std::vector<uint16_t>(16 * 64));
  box_kernel<<<1, 32>>>(map, x, row, page, out);
  std::vector<uint16_t> got(16 * 64);
  must(cudaMemcpy(got.data(), out, got.size() * 2, cudaMemcpyDeviceToHost), "box_kernel");
  int wrong = 0;
  for (int i = 0; i < 16 * 64; i++) {
    const int r = row + i / 64;
    const bool inside = page >= 0 && r >= 0 && r < kRows;
    wrong += got[i] != (inside ? pool[(page * kRows + r) * kChannels + x + i % 64] : 0);
  }
  report(wrong == 0, name, wrong == 0 ? "" : std::to_string(wrong) + " wrong");
}

template <class T, int D>
void test_type(const std::string& type) {
  const std::string at = " " + type + " D=" + std::to_string(D);
  const auto mark = [](int i, int c) { return (i * 3 + c) % 251; };  // exact in bf16, different in rows and columns
  const auto random_a = [](int i, int j) { return noise(i, j, 1); };
  const auto random_b = [](int i, int j) { return noise(i, j, 2); };
  test_scores<T, D>("scores, one-hot queries" + at, [](int i, int c) { return c == (i * 7 + 3) % D; }, mark);
  test_scores<T, D>("scores, one-hot keys" + at, mark, [](int j, int c) { return c == (j * 5 + 1) % D; });
  test_scores<T, D>("scores, random" + at, random_a, random_b);
  test_output<T, D>("output, one-hot terms" + at, [](int i, int j) { return j == (i * 5 + 1) % kTile; }, mark, 0);
  test_output<T, D>("output, one-hot values" + at, mark, [](int j, int c) { return c == (j * 7 + 3) % D; }, 0);
  test_output<T, D>("output, random, added to" + at, random_a, random_b, 1000);
}

}  // namespace

int main() {
  cudaDeviceProp device;
  must(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  if (device.major != 9) {
    printf("skipped: wgmma needs compute capability 9.0, this is %d.%d\n", device.major, device.minor);
    return 77;
  }
  test_box("box inside a page", 64, 0, 2);
  test_box("box over the start of a page", 0, -5, 1);
  test_box("box over the end of a page", 64, 9, 3);
  test_box("box of no page", 0, 0, -1);
  test_type<__nv_bfloat16, 128>("bf16");
  test_type<__nv_bfloat16, 64>("bf16");
  test_type<__half, 128>("fp16");
  test_type<__half, 64>("fp16");
  printf(failures == 0 ? "all passed\n" : "%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
