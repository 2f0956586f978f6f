import { Tensor, type DType } from '@accel/kernels';
import {
  describeDevices,
  expectClose,
  generated,
  layerEnd,
  SCORES,
  TestCache,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { l2compressVictim, type Protection } from '../src/norms.js';
import { referenceKeep, referenceScores } from '../src/reference.js';
import { Compressor, fill, scoresOf } from './caches.js';

/** Values that float32, bfloat16 and float16 all hold exactly: eighths. */
const eighths = (seed: number, count: number): Float32Array =>
  generated(seed, count).map((x) => Math.round(x * 16) / 8);

const DTYPES: readonly DType[] = ['float32', 'bfloat16', 'float16'];

describeDevices('l2compress_scores', (device) => {
  const shapes = [
    { heads: 1, rows: 1, dim: 8, sink: 0, recent: 0 },
    { heads: 2, rows: 31, dim: 64, sink: 0, recent: 0 },
    { heads: 3, rows: 33, dim: 80, sink: 1, recent: 2 },
    { heads: 2, rows: 129, dim: 96, sink: 0, recent: 129 },
    { heads: 8, rows: 700, dim: 128, sink: 4, recent: 64 },
    { heads: 1, rows: 257, dim: 256, sink: 300, recent: 0 },
  ];
  it.each(shapes.flatMap((shape) => DTYPES.map((dtype) => ({ ...shape, dtype }))))(
    '$heads heads of $rows rows, dim $dim, $dtype, sink $sink, recent $recent',
    async ({ heads, rows, dim, dtype, ...protection }) => {
      const keys = eighths(rows + dim, heads * rows * dim);
      using cache = new TestCache(device, { heads, headDim: dim, dtype });
      fill(cache, keys, [heads, rows, dim]);
      const scores = await scoresOf(cache, protection);
      expectClose(scores, referenceScores(keys, heads, dim, protection), SCORES, 'scores');
    },
  );

  it('finds rows behind a gap', async () => {
    const [heads, rows, dim] = [2, 200, 64];
    const keys = eighths(5, heads * rows * dim);
    using cache = new TestCache(device, { heads, headDim: dim });
    fill(cache, keys, [heads, rows, dim]);
    cache.kv.drop(0, 37, 100);
    const all = referenceScores(keys, heads, dim, { sink: 0, recent: 0 });
    const want = [...all].filter((_, at) => at % rows < 37 || at % rows >= 137);
    expectClose(await scoresOf(cache, { sink: 0, recent: 0 }), want, SCORES, 'scores');
  });

  it('gives equal keys equal scores, whatever is beside them', async () => {
    const [heads, rows, dim] = [2, 100, 128];
    const one = generated(9, dim);
    const keys = Float32Array.from({ length: heads * rows * dim }, (_, i) => one[i % dim] ?? 0);
    using cache = new TestCache(device, { heads, headDim: dim });
    fill(cache, keys, [heads, rows, dim]);
    expect(new Set(await scoresOf(cache, { sink: 0, recent: 0 })).size).toBe(1);
  });

  it('refuses what does not fit', () => {
    using cache = new TestCache(device, { heads: 2, headDim: 64 });
    fill(cache, eighths(1, 2 * 10 * 64), [2, 10, 64]);
    return expect(scoresOf(cache, { sink: -1, recent: 0 })).rejects.toMatchObject({
      code: 'ERR_ACCEL_ARGUMENT',
    });
  });
});

describeDevices('l2compress_victim', (device) => {
  const dim = 8;
  /** Rows whose keys have these norms. */
  const run = async (
    norms: readonly number[],
    heads: number,
    protection: Protection = { sink: 0, recent: 0 },
  ): Promise<number[]> => {
    const keys = Float32Array.from({ length: norms.length * dim }, (_, i) =>
      i % dim === 3 ? (norms[Math.floor(i / dim)] ?? 0) : 0,
    );
    using cache = new TestCache(device, { heads, headDim: dim });
    fill(cache, keys, [heads, norms.length / heads, dim]);
    using out = Tensor.empty(cache.device, 'int32', [heads]);
    l2compressVictim(cache.stream, out, cache.kv.kv(0), protection);
    return [...((await out.read(cache.stream)) as Int32Array)];
  };

  it.each([1, 2, 31, 512, 513, 5003])('is what a top-k of the other of %i leaves', async (rows) => {
    const heads = 3;
    // Sixteenths: many ties.
    const norms = [...generated(rows, heads * rows)].map((x) => Math.round(x * 8) / 16);
    const want = Array.from({ length: heads }, (_, head) => {
      const scores = norms.slice(head * rows, (head + 1) * rows).map((x) => -x * x);
      const kept = new Set(referenceKeep(scores, rows - 1));
      return [...scores.keys()].find((row) => !kept.has(row));
    });
    expect(await run(norms, heads)).toEqual(want);
  });

  it('takes the newest of equal rows, and no protected one', async () => {
    expect(await run([4, 3, 3, 1, 4], 1)).toEqual([4]);
    expect(await run([4, 3, 3, 1, 4], 1, { sink: 1, recent: 1 })).toEqual([2]);
    expect(await run([1, 1, 1], 1, { sink: 0, recent: 2 })).toEqual([0]);
  });

  it('refuses when nothing can leave', async () => {
    const victims = run([1, 2, 3], 1, { sink: 1, recent: 2 });
    await expect(victims).rejects.toMatchObject({ code: 'ERR_ACCEL_ARGUMENT' });
  });

  it('reports NaN', async () => {
    await expect(run([1, NaN, 2, 1], 2)).rejects.toMatchObject({ code: 'ERR_ACCEL_NAN' });
  });
});

describeDevices('L2Compress on a cache', (device) => {
  const [heads, rows, dim] = [2, 90, 64];
  const keys = eighths(33, heads * rows * dim);
  const reference = (sink: number, recent: number, count: number): number[][] => {
    const scores = referenceScores(keys, heads, dim, { sink, recent });
    return Array.from({ length: heads }, (_, head) =>
      referenceKeep(scores.subarray(head * rows, (head + 1) * rows), count),
    );
  };

  it.each([
    { sink: 0, recent: 0 },
    { sink: 4, recent: 0 },
    { sink: 0, recent: 16 },
    { sink: 4, recent: 16 },
  ])('protects $sink first and $recent newest rows', async ({ sink, recent }) => {
    using cache = new TestCache(device, { heads, headDim: dim });
    fill(cache, keys, [heads, rows, dim]);
    await new Compressor(cache, { budget: { tokens: 30 }, skipLayers: [], sink, recent }).prefill();
    const kept = await cache.positions();
    expect(kept).toEqual(reference(sink, recent, 30));
    for (const positions of kept) {
      expect(positions.slice(0, sink)).toEqual([...Array(sink).keys()]);
      expect(positions.slice(30 - recent)).toEqual(
        Array.from({ length: recent }, (_, i) => rows - recent + i),
      );
    }
  });

  it('never lets a share go below what is protected and one row', async () => {
    using cache = new TestCache(device, { heads, headDim: dim });
    fill(cache, keys, [heads, rows, dim]);
    const options = { budget: { keep: 0.05 }, skipLayers: [], sink: 4, recent: 16 };
    await new Compressor(cache, options).prefill();
    expect(cache.kv.rows(0, 1)).toBe(21);
  });

  it.each([0, 7])(
    'lets one row go after every token, with %i recent ones protected',
    async (recent) => {
      using cache = new TestCache(device, { heads, headDim: dim });
      const compressor = new Compressor(cache, {
        budget: { tokens: 40 },
        skipLayers: [],
        sink: 1,
        recent,
        evicts: 'everyStep',
      });
      fill(cache, keys, [heads, rows, dim], { to: 35 });
      await compressor.prefill();
      let kept = Array.from({ length: heads }, () => [...Array(35).keys()]);
      for (let token = 35; token < rows; token++) {
        fill(cache, keys, [heads, rows, dim], { from: token, to: token + 1 });
        await compressor.decode({ seen: token + 1 });
        kept = kept.map((positions, head) => {
          const now = [...positions, token];
          const own = Float32Array.from(
            now.flatMap((position) => {
              const at = (head * rows + position) * dim;
              return [...keys.subarray(at, at + dim)];
            }),
          );
          const scores = referenceScores(own, 1, dim, { sink: 1, recent });
          return referenceKeep(scores, 40).map((row) => now[row] ?? -1);
        });
        expect(await cache.positions(), `after token ${token}`).toEqual(kept);
      }
      expect(compressor.reports.at(-1)).toEqual({ rowsIn: 41, rowsKept: 40 });
    },
  );

  it('holds what a budget part lets it hold', async () => {
    using cache = new TestCache(device, { heads, headDim: dim });
    const compressor = new Compressor(cache, {
      budget: { tokens: 40 },
      skipLayers: [],
      evicts: 'everyStep',
    });
    fill(cache, keys, [heads, rows, dim]);
    await compressor.decode({ budget: 25 });
    expect(await cache.positions()).toEqual(reference(0, 0, 25));
  });

  it('says that rows which leave several at a time were not merged', async () => {
    using cache = new TestCache(device, { heads, headDim: dim });
    const compressor = new Compressor(cache, {
      budget: { keep: 0.5 },
      skipLayers: [],
      evicts: 'everyStep',
    });
    fill(cache, keys, [heads, rows, dim]);
    await compressor.decode({ merge: () => expect.fail('several rows leave') });
    expect(compressor.reports[0]?.note).toMatch(/not merged/);
  });

  it('ranks rows for budget parts, except in skipped layers', () => {
    using cache = new TestCache(device, { heads, headDim: dim, layers: 2 });
    const { selector } = new Compressor(cache, {
      budget: { tokens: 40 },
      skipLayers: [0],
      recent: 3,
    });
    for (const layer of [0, 1]) fill(cache, keys, [heads, rows, dim], { layer });
    const [skipped, ranked] = [layerEnd(cache), layerEnd(cache, { layer: 1 })];
    expect(selector.ranking?.capacity(skipped)).toEqual({ rows, window: 3 });
    expect(selector.ranking?.score(skipped)).toBeUndefined();
    expect(selector.ranking?.capacity(ranked)).toEqual({ rows: 40, window: 3 });
    using scores = selector.ranking?.score(ranked);
    expect(scores?.shape).toEqual([heads, rows]);
  });

  it('reports a key that is not a number', async () => {
    const broken = keys.slice();
    broken[5] = NaN;
    using cache = new TestCache(device, { heads, headDim: dim });
    fill(cache, broken, [heads, rows, dim]);
    const done = new Compressor(cache, { budget: { tokens: 40 }, skipLayers: [] }).prefill();
    await expect(done).rejects.toMatchObject({ code: 'ERR_ACCEL_NAN' });
  });

  it('refuses a model of which it would compress nothing', () => {
    using cache = new TestCache(device, { heads, headDim: dim, layers: 2 });
    expect(() => new Compressor(cache, {})).toThrow(/skipLayers \[0,1\] leaves none/);
  });
});

describe('idle rows', () => {
  it.each([
    [{ budget: { tokens: 100 } }, 100],
    [{ budget: { tokens: 100 }, pruneAfter: 400 }, 399],
    [{ budget: { keep: 0.5 } }, 2],
    [{ budget: { keep: 1 } }, Infinity],
    [{ budget: { keep: 0.5 }, sink: 4, recent: 4 }, 9],
  ])('of %j are %d', (options, idle) => {
    using cache = new TestCache('cpu', { heads: 1, headDim: 8, layers: 3 });
    expect(new Compressor(cache, options).selector.idleRows).toBe(idle);
  });
});
