"""PyTorch's kernels at the shapes of Llama-3.1-8B: one JSON object a line.

Copy, GEMM (F.linear, cuBLAS), attention with the cuDNN and the flash backend of scaled_dot_product_attention.
Random normal bfloat16 data, CUDA events, median of several samples. Memory-bound shapes rotate over several buffers.
"""

import argparse
import json
import statistics

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

HIDDEN, FFN, HEADS, KV_HEADS, DIM, VOCAB = 4096, 14336, 32, 8, 128, 128256
CYCLE_BYTES = 400e6
DEVICE = "cuda"


def emit(**line):
    print(json.dumps(line), flush=True)


def normal(*shape, std=1.0):
    return torch.randn(*shape, device=DEVICE, dtype=torch.bfloat16) * std


def time_us(call, cycle, samples):
    """Microseconds of a call. Small ones are timed as a CUDA graph, so that Python does not count."""
    for i in range(cycle):
        call(i)
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call(0)
    end.record()
    torch.cuda.synchronize()
    single = begin.elapsed_time(end)
    calls = max(1, min(200, round(30 / max(single, 1e-3)))) if single > 0.4 else cycle * -(-64 // cycle)

    def work():
        for i in range(calls):
            call(i % cycle)

    replay = work
    if single <= 0.4:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        replay = graph.replay
    replay()
    times = []
    for _ in range(3 if single > 100 else samples):
        torch.cuda.synchronize()
        begin.record()
        replay()
        end.record()
        torch.cuda.synchronize()
        times.append(1000 * begin.elapsed_time(end) / calls)
    return statistics.median(times)


def copy(samples):
    source = normal(1 << 30)
    target = torch.empty_like(source)
    us = time_us(lambda _: target.copy_(source), 1, samples)
    emit(name="torch copy", shape="2 GB read, 2 GB written", us=us, gbps=2 * source.nbytes / us / 1e3)


def linear(samples):
    x, weight = normal(8192, 8192), normal(8192, 8192, std=0.02)
    us = time_us(lambda _: F.linear(x, weight), 1, samples)
    emit(name="torch linear", shape="8192³", us=us, tflops=2 * 8192**3 / us / 1e6)
    for n, k in [(HEADS * DIM, HIDDEN), (FFN, HIDDEN), (HIDDEN, FFN), (VOCAB, HIDDEN)]:
        cycle = max(2, -(-int(CYCLE_BYTES) // (2 * n * k)))
        weights = [normal(n, k, std=0.02) for _ in range(cycle)]
        for rows in [1, 8] if n == VOCAB else [1, 8, 4096]:
            x = normal(rows, k)
            us = time_us(lambda i: F.linear(x, weights[i]), cycle, samples)
            rate = (
                {"gbps": 2 * (n * k + rows * (n + k)) / us / 1e3}
                if rows <= 8
                else {"tflops": 2 * rows * n * k / us / 1e6}
            )
            emit(name="torch linear", shape=f"M={rows} N={n} K={k}", us=us, **rate)


def rmsnorm(samples):
    weight = normal(HIDDEN)
    for rows in [1, 8, 4096]:
        cycle = 6 if rows == 4096 else 1
        xs = [normal(rows, HIDDEN) for _ in range(cycle)]
        us = time_us(lambda i: F.rms_norm(xs[i], (HIDDEN,), weight, 1e-5), cycle, samples)
        emit(name="torch rms_norm", shape=f"M={rows} H={HIDDEN}", us=us, gbps=2 * xs[0].nbytes / us / 1e3)


def attention(lengths, samples):
    backends = {"cuDNN": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
    for rows in sorted({*lengths, 4096 + 37}):
        q, k, v = normal(1, HEADS, rows, DIM), normal(1, KV_HEADS, rows, DIM), normal(1, KV_HEADS, rows, DIM)
        flops = 2 * rows * rows * HEADS * DIM
        for name, backend in backends.items():
            shape = f"{rows} tokens"
            try:
                with sdpa_kernel(backend):
                    call = lambda _: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)  # noqa: E731
                    us = time_us(call, 1, samples)
                emit(name=f"torch {name} attention (prefill)", shape=shape, us=us, tflops=flops / us / 1e6)
            except RuntimeError as error:
                emit(name=f"torch {name} attention (prefill)", shape=shape, skipped=str(error).splitlines()[0])
    for batch in [1, 8]:
        for rows in [n for n in lengths if batch * n <= 1 << 18]:
            nbytes = batch * rows * KV_HEADS * DIM * 4
            cycle = max(1, -(-int(CYCLE_BYTES) // nbytes))
            q = normal(batch, HEADS, 1, DIM)
            caches = [
                (normal(batch, KV_HEADS, rows, DIM), normal(batch, KV_HEADS, rows, DIM)) for _ in range(cycle)
            ]
            shape = f"batch {batch}, {rows} rows"
            for name, backend in backends.items():
                try:
                    with sdpa_kernel(backend):
                        call = lambda i: F.scaled_dot_product_attention(q, *caches[i], enable_gqa=True)  # noqa: E731
                        us = time_us(call, cycle, samples)
                    emit(name=f"torch {name} attention (decode)", shape=shape, us=us, gbps=nbytes / us / 1e3)
                except RuntimeError as error:
                    emit(name=f"torch {name} attention (decode)", shape=shape, skipped=str(error).splitlines()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", default="4096,8192,16384,32768,65536,131072")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    lengths = [int(n) for n in args.lengths.split(",")]
    samples = 5 if args.quick else 9
    emit(name="torch", shape=torch.__version__, device=torch.cuda.get_device_name(), cuda=torch.version.cuda)
    with torch.inference_mode():
        copy(samples)
        linear(samples)
        rmsnorm(samples)
        torch.cuda.empty_cache()
        attention(lengths, samples)


if __name__ == "__main__":
    main()
