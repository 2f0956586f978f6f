#!/usr/bin/env bash
# Unpacks what tools/gpu/pack.mjs packed and runs a command in it. Needs bash, tar, and xz or python3; no network.
#
#   tools/gpu/unpack.sh test [vitest arguments]     node …/vitest.mjs run …
#   tools/gpu/unpack.sh test-gpu [arguments]        tools/gpu/test.mjs: the CUDA variants, then the native tests
#   tools/gpu/unpack.sh bench [arguments]           tools/bench/src/gpu/main.mjs …
#   tools/gpu/unpack.sh any command
#
# ACCEL_BUNDLE  folder of bundle.tar.xz and node.xz   (default: build-gpu or .device of the repository)
# ACCEL_ROOT    where to unpack                       (default: /tmp/accel)
# A bundle that is unpacked already stays. Sources of the checkout this script lies in, if any, are then laid over it,
# so that a test or a benchmark can change without packing again; dist and native code come from the bundle.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
root=${ACCEL_ROOT:-/tmp/accel}
bundle=${ACCEL_BUNDLE:-}
for folder in "$here/build-gpu" "$here/.device"; do
  if [ -z "$bundle" ] && [ -e "$folder/bundle.tar.xz" ]; then bundle=$folder; fi
done
if [ -z "$bundle" ]; then
  echo "unpack.sh: no bundle.tar.xz in $here/build-gpu or $here/.device; run node tools/gpu/pack.mjs, or set ACCEL_BUNDLE" >&2
  exit 2
fi

unxz_file() {
  if command -v xz >/dev/null; then
    xz -dc "$1"
  else
    python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer, 1 << 20)' "$1"
  fi
}

stamp=$(cat "$bundle/bundle.tar.xz" "$bundle/node.xz" | sha256sum | cut -d' ' -f1)
if [ "$(cat "$root/stamp" 2>/dev/null)" != "$stamp" ]; then
  rm -rf "$root/tree" "$root/shared" "$root/bin" "$root/stamp"
  mkdir -p "$root/bin"
  unxz_file "$bundle/bundle.tar.xz" | tar -xf - -C "$root"
  unxz_file "$bundle/node.xz" >"$root/bin/node"
  chmod +x "$root/bin/node"
  echo "$stamp" >"$root/stamp"
fi

if [ "$here" != "$root/tree" ] && [ -e "$here/package.json" ]; then
  tar -C "$here" -cf - --exclude=./.git --exclude=./.device --exclude=./shared --exclude=build-gpu --exclude=build-fixtures --exclude=build-native --exclude=build \
    --exclude=dist --exclude=node_modules --exclude=.turbo --exclude=.tools --exclude=.venv --exclude=results . |
    tar -xf - -C "$root/tree"
fi

export PATH="$root/bin:$PATH"
export ACCEL_SHARED="${ACCEL_SHARED:-$root/shared}"
# There is no cmake and no compiler for TypeScript here: the test libraries were built where the bundle was packed.
export ACCEL_FIXTURES=prebuilt
export NODE_OPTIONS="${NODE_OPTIONS:---max-old-space-size=8192}"
cd "$root/tree"
case "${1:-}" in
  '') echo "unpacked to $root/tree" ;;
  test) shift && exec node node_modules/vitest/vitest.mjs run "$@" ;;
  test-gpu) shift && exec node tools/gpu/test.mjs "$@" ;;
  bench) shift && exec node tools/bench/src/gpu/main.mjs "$@" ;;
  *) exec "$@" ;;
esac
