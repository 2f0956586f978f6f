import { ops, Tensor } from '@accel/kernels';
import {
  describeDevices,
  errorWith,
  expectClose,
  generated,
  readFloats,
  SCORES,
  TestCache,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { thinkAttention, thinkChannels, thinkQueries, thinkScores } from '../src/ops.js';
import { meanSquares, referenceChannels, referenceScores, type Matrix } from '../src/reference.js';
import { ThinkHarness } from './harness.js';

describe('reference', () => {
  it('scores and prunes as in the worked example of the specification', () => {
    const roots = (squares: readonly number[]): number[] => squares.map(Math.sqrt);
    const queries = [roots([4, 1, 9, 0.25])];
    const keys = [roots([1, 16, 1, 4])];
    const scores = referenceScores([queries], keys, 'mean');
    expect(scores).toEqual([4, 16, 9, 1]);
    expect(referenceChannels(scores, 2)).toEqual([1, 2]);
    expect(meanSquares([[1], [3]])).toEqual([5]);
  });

  it('lets the lower of equal channels go first', () => {
    expect(referenceChannels([2, 2, 2, 1], 2)).toEqual([1, 2]);
  });
});

/** Row `row` of head `head` of token-major data. */
function rows(data: Float32Array, heads: number, dim: number, head: number): Matrix {
  return Array.from({ length: data.length / (heads * dim) }, (_, row) => [
    ...data.subarray((row * heads + head) * dim, (row * heads + head + 1) * dim),
  ]);
}

describeDevices('ops of ThinK', (device) => {
  it.each([
    { heads: 4, kvHeads: 2, dim: 64, count: 700, scored: 700, reduce: 'mean' },
    { heads: 6, kvHeads: 2, dim: 40, count: 300, scored: 257, reduce: 'max' },
    { heads: 1, kvHeads: 1, dim: 256, count: 5, scored: 9000, reduce: 'max' },
    { heads: 2, kvHeads: 2, dim: 8, count: 1, scored: 1, reduce: 'mean' },
  ] as const)(
    'score channels: $heads heads of $kvHeads, dim $dim, $scored of $count rows, $reduce',
    async ({ heads, kvHeads, dim, count, scored, reduce }) => {
      using harness = new ThinkHarness(device, { heads, kvHeads, dim }, { groupReduce: reduce });
      const k = generated(3, count * kvHeads * dim, 4);
      const q = generated(4, Math.min(count, 32) * heads * dim);
      harness.cache.append(k, k, 0);
      const got = await harness.scores(q, scored);
      const group = heads / kvHeads;
      const want = Array.from({ length: kvHeads }, (_, head) => {
        const queries = Array.from({ length: group }, (_, i) =>
          rows(q, heads, dim, head * group + i),
        );
        return referenceScores(queries, rows(k, kvHeads, dim, head).slice(0, scored), reduce);
      });
      expectClose(got, want.flat(), SCORES, 'scores');
    },
  );

  it('breaks ties by the channel, and keeps as many as it is told', async () => {
    using harness = new ThinkHarness(device, { heads: 1, kvHeads: 1, dim: 24 }, { ratio: 0.5 });
    const { cache, kept } = harness;
    cache.append(new Float32Array(40 * 24).fill(1), new Float32Array(40 * 24), 0);
    const scores = Float32Array.from({ length: 24 }, (_, c) => [2, 1, 1, 3][c % 4] ?? 0);
    using tensor = Tensor.from(cache.device, scores, [1, 24]);
    cache.kv.encode(0, harness.format.rules, (args, most) => {
      thinkChannels(cache.stream, args, tensor, kept);
      harness.format.encode({ stream: cache.stream, kv: args, keys: most, values: most });
    });
    expect((await harness.stored()).channels).toEqual([referenceChannels([...scores], 12)]);
  });

  it('reports a score that is not a number', async () => {
    using harness = new ThinkHarness(device, { heads: 1, kvHeads: 1, dim: 16 }, {});
    const k = new Float32Array(40 * 16).fill(1);
    k[5] = NaN;
    harness.cache.append(k, k, 0);
    harness.observe(new Float32Array(16).fill(1));
    harness.prune();
    await expect(harness.cache.stream.synchronize()).rejects.toThrow(
      errorWith('ERR_ACCEL_NAN', 'head 0, channel 5'),
    );
  });

  it('does not square in 16 bits: keys beyond 255 keep their order', async () => {
    const shape = { heads: 1, kvHeads: 1, dim: 16, dtype: 'float16' } as const;
    using harness = new ThinkHarness(device, shape, { ratio: 0.5 });
    const k = Float32Array.from({ length: 40 * 16 }, (_, i) => 1000 + 100 * (i % 16));
    harness.cache.append(k, k, 0);
    harness.observe(new Float32Array(16).fill(300));
    harness.prune();
    expect((await harness.stored()).channels).toEqual([[8, 9, 10, 11, 12, 13, 14, 15]]);
  });

  it.each(['float32', 'bfloat16'] as const)(
    'prune rows bit by bit, into items that are part full, in %s',
    async (dtype) => {
      const [kvHeads, dim, count] = [2, 24, 100];
      const shape = { heads: 2, kvHeads, dim, dtype, pageBytes: dtype === 'float32' ? 128 : 64 };
      using harness = new ThinkHarness(device, shape, { ratio: 0.3, recent: 90 });
      const k = generated(9, count * kvHeads * dim).map((x) => Math.round(x * 64) / 64);
      harness.cache.append(k, k, 0);
      harness.observe(generated(10, kvHeads * dim));
      harness.prune();
      const { kv, stream } = harness.cache;
      for (const keep of [89, 83, 40, 40, 39, 5, 0]) {
        kv.encode(0, { keys: { block: 1, keep } }, (args, most) => {
          harness.format.encode({ stream, kv: args, keys: most, values: most });
        });
        const { channels, keys } = await harness.stored();
        const want = channels.flatMap((list, head) =>
          rows(k, kvHeads, dim, head)
            .slice(0, count - keep)
            .flatMap((key) => list.map((c) => key[c] ?? NaN)),
        );
        expect([...keys]).toEqual(want);
      }
    },
  );

  it('frees what was pruned, and counts its bytes as they are', async () => {
    const shape = { heads: 2, kvHeads: 2, dim: 128, dtype: 'bfloat16' } as const;
    using harness = new ThinkHarness(device, shape, { ratio: 0.4 });
    const rows = 4032;
    const k = generated(1, rows * 2 * 128);
    harness.cache.append(k, k, 0);
    const before = harness.cache.kv.bytes();
    harness.observe(generated(2, 2 * 128));
    harness.prune();
    await harness.cache.stream.synchronize();
    const { measured, arithmetic } = harness.cache.kv.bytes();
    // 77 of 128 channels, not 80: 4000 rows of 154 bytes, the list of channels, and what was not touched.
    expect(before.arithmetic - arithmetic).toBe(2 * (4000 * (256 - 154) - 160));
    expect(measured).toBe(harness.cache.pool.usedBytes);
    expect(Math.abs(measured / arithmetic - 1)).toBeLessThan(0.05);
    expect(measured / before.measured).toBeLessThan(0.81);
  });

  describe('refuse', () => {
    it('a cache without a format, or with another number of channels', () => {
      using plain = new TestCache(device, { heads: 1, headDim: 16 });
      plain.append(new Float32Array(32), new Float32Array(32), 0);
      using q = plain.floats(new Float32Array(16), [1, 1, 16]);
      using out = plain.empty([1, 1, 16]);
      const more = { lens: Int32Array.of(1), scale: 1, window: 0 };
      const call = { stream: plain.stream, out, lse: null, q, ...more };
      expect(() => thinkAttention({ ...call, kv: plain.kv.kv(0) }, 8)).toThrow(
        errorWith('ERR_ACCEL_ARGUMENT'),
      );
      using harness = new ThinkHarness(device, { heads: 1, kvHeads: 1, dim: 16 }, { ratio: 0.5 });
      harness.cache.append(new Float32Array(32), new Float32Array(32), 0);
      const { stream, kv } = harness.cache;
      expect(() => thinkAttention({ ...call, stream, kv: kv.kv(0) }, 7)).toThrow(
        errorWith('ERR_ACCEL_ARGUMENT', 'layout'),
      );
    });

    it('to score rows that are encoded, and to choose channels twice', async () => {
      using harness = new ThinkHarness(device, { heads: 1, kvHeads: 1, dim: 16 }, {});
      const { cache } = harness;
      cache.append(generated(1, 64 * 16), generated(2, 64 * 16), 0);
      harness.observe(generated(3, 16));
      harness.prune();
      const means = await readMeans(cache);
      using scores = Tensor.from(cache.device, means, [1, 16]);
      const refusal = errorWith('ERR_ACCEL_ARGUMENT');
      expect(() => thinkScores(cache.stream, scores, scores, cache.kv.kv(0), 8)).toThrow(refusal);
      expect(() => thinkChannels(cache.stream, cache.kv.kv(0), scores, harness.kept)).toThrow(
        refusal,
      );
      // Ops that know plain rows only are refused by the runtime.
      using q = cache.floats(new Float32Array(16), [1, 1, 16]);
      using out = cache.empty([1, 1, 16]);
      expect(() =>
        ops.attention(cache.stream, out, null, q, cache.kv.kv(0), Int32Array.of(1), {
          scale: 1,
          causal: true,
        }),
      ).toThrow(refusal);
    });

    it('queries of other shapes', () => {
      using cache = new TestCache(device, { heads: 2, headDim: 16 });
      using out = Tensor.empty(cache.device, 'float32', [2, 16]);
      using three = cache.empty([1, 3, 16]);
      expect(() => thinkQueries(cache.stream, out, three, 'mean')).toThrow(
        errorWith('ERR_ACCEL_SHAPE'),
      );
    });
  });
});

/** Mean squares of some queries. */
async function readMeans(cache: TestCache): Promise<Float32Array> {
  using out = Tensor.empty(cache.device, 'float32', [cache.heads, cache.headDim]);
  using q = cache.floats(generated(4, cache.heads * cache.headDim), [
    1,
    cache.heads,
    cache.headDim,
  ]);
  thinkQueries(cache.stream, out, q, 'mean');
  return await readFloats(out, cache.stream);
}
