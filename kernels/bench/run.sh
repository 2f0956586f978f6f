#!/usr/bin/env bash
# Builds and runs the kernel benchmarks. Peers (libopenblas0, libdnnl-dev on Debian) are used when they are installed.
# ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 keeps oneDNN from using AMX, which these kernels do not have.
set -euo pipefail
cd "$(dirname "$0")/.."
threads=${ACCEL_THREADS:-$(nproc)}
cmake -S . -B build-bench -DCMAKE_BUILD_TYPE=Release -DACCEL_BENCH=ON >/dev/null
cmake --build build-bench --target gemm_bench attention_bench -j 2 >/dev/null
gemm=$(find build-bench -name gemm_bench -type f)
attention=$(find build-bench -name attention_bench -type f)
shapes=512x128x256,512x704x256,512x256x704,2048x704x256,512x4096x4096,1x4096x14336,1x14336x4096
export ONEDNN_MAX_CPU_ISA=${ONEDNN_MAX_CPU_ISA:-AVX512_CORE_BF16}
"$gemm" --threads "$threads" --dtype f32,bf16 --shapes "$shapes" --best
"$attention" "$threads" 1
