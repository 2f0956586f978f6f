import type { Protection } from './norms.js';

/**
 * `l2compress_scores` in plain TypeScript and double precision, to read and to test the kernel with.
 *
 * @param keys `[heads, rows, dim]`
 * @returns `[heads, rows]`: minus the squared norms, +∞ for protected rows
 */
export function referenceScores(
  keys: Float32Array,
  heads: number,
  dim: number,
  { sink, recent }: Protection,
): Float64Array {
  const rows = keys.length / (heads * dim);
  return Float64Array.from({ length: heads * rows }, (_, at) => {
    const row = at % rows;
    if (row < sink || row >= rows - recent) return Infinity;
    return 0 - keys.subarray(at * dim, (at + 1) * dim).reduce((sum, x) => sum + x * x, 0);
  });
}

/** Row numbers of the `count` best scores of one head, ascending; of equal scores the older row is better. */
export function referenceKeep(scores: ArrayLike<number>, count: number): number[] {
  return Array.from(scores, (score, row) => ({ score, row }))
    .sort((a, b) => b.score - a.score || a.row - b.row)
    .slice(0, count)
    .map(({ row }) => row)
    .sort((a, b) => a - b);
}
