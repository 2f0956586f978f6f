import { describeDevices, expectClose, generated, SCORES } from '@accel/testkit';
import { expect, it } from 'vitest';
import type { Pool } from '../src/pool.js';
import { selectByOps, type Prompt } from './selection.js';
import { votes } from './votes.js';

const WINDOW = 12;
const TOKENS = 180;
const CAPACITY = 60;
const POOL: Pool = { kind: 'avg', size: 5 };

/** Values that float32, bfloat16 and float16 all hold exactly: eighths. */
function prompt(heads: number, kvHeads: number, dim: number): Prompt {
  const eighths = (seed: number, count: number, scale: number): Float32Array =>
    generated(seed, count).map((x) => (Math.round(x * 16) / 8) * scale);
  return {
    queries: eighths(heads + dim, heads * WINDOW * dim, 2),
    keys: eighths(kvHeads + dim + 1000, kvHeads * TOKENS * dim, 1),
    heads,
    kvHeads,
    tokens: TOKENS,
    window: WINDOW,
    dim,
  };
}

describeDevices('SnapKV shapes', (device) => {
  const shapes = [
    { heads: 2, kvHeads: 2, dim: 64 },
    { heads: 6, kvHeads: 2, dim: 80 },
    { heads: 4, kvHeads: 1, dim: 96 },
    { heads: 8, kvHeads: 2, dim: 128 },
    { heads: 2, kvHeads: 1, dim: 256 },
  ];
  it.each(shapes)(
    'votes in float32: $heads query heads, $kvHeads kv heads, dim $dim',
    async (shape) => {
      const input = prompt(shape.heads, shape.kvHeads, shape.dim);
      for (const reduce of ['mean', 'max', 'sum'] as const) {
        const { scores } = await selectByOps(device, input, { pool: POOL, reduce }, CAPACITY);
        expectClose(scores, votes(input, reduce).flat(), SCORES, reduce);
      }
    },
  );

  it.each(
    shapes.flatMap((shape) =>
      (['bfloat16', 'float16'] as const).map((dtype) => ({ ...shape, dtype })),
    ),
  )(
    'chooses validly in $dtype: $heads query heads, $kvHeads kv heads, dim $dim',
    async ({ heads, kvHeads, dim, dtype }) => {
      const input = { ...prompt(heads, kvHeads, dim), dtype };
      const { scores, pooled, keep } = await selectByOps(
        device,
        input,
        { pool: POOL, reduce: 'mean' },
        CAPACITY,
      );
      const exact = await selectByOps(
        device,
        { ...input, dtype: 'float32' },
        { pool: POOL, reduce: 'mean' },
        CAPACITY,
      );
      const prefix = TOKENS - WINDOW;
      const error = Math.max(...scores.map((score, i) => Math.abs(score - (exact.scores[i] ?? 0))));
      for (let head = 0; head < kvHeads; head++) {
        const kept = new Set(keep[head]);
        const reference = exact.pooled.subarray(head * prefix, (head + 1) * prefix);
        const [inside, outside] = [
          [...reference.entries()].filter(([row]) => kept.has(row)),
          [...reference.entries()].filter(([row]) => !kept.has(row)),
        ];
        const least = Math.min(...inside.map(([, score]) => score));
        const most = Math.max(...outside.map(([, score]) => score));
        // A row may be swapped for another only where their scores are closer than the error of the arithmetic.
        expect(least).toBeGreaterThanOrEqual(most - 2 * error - 1e-7);
        const common = (exact.keep[head] ?? []).filter((row) => kept.has(row)).length;
        expect(common / CAPACITY).toBeGreaterThanOrEqual(0.98);
        expect(pooled.every(Number.isFinite)).toBe(true);
      }
    },
  );
});
