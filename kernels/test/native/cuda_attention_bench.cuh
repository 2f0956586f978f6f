// Timings of the attention kernels on random data: medians, one line each.
#ifndef ACCEL_TEST_CUDA_ATTENTION_BENCH_CUH
#define ACCEL_TEST_CUDA_ATTENTION_BENCH_CUH

#include "cuda/kernels.h"
#include "cuda_attention_host.cuh"

namespace accel::test {

// Median seconds of `runs` runs of what `enqueue` puts on the stream.
template <class F>
double median_time(CudaHost& host, int runs, F&& enqueue) {
  cudaEvent_t start, stop;
  CUDA(cudaEventCreate(&start));
  CUDA(cudaEventCreate(&stop));
  std::vector<float> times;
  for (int i = 0; i < runs; i++) {
    CUDA(cudaEventRecord(start, host.stream));
    enqueue();
    CUDA(cudaEventRecord(stop, host.stream));
    CUDA(cudaEventSynchronize(stop));
    float ms;
    CUDA(cudaEventElapsedTime(&ms, start, stop));
    times.push_back(ms);
  }
  CUDA(cudaEventDestroy(start));
  CUDA(cudaEventDestroy(stop));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] * 1e-3;
}

// The same for many short ops: `enqueue(i)` for i in [0, count) becomes one graph; seconds per op.
template <class F>
double median_time_in_graph(CudaHost& host, int runs, int count, F&& enqueue) {
  for (int i = 0; i < count; i++) enqueue(i);            // grows scratch, remembers uploads
  host.synchronize();
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  CUDA(cudaStreamBeginCapture(host.stream, cudaStreamCaptureModeRelaxed));
  for (int i = 0; i < count; i++) enqueue(i);
  CUDA(cudaStreamEndCapture(host.stream, &graph));
  CUDA(cudaGraphInstantiate(&executable, graph, 0));
  for (int i = 0; i < 2; i++) CUDA(cudaGraphLaunch(executable, host.stream));
  const double time = median_time(host, runs, [&] { CUDA(cudaGraphLaunch(executable, host.stream)); });
  CUDA(cudaGraphExecDestroy(executable));
  CUDA(cudaGraphDestroy(graph));
  return time / count;
}

inline accel_op_fn op_named(const cuda::OpKernels& table, const char* name) {
  for (int i = 0; i < table.count; i++) {
    if (strcmp(table.kernels[i].name, name) == 0) return table.kernels[i].run;
  }
  return nullptr;
}

constexpr int bench_heads = 32, bench_kv_heads = 8, bench_dim = 128;

// bf16 caches of `sequences` x n rows, as many as are needed that L2 cannot hold them, with queries and results.
struct BenchData {
  int sequences, n, queries;
  std::vector<Cache> caches;
  Buffer<__nv_bfloat16> q, out;
  Buffer<float> lse;
  std::vector<int32_t> lens, ranges;

  BenchData(int sequences, int n, int queries, bool rotate)
      : sequences(sequences),
        n(n),
        queries(queries),
        q(static_cast<size_t>(sequences) * queries * bench_heads * bench_dim),
        out(q.size),
        lse(q.size / bench_dim),
        lens(sequences, queries) {
    const int64_t bytes = 4ll * sequences * n * bench_kv_heads * bench_dim;
    const int copies = rotate ? static_cast<int>(std::max<int64_t>(1, (300 << 20) / bytes)) : 1;
    CacheShape shape{bf16, bench_dim, bench_kv_heads, 16, std::vector<int>(sequences * bench_kv_heads, n)};
    shape.dense = false;
    for (int i = 0; i < copies; i++) caches.emplace_back(shape, i + 1);
    fill_normal<<<1024, 256>>>(q.data, static_cast<float*>(nullptr), q.size, 1.0f, 7);
    CUDA(cudaMemset(lse.data, 0, lse.size * sizeof(float)));
    CUDA(cudaDeviceSynchronize());
  }
  double bytes() const { return 4.0 * sequences * n * bench_kv_heads * bench_dim; }
};

inline bool run_attention_op(CudaHost& host, BenchData& data, int copy) {
  const int64_t tokens = static_cast<int64_t>(data.sequences) * data.queries;
  TensorView out(data.out.data, bf16, {tokens, bench_heads, bench_dim}), q(data.q.data, bf16, {tokens, bench_heads, bench_dim});
  return host.run({arg(&out.tensor), arg(static_cast<const accel_tensor*>(nullptr)), arg(&q.tensor),
                   arg(&data.caches[copy % data.caches.size()].kv), arg(data.lens), arg(1 / sqrt(bench_dim)), arg(int64_t{1}),
                   arg(int64_t{0}), arg(data.ranges)},
                  op_named(cuda::attention_kernels(), "attention"));
}

