#!/usr/bin/env bash
# Builds the standalone CUDA test programs with nvcc alone, without CMake: kernels/test/native/build-cuda.sh FOLDER [NAME ...]
#
# NAME is attention, gemm, select, ... (cuda_NAME_test.cu); default: every program that is there. ARCH=80 builds for
# another architecture than 90a; NVCC names the compiler.
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '2,5s/^# \{0,1\}//p' "$0"
  exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
arch=${ARCH:-90a}
flags=(-std=c++20 -O3 --extended-lambda --expt-relaxed-constexpr -Xcompiler=-Wall
  -gencode "arch=compute_${arch},code=sm_${arch}" -Isrc -Iinclude -Itest/native)

# What each program links besides itself.
sources() {
  case $1 in
    attention | columns) echo src/cuda/attention/*.cu src/cuda/ops/signals*.cu ;;
    gemm) echo src/cuda/gemm/*.cu $(ls src/cuda/gemm/*.cc 2>/dev/null) ;;
    select) echo src/cuda/ops/select.cu src/cuda/ops/sample.cu ;;
    tally) echo src/cuda/ops/tallies.cu src/cuda/ops/kv_remove.cu ;;
    sm90) echo src/cuda/attention/prefill_sm90.cu ;;
    *) ;;
  esac
}

if [ $# -eq 0 ]; then
  for program in test/native/cuda_*_test.cu; do
    name=${program##*/cuda_}
    set -- "$@" "${name%_test.cu}"
  done
fi
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
for name in "$@"; do
  list=("test/native/cuda_${name}_test.cu")
  for source in $(sources "$name"); do list+=("$source"); done
  linked=()
  for source in "${list[@]}"; do
    object="$objects/${source//\//_}.o"
    [ -e "$object" ] || "${NVCC:-nvcc}" "${flags[@]}" -c "$source" -o "$object"
    linked+=("$object")
  done
  "${NVCC:-nvcc}" "${flags[@]}" "${linked[@]}" -ldl -o "$folder/cuda_${name}_test"
  echo "$folder/cuda_${name}_test"
done
