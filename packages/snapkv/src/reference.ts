import type { Pool } from './pool.js';

/**
 * `snapkv_pool` in plain TypeScript, to read and to test the kernel with: both give the same bits, because every sum
 * is made in column order and rounded to float32 after each addition.
 *
 * @param scores `[heads, rows]`
 * @returns `[heads, rows]`; columns from `prefix` on are +∞
 */
export function referencePool(
  scores: Float32Array,
  heads: number,
  prefix: number,
  pool: Pool,
): Float32Array {
  const rows = scores.length / heads;
  const reach = (pool.size - 1) / 2;
  const out = new Float32Array(scores.length).fill(Infinity);
  for (let head = 0; head < heads; head++) {
    for (let column = 0; column < prefix; column++) {
      const begin = head * rows + Math.max(0, column - reach);
      const end = head * rows + Math.min(prefix, column + reach + 1);
      const near = scores.subarray(begin, end);
      out[head * rows + column] =
        pool.kind === 'max'
          ? Math.max(...near)
          : near.reduce((sum, score) => Math.fround(sum + score), 0) / pool.size;
    }
  }
  return out;
}