inline void bench_prefill(CudaHost& host) {
  for (const int n : {4096, 8192, 16384, 32768, 65536, 131072}) {
    BenchData data(1, n, n, false);
    for (const char* kernel : {"sm80", "sm90"}) {
      setenv("ACCEL_CUDA_ATTENTION", kernel, 1);
      if (!run_attention_op(host, data, 0)) {
        printf("prefill %6d %s: %s\n", n, kernel, host.error.c_str());
        continue;
      }
      host.synchronize();
      const double time = median_time(host, n < 100000 ? 10 : 3, [&] { run_attention_op(host, data, 0); });
      const double flops = 2.0 * n * (n + 1.0) * bench_heads * bench_dim;
      printf("prefill %6d tokens, causal, %-14s %9.3f ms %7.1f TF/s\n", n, host.kernels.c_str(), time * 1e3, flops / time / 1e12);
      fflush(stdout);
    }
  }
  unsetenv("ACCEL_CUDA_ATTENTION");
}

inline void bench_decode(CudaHost& host) {
  const int shapes[][2] = {{1, 4096}, {1, 32768}, {1, 131072}, {8, 32768}};
  setenv("ACCEL_CUDA_ATTENTION", "decode", 1);
  for (const auto [sequences, n] : shapes) {
    BenchData data(sequences, n, 1, true);
    if (!run_attention_op(host, data, 0)) {
      printf("decode %d x %d: %s\n", sequences, n, host.error.c_str());
      continue;
    }
    const double time = median_time_in_graph(host, 20, static_cast<int>(std::max<size_t>(8, data.caches.size())),
                                             [&](int i) { run_attention_op(host, data, i); });
    printf("decode %d x %6d rows, %-20s %9.2f us %8.1f GB/s\n", sequences, n, host.kernels.c_str(), time * 1e6,
           data.bytes() / time / 1e9);
    fflush(stdout);
  }
  unsetenv("ACCEL_CUDA_ATTENTION");
}

// column_sums of one query (decode) and of a whole prefill, observe_scores of 32 and 64.
inline void bench_signals(CudaHost& host) {
  const struct {
    const char* op;
    int n, queries;
  } cases[] = {{"column_sums", 4096, 1},      {"column_sums", 131072, 1},     {"column_sums", 8192, 8192},
               {"column_sums", 32768, 32768}, {"column_sums", 131072, 131072}, {"observe_scores", 8192, 32},
               {"observe_scores", 131072, 32}, {"observe_scores", 131072, 64}};
  for (const auto& c : cases) {
    BenchData data(1, c.n, c.queries, c.queries == 1);
    Buffer<float> sums(static_cast<size_t>(bench_kv_heads) * c.n);
    TensorView out(sums.data, fp32, {bench_kv_heads, c.n}), q(data.q.data, bf16, {c.queries, bench_heads, bench_dim});
    TensorView lse(data.lse.data, fp32, {c.queries, bench_heads});
    const accel_op_fn op = op_named(cuda::signal_kernels(), c.op);
    const auto enqueue = [&](int i) {
      std::vector<accel_arg> args = {arg(&out.tensor), arg(&q.tensor)};
      if (strcmp(c.op, "column_sums") == 0) args.push_back(arg(&lse.tensor));
      args.insert(args.end(), {arg(&data.caches[i % data.caches.size()].kv), arg(1 / sqrt(bench_dim)), arg(int64_t{1})});
      if (strcmp(c.op, "column_sums") == 0) args.insert(args.end(), {arg(int64_t{0}), arg(data.ranges), arg(static_cast<const accel_tensor*>(nullptr))});
      args.push_back(arg(int64_t{0}));  // window
      if (!host.run(args, op)) printf("%s\n", host.error.c_str());
    };
    const bool is_short = c.queries < 1000;
    const double time = is_short ? median_time_in_graph(host, 10, 8, enqueue)
                                 : (enqueue(0), median_time(host, c.n > 100000 ? 3 : 10, [&] { enqueue(0); }));
    const double flops = (c.queries == c.n ? 1.0 : 2.0) * c.n * c.queries * bench_heads * bench_dim;
    printf("%-14s %6d queries, %6d rows %10.2f us %8.1f GB/s of keys %7.1f TF/s\n", c.op, c.queries, c.n, time * 1e6,
           data.bytes() / 2 / time / 1e9, flops / time / 1e12);
    fflush(stdout);
  }
}

}  // namespace accel::test
#endif
