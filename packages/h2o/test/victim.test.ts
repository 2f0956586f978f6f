import { ops, Tensor } from '@accel/kernels';
import { describeDevices, errorWith, generated, TestCache } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { referenceVictim } from '../src/reference.js';
import { h2oVictim } from '../src/victim.js';

const DIM = 8;

describe('reference', () => {
  it('takes the smallest score, the latest of equal ones, and never a protected row', () => {
    expect(referenceVictim([3, 1, 2], 0)).toBe(1);
    expect(referenceVictim([3, 1, 1, 2], 0)).toBe(2);
    expect(referenceVictim([3, 2, 1, 0], 2)).toBe(1);
    expect(referenceVictim([0, -0, 5], 0)).toBe(1);
  });
});

describeDevices('h2o_victim', (device) => {
  /** A cache of one layer whose rows have these scores, `[heads][rows]`, in the second of two tallies. */
  const cacheOf = (scores: readonly (readonly number[])[]): TestCache => {
    const heads = scores.length;
    const rows = scores[0]?.length ?? 0;
    const bytes = (rows + 64) * heads * DIM * 4 * 4 + (1 << 20);
    const cache = new TestCache(device, {
      heads,
      headDim: DIM,
      tallies: 2,
      capacityBytes: Math.ceil(bytes / 4096) * 4096,
    });
    const zero = new Float32Array(rows * heads * DIM);
    cache.append(zero, zero, 0);
    using values = Tensor.from(cache.device, Float32Array.from(scores.flat()), [heads, rows]);
    ops.tallyWrite(cache.stream, cache.kv.kv(0), values, 1);
    return cache;
  };
  const victims = async (cache: TestCache, keep: number, tally = 1): Promise<number[]> => {
    using out = Tensor.empty(cache.device, 'int32', [cache.heads]);
    h2oVictim(cache.stream, out, cache.kv.kv(0), tally, keep);
    return [...((await out.read(cache.stream)) as Int32Array)];
  };

  it.each([
    { heads: 1, rows: 1, keep: 0 },
    { heads: 2, rows: 24, keep: 23 },
    { heads: 3, rows: 129, keep: 0 },
    { heads: 8, rows: 1025, keep: 512 },
    { heads: 2, rows: 4097, keep: 7 },
    { heads: 2, rows: 33_000, keep: 1024 },
  ])('agrees with the reference: $heads × $rows, keep $keep', async ({ heads, rows, keep }) => {
    // Sixteenths, so that there are many ties.
    const scores = Array.from({ length: heads }, (_, head) =>
      [...generated(rows + head, rows, 4)].map((x) => Math.round(x * 16) / 16),
    );
    using cache = cacheOf(scores);
    expect(await victims(cache, keep)).toEqual(scores.map((row) => referenceVictim(row, keep)));
  });

  it('finds rows behind the gap that earlier rows left', async () => {
    using cache = cacheOf([Array.from({ length: 60 }, (_, row) => (row === 41 ? 0.5 : 1 + row))]);
    cache.kv.drop(0, 10, 20);
    expect(await victims(cache, 5)).toEqual([21]);
    expect(await victims(cache, 38)).toEqual([0]);
  });

  it('counts both zeros as one, and infinity as the largest', async () => {
    using cache = cacheOf([
      [0, -0, 0, 1],
      [Infinity, 2, Infinity, Infinity],
    ]);
    expect(await victims(cache, 0)).toEqual([2, 1]);
    expect(await victims(cache, 2)).toEqual([1, 1]);
  });

  it('refuses scores that are not numbers', async () => {
    using cache = cacheOf([[1, NaN, 2]]);
    await expect(victims(cache, 0)).rejects.toMatchObject({ code: 'ERR_ACCEL_NAN' });
    // A protected row is not looked at.
    using other = cacheOf([[1, 2, NaN]]);
    expect(await victims(other, 1)).toEqual([0]);
  });

  it.each([
    { title: 'a window that leaves no row', keep: 3, tally: 1, code: 'ERR_ACCEL_ARGUMENT' },
    { title: 'a negative window', keep: -1, tally: 1, code: 'ERR_ACCEL_ARGUMENT' },
    { title: 'a tally that rows do not have', keep: 0, tally: 2, code: 'ERR_ACCEL_ARGUMENT' },
  ] as const)('refuses $title', async ({ keep, tally, code }) => {
    using cache = cacheOf([[1, 2, 3]]);
    await expect(victims(cache, keep, tally)).rejects.toThrow(errorWith(code));
    await cache.stream.synchronize();
  });

  it('refuses an output of another shape', async () => {
    using cache = cacheOf([[1, 2, 3]]);
    using out = Tensor.empty(cache.device, 'int32', [2]);
    expect(() => {
      h2oVictim(cache.stream, out, cache.kv.kv(0), 1, 0);
    }).toThrow(errorWith('ERR_ACCEL_SHAPE'));
    await cache.stream.synchronize();
  });
});
