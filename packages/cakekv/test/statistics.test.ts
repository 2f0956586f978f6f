import { Tensor, type DType } from '@accel/kernels';
import {
  describeDevices,
  expectClose,
  generated,
  readFloats,
  TestCache,
  tokenMajor,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { cakePool, cakeStatistics } from '../src/ops.js';
import { referencePool, referenceStatistics } from '../src/reference.js';

interface Case {
  readonly dtype: DType;
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  readonly rows: number;
  readonly queries: number;
  readonly window?: number;
  readonly gamma?: number;
}

/** Numbers that every dtype holds exactly, so that the reference sees what the kernel sees. */
function exact(seed: number, count: number, scale: number): Float32Array {
  return generated(seed, count).map((x) => (Math.round(x * 64) / 64) * scale);
}

const cases: Case[] = [
  // One query head a kv head, groups, odd sizes; tiles of 32 and 128 keys and 32 queries, and their edges.
  { dtype: 'float32', heads: 2, kvHeads: 2, dim: 16, rows: 40, queries: 8 },
  { dtype: 'float32', heads: 6, kvHeads: 2, dim: 80, rows: 333, queries: 32, gamma: 200 },
  { dtype: 'float32', heads: 4, kvHeads: 1, dim: 128, rows: 65, queries: 33, gamma: 5 },
  { dtype: 'bfloat16', heads: 4, kvHeads: 2, dim: 48, rows: 100, queries: 16, gamma: 200 },
  { dtype: 'bfloat16', heads: 8, kvHeads: 2, dim: 64, rows: 700, queries: 32, gamma: 200 },
  { dtype: 'bfloat16', heads: 8, kvHeads: 2, dim: 128, rows: 1025, queries: 32, gamma: 200 },
  { dtype: 'float16', heads: 5, kvHeads: 1, dim: 128, rows: 129, queries: 2, gamma: 1 },
  { dtype: 'float16', heads: 3, kvHeads: 3, dim: 64, rows: 256, queries: 64, gamma: 200 },
  { dtype: 'bfloat16', heads: 4, kvHeads: 2, dim: 64, rows: 300, queries: 70, gamma: 200 },
  // A later turn that is shorter than the window; one query has no variance.
  { dtype: 'float32', heads: 4, kvHeads: 2, dim: 16, rows: 90, queries: 3, window: 32 },
  { dtype: 'bfloat16', heads: 4, kvHeads: 2, dim: 64, rows: 200, queries: 1, window: 32 },
  // Nothing before the window.
  { dtype: 'bfloat16', heads: 4, kvHeads: 2, dim: 64, rows: 20, queries: 20 },
  { dtype: 'float32', heads: 2, kvHeads: 1, dim: 16, rows: 20, queries: 4, window: 32 },
];

describeDevices('cake_statistics', (device) => {
  it.each(cases)(
    '$dtype, $heads heads over $kvHeads of $dim, $rows rows, $queries queries, gamma $gamma, window $window',
    async (shape) => {
      const { dtype, heads, kvHeads, dim, rows, queries: count, gamma = 0 } = shape;
      const { window = count } = shape;
      const keys = exact(rows + dim, kvHeads * rows * dim, 2);
      const queries = exact(count + 7, heads * count * dim, 2);
      const scale = 1.7 / Math.sqrt(dim);
      using cache = new TestCache(device, { heads: kvHeads, headDim: dim, dtype });
      const values = tokenMajor(keys, [kvHeads, rows, dim]);
      cache.append(values, values, 0);
      const shapeOfQueries = [count, heads, dim] as const;
      using q = cache.floats(tokenMajor(queries, [heads, count, dim]), shapeOfQueries);
      using indicator = Tensor.empty(cache.device, 'float32', [kvHeads, rows]);
      using sums = Tensor.empty(cache.device, 'float64', [2]);
      const kv = cache.kv.kv(0);
      cakeStatistics(cache.stream, { indicator, sums }, q, kv, { scale, gamma, window });
      const input = { queries, keys, heads, kvHeads, dim, scale, gamma, window };
      const want = referenceStatistics(input);
      const got = await readFloats(indicator, cache.stream);
      expectClose(got, want.indicator, { abs: 1e-7, rel: 1e-4 }, 'indicator');
      const totals = (await sums.read(cache.stream)) as Float64Array;
      const wanted = [want.dispersion, want.shift];
      expectClose(totals, wanted, { abs: 1e-9, rel: 2e-5 }, 'dispersion and shift');

      // Each output alone gives the same bits.
      using alone = Tensor.empty(cache.device, 'float32', [kvHeads, rows]);
      using pair = Tensor.empty(cache.device, 'float64', [2]);
      cakeStatistics(cache.stream, { indicator: alone }, q, kv, { scale, gamma, window });
      cakeStatistics(cache.stream, { sums: pair }, q, kv, { scale, gamma, window });
      expect(await readFloats(alone, cache.stream)).toEqual(got);
      expect(await pair.read(cache.stream)).toEqual(totals);
    },
  );

  it.each(['float32', 'bfloat16'] as const)(
    'sees a sliding window of positions, also where rows have left: %s',
    async (dtype) => {
      const [heads, kvHeads, dim, count, left] = [6, 2, 64, 40, 300];
      for (const slidingWindow of [1, 41, 90, 333, 5000]) {
        using cache = new TestCache(device, { heads: kvHeads, headDim: dim, dtype });
        const old = exact(4, 450 * kvHeads * dim, 2);
        cache.append(old, old, 0);
        const kept = Array.from({ length: kvHeads * left }, (_, i) =>
          // Every second of the first rows in one head, every second of the last ones in the other.
          i < left ? (i < 150 ? 2 * i : i + 150) : i - left < 150 ? i - left : 2 * (i - left) - 150,
        );
        using index = Tensor.from(cache.device, Int32Array.from(kept), [kvHeads, left]);
        cache.kv.compact(0, index, [left, left]);
        const young = exact(5, count * kvHeads * dim, 2);
        cache.append(young, young, 450);
        const rows = left + count;
        const positions = await cache.positions();
        const keys = positions.flatMap((of, head) =>
          of.flatMap((position) => {
            const [from, row] = position < 450 ? [old, position] : [young, position - 450];
            return [
              ...from.subarray((row * kvHeads + head) * dim, (row * kvHeads + head + 1) * dim),
            ];
          }),
        );
        const queries = exact(6, heads * count * dim, 2);
        using q = cache.floats(tokenMajor(queries, [heads, count, dim]), [count, heads, dim]);
        using indicator = Tensor.empty(cache.device, 'float32', [kvHeads, rows]);
        using sums = Tensor.empty(cache.device, 'float64', [2]);
        const options = { scale: 0.2, gamma: 20, window: count };
        const kv = cache.kv.kv(0);
        cakeStatistics(cache.stream, { indicator, sums }, q, kv, { ...options, slidingWindow });
        const sliding = { positions, window: slidingWindow };
        const want = referenceStatistics({
          queries,
          keys,
          heads,
          kvHeads,
          dim,
          ...options,
          sliding,
        });
        const got = await readFloats(indicator, cache.stream);
        expectClose(got, want.indicator, { abs: 1e-7, rel: 1e-4 }, `window ${slidingWindow}`);
        const totals = (await sums.read(cache.stream)) as Float64Array;
        const wanted = [want.dispersion, want.shift];
        expectClose(totals, wanted, { abs: 1e-9, rel: 2e-5 }, `sums, window ${slidingWindow}`);
      }
    },
  );

  it('finds rows behind a gap', async () => {
    const [heads, kvHeads, dim, rows, count] = [4, 2, 64, 150, 8];
    const keys = exact(5, rows * kvHeads * dim, 2);
    using whole = new TestCache(device, { heads: kvHeads, headDim: dim, dtype: 'bfloat16' });
    using gone = new TestCache(device, { heads: kvHeads, headDim: dim, dtype: 'bfloat16' });
    const drop = 30;
    const size = kvHeads * dim;
    whole.append(keys, keys, 0);
    whole.kv.drop(0, 40, drop);
    const left = new Float32Array(keys.length - drop * size);
    left.set(keys.subarray(0, 40 * size));
    left.set(keys.subarray((40 + drop) * size), 40 * size);
    gone.append(left, left, 0);
    const results: unknown[] = [];
    for (const cache of [whole, gone]) {
      using q = cache.floats(exact(6, count * heads * dim, 2), [count, heads, dim]);
      using indicator = Tensor.empty(cache.device, 'float32', [kvHeads, rows - drop]);
      const options = { scale: 0.2, gamma: 9, window: count };
      cakeStatistics(cache.stream, { indicator }, q, cache.kv.kv(0), options);
      results.push(await readFloats(indicator, cache.stream));
    }
    expect(results[0]).toEqual(results[1]);
  });

  describe('variance', () => {
    it('does not drown in the mean', async () => {
      // All queries but one are equal: nearly all attention is on one key, and variances are tiny beside means.
      const [dim, rows, count] = [64, 64, 32];
      const keys = exact(3, rows * dim, 0.125);
      keys.fill(1, 0, dim);
      const queries = new Float32Array(count * dim).fill(0.75);
      queries.fill(0.765625, dim, 2 * dim);
      const cacheOptions = { heads: 1, headDim: dim, dtype: 'bfloat16' } as const;
      using cache = new TestCache(device, cacheOptions);
      cache.append(keys, keys, 0);
      using q = cache.floats(queries, [count, 1, dim]);
      using sums = Tensor.empty(cache.device, 'float64', [2]);
      const options = { scale: 0.125, gamma: 0, window: count };
      cakeStatistics(cache.stream, { sums }, q, cache.kv.kv(0), options);
      const want = referenceStatistics({ ...options, queries, keys, heads: 1, kvHeads: 1, dim });
      const [, shift = 0] = (await sums.read(cache.stream)) as Float64Array;
      expect(want.shift).toBeGreaterThan(0);
      expectClose([shift], [want.shift], { abs: 0, rel: 1e-3 }, 'shift');
    });
  });

  it('refuses a window smaller than the queries', () => {
    using cache = new TestCache(device, { heads: 1, headDim: 16 });
    const keys = exact(1, 10 * 16, 1);
    cache.append(keys, keys, 0);
    using q = cache.floats(exact(2, 4 * 16, 1), [4, 1, 16]);
    using sums = Tensor.empty(cache.device, 'float64', [2]);
    const run = (): void =>
      cakeStatistics(cache.stream, { sums }, q, cache.kv.kv(0), { scale: 1, window: 3 });
    expect(run).toThrow(expect.objectContaining({ code: 'ERR_ACCEL_ARGUMENT' }));
  });
});

describeDevices('cake_pool', (device) => {
  const shapes = [
    { heads: 1, rows: 1, prefix: 0 },
    { heads: 1, rows: 4, prefix: 1 },
    { heads: 3, rows: 20, prefix: 4 },
    { heads: 2, rows: 300, prefix: 268 },
    { heads: 5, rows: 5003, prefix: 5003 },
  ];
  const sizes = [1, 5, 7, 127];
  it.each(shapes.flatMap((shape) => sizes.map((size) => ({ ...shape, size }))))(
    'gives the bits of the reference: $heads × $rows, prefix $prefix, size $size',
    async ({ heads, rows, prefix, size }) => {
      using cache = new TestCache(device, { heads: 1, headDim: 16 });
      const scores = generated(rows + size, heads * rows, 3);
      using input = Tensor.from(cache.device, scores, [heads, rows]);
      using out = Tensor.empty(cache.device, 'float32', [heads, rows]);
      cakePool(cache.stream, out, input, { prefix, size, rest: Infinity });
      const want = Float32Array.from({ length: heads * rows }, () => Infinity);
      for (let head = 0; head < heads; head++) {
        const past = scores.subarray(head * rows, head * rows + prefix);
        want.set(referencePool(past, size), head * rows);
      }
      expect(await readFloats(out, cache.stream)).toEqual(want);
    },
  );

  it.each([
    { title: 'an even size', prefix: 4, size: 2 },
    { title: 'a prefix that is too long', prefix: 7, size: 3 },
  ])('refuses $title', ({ prefix, size }) => {
    using cache = new TestCache(device, { heads: 1, headDim: 16 });
    using input = Tensor.from(cache.device, new Float32Array(6), [1, 6]);
    using out = Tensor.empty(cache.device, 'float32', [1, 6]);
    const run = (): void => cakePool(cache.stream, out, input, { prefix, size, rest: 0 });
    expect(run).toThrow(expect.objectContaining({ code: 'ERR_ACCEL_ARGUMENT' }));
  });
});
