import { describeDevices, expectClose, generated } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import type { Pool } from '../src/pool.js';
import { selectByOps, type Prompt } from './selection.js';

const DIM = 8;
const AVG5: Pool = { kind: 'avg', size: 5 };

/** Queries and keys from the portable generator; the observed queries are the last of each head. */
function prompt(
  seeds: { q: number; k: number },
  heads: number,
  kvHeads: number,
  tokens: number,
  window: number,
): Prompt {
  const all = generated(seeds.q, heads * tokens * DIM, 4);
  const queries = new Float32Array(heads * window * DIM);
  for (let head = 0; head < heads; head++) {
    const end = (head + 1) * tokens * DIM;
    queries.set(all.subarray(end - window * DIM, end), head * window * DIM);
  }
  return {
    queries,
    keys: generated(seeds.k, kvHeads * tokens * DIM),
    heads,
    kvHeads,
    tokens,
    window,
    dim: DIM,
  };
}

const mha = prompt({ q: 31, k: 32 }, 4, 4, 40, 8);
const gqa = prompt({ q: 31, k: 32 }, 4, 2, 40, 8);

/** `'2-5 9'` is 2, 3, 4, 5, 9. */
function positions(text: string): number[] {
  return text.split(' ').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** Known answers that need no files: generated inputs, and the prefix positions that must stay. */
const vectors: {
  title: string;
  input: Prompt;
  pool: Pool;
  reduce: 'none' | 'mean' | 'max';
  prefix: string[];
}[] = [
  {
    title: 'one query head a kv head',
    input: mha,
    pool: AVG5,
    reduce: 'none',
    prefix: ['2-5 9-16', '3-7 15 18-23', '4 7-16 25', '7-14 25-28'],
  },
  {
    title: 'grouped queries, one set per query head',
    input: gqa,
    pool: AVG5,
    reduce: 'none',
    prefix: ['2-5 9-16', '1-5 7 13 14 16 26-28', '3-8 13 14 16 20-22', '2 4-7 10 22-26 29'],
  },
  {
    title: 'mean over the group',
    input: gqa,
    pool: AVG5,
    reduce: 'mean',
    prefix: ['1-5 9 10 12-16', '2 4-8 10 22-26'],
  },
  {
    title: 'maximum over the group',
    input: gqa,
    pool: AVG5,
    reduce: 'max',
    prefix: ['1-5 9-15', '2 6 7 10 20-26 29'],
  },
  {
    title: 'maximum pooling, ties to the lower position',
    input: mha,
    pool: { kind: 'max', size: 7 },
    reduce: 'none',
    prefix: ['8-18 21', '2-6 17-23', '3 7-17', '6-17'],
  },
  {
    title: 'equal keys: ties to the lower position',
    input: { ...mha, keys: new Float32Array(4 * 40 * DIM) },
    pool: AVG5,
    reduce: 'none',
    prefix: new Array<string>(4).fill('2-13'),
  },
];

describeDevices('SnapKV known answers', (device) => {
  it.each(vectors)('$title', async ({ input, pool, reduce, prefix }) => {
    const { keep } = await selectByOps(device, input, { pool, reduce }, 20);
    expect(keep).toEqual(prefix.map((text) => [...positions(text), ...positions('32-39')]));
  });

  it('scores as published: window in the denominator and masked, pool over the prefix, divisor constant', async () => {
    const { pooled } = await selectByOps(device, mha, { pool: AVG5, reduce: 'none' }, 20);
    // The usual mistakes move these numbers by 0.005 to 0.1.
    expectClose(
      pooled.subarray(0, 5),
      [0.15555, 0.2213, 0.27208, 0.25966, 0.24545],
      { abs: 1e-5, rel: 0 },
      'left end',
    );
    expectClose(
      pooled.subarray(27, 32),
      [0.17655, 0.18968, 0.18033, 0.14941, 0.09912],
      { abs: 1e-5, rel: 0 },
      'right end',
    );
    const grouped = await selectByOps(device, gqa, { pool: AVG5, reduce: 'mean' }, 20);
    expectClose(
      grouped.pooled.subarray(0, 5),
      [0.16751, 0.24691, 0.28322, 0.28435, 0.25277],
      { abs: 1e-5, rel: 0 },
      'grouped',
    );
  });

  it('agrees on a larger prompt', async () => {
    const input = prompt({ q: 41, k: 42 }, 4, 4, 128, 16);
    const { keep } = await selectByOps(device, input, { pool: AVG5, reduce: 'none' }, 48);
    const checks = keep.map((rows) => {
      const prefix = rows.filter((row) => row < 112);
      return [
        prefix.reduce((sum, row) => sum + row, 0),
        prefix.reduce((sum, row) => sum + row * row, 0),
      ];
    });
    expect(checks).toEqual([
      [1800, 140754],
      [2023, 147475],
      [1909, 156089],
      [2240, 190382],
    ]);
  });

  describe('votes', () => {
    it('of a window add up to at most its size', async () => {
      const { scores } = await selectByOps(device, mha, { pool: AVG5, reduce: 'none' }, 20);
      for (let head = 0; head < 4; head++) {
        const sum = scores.subarray(head * 32, (head + 1) * 32).reduce((a, b) => a + b, 0);
        expect(sum).toBeGreaterThan(0);
        expect(sum).toBeLessThanOrEqual(8);
      }
    });

    it('are refused when they are not numbers', async () => {
      const keys = mha.keys.slice();
      keys[5] = NaN;
      const selection = selectByOps(
        device,
        { ...mha, keys },
        { pool: { kind: 'max', size: 7 }, reduce: 'none' },
        20,
      );
      await expect(selection).rejects.toMatchObject({ code: 'ERR_ACCEL_NAN' });
    });
  });
});
