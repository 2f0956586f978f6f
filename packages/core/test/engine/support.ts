import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Folder with goldens and models that are not part of the repository. */
export const shared =
  process.env['ACCEL_SHARED'] ?? fileURLToPath(new URL('../../../../../shared', import.meta.url));

/** Why tests over {@link shared} do not run, or false. */
export const missing = existsSync(join(shared, 'golden'))
  ? false
  : `no goldens at ${shared} (set ACCEL_SHARED to their folder)`;

export const needleDir = fileURLToPath(new URL('../../../needle/model', import.meta.url));

/** float32 and int32 tensors of a small safetensors file, by a reader that shares nothing with the one under test. */
export function readGolden(
  file: string,
): Map<string, { shape: number[]; data: Float32Array | Int32Array }> {
  const bytes = readFileSync(file);
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerLength)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, { shape: number[]; data: Float32Array | Int32Array }>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (dtype !== 'F32' && dtype !== 'I32') continue;
    const [begin, end] = data_offsets;
    const copy = bytes.buffer.slice(
      bytes.byteOffset + 8 + headerLength + begin,
      bytes.byteOffset + 8 + headerLength + end,
    );
    tensors.set(name, {
      shape,
      data: dtype === 'F32' ? new Float32Array(copy) : new Int32Array(copy),
    });
  }
  return tensors;
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs((a[i] as number) - (b[i] as number));
    if (!(difference <= worst)) worst = difference;
  }
  return worst;
}

/** Deterministic token ids below `vocab`. */
export function someTokens(count: number, vocab: number, seed = 1): Int32Array {
  let state = seed;
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % vocab;
  });
}
