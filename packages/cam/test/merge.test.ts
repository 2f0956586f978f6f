import { ops, Tensor, type DType } from '@accel/kernels';
import { describeDevices, errorWith, expectClose, generated, TestCache } from '@accel/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { camMerge, type Draw, type MergeOptions } from '../src/kernels.js';
import { referenceMerge, referenceUniform } from '../src/reference.js';

/** Rows of every head: attention received, `[head][row]`, and values `[head][row][channel]`. */
interface Rows {
  readonly scores: readonly (readonly number[])[];
  readonly values: readonly (readonly (readonly number[])[])[];
}

const DRAW = { gate: 'bernoulli', seed: 0 } as const;
const FOLD = { layer: 0, tally: 0, targets: 16, divisor: 'targets', recent: undefined } as const;

/** Multiples of a sixteenth, which all formats hold. */
function sixteenths(seed: number, count: number, scale = 2): number[] {
  return [...generated(seed, count)].map((x) => Math.round(x * 16 * scale) / 16);
}

function random(heads: number, count: number, dim: number, seed: number): Rows {
  return {
    scores: Array.from({ length: heads }, (_, head) =>
      sixteenths(seed + head, count).map((x) => Math.abs(x) + 1 / 16),
    ),
    values: Array.from({ length: heads }, (_, head) =>
      Array.from({ length: count }, (_, row) => sixteenths(seed + 1000 * head + 7 * row + 50, dim)),
    ),
  };
}

function copyOf({ scores, values }: Rows, head: number): { scores: number[]; values: number[][] } {
  return {
    scores: [...(scores[head] ?? [])],
    values: (values[head] ?? []).map((row) => [...row]),
  };
}

describe('reference', () => {
  // The example of the specification: 2 targets, row 1 leaves.
  const scores = [0.9, 0.2, 0.1, 0.3, 0.4, 0.05];
  const values = (): number[][] => scores.map((_, row) => [row === 1 ? 8 : row]);

  it('folds with the ratio of attention as probability', () => {
    const all = { scores, values: values() };
    const { p, merged } = referenceMerge(all, 1, 0.999, { ...FOLD, targets: 2 });
    expect(p).toBeCloseTo(1);
    expect(merged).toBe(true);
    expect(all.values.flat()).toEqual([0, 8, 6, 7, 4, 5]);
    const weak = { scores: [0.9, 0.05, 0.1, 0.3, 0.4, 0.05], values: values() };
    expect(referenceMerge(weak, 1, 0.26, { ...FOLD, targets: 2 })).toEqual({
      p: 0.25,
      merged: false,
    });
    expect(weak.values).toEqual(values());
  });

  it('draws numbers that look uniform and differ in every coordinate', () => {
    const draws = Array.from({ length: 4000 }, (_, i) => referenceUniform(1, i % 5, i % 7, i));
    expect(draws.reduce((a, b) => a + b, 0) / draws.length).toBeCloseTo(0.5, 1);
    // 24 bits, so that a repeat among so many is likely and many are not.
    expect(new Set(draws).size).toBeGreaterThan(draws.length - 5);
    expect(Math.max(...draws)).toBeLessThan(1);
    const base = referenceUniform(1, 2, 3, 4);
    for (const [seed, layer, head, position] of [
      [2, 2, 3, 4],
      [1, 3, 3, 4],
      [1, 2, 4, 4],
      [1, 2, 3, 5],
    ] as const)
      expect(referenceUniform(seed, layer, head, position)).not.toBe(base);
  });
});

describeDevices('cam_merge', (device) => {
  const run = async (
    rows: Rows,
    victim: number | readonly number[],
    options: Partial<MergeOptions> = {},
    draw: Partial<Draw> & { u?: readonly number[]; first?: number; dtype?: DType } = {},
  ): Promise<{ p: number[]; merged: number[]; values: Float32Array }> => {
    const { u, first = 0, dtype = 'float32', ...given } = draw;
    const heads = rows.scores.length;
    const count = rows.scores[0]?.length ?? 0;
    const dim = rows.values[0]?.[0]?.length ?? 0;
    using cache = new TestCache(device, { heads, headDim: dim, tallies: 2, dtype });
    const { stream, kv } = cache;
    const flat = Float32Array.from({ length: count * heads * dim }, (_, i) => {
      const [row, head, c] = [Math.floor(i / (heads * dim)), Math.floor(i / dim) % heads, i % dim];
      return rows.values[head]?.[row]?.[c] ?? 0;
    });
    cache.append(flat, flat, first);
    using scores = Tensor.from(cache.device, Float32Array.from(rows.scores.flat()), [heads, count]);
    ops.tallyWrite(stream, kv.kv(0), scores, 1);
    using p = Tensor.empty(cache.device, 'float32', [heads]);
    using merged = Tensor.empty(cache.device, 'int32', [heads]);
    using uniforms = Tensor.from(cache.device, Float32Array.from(u ?? [0]), [u?.length ?? 1]);
    using victims = Tensor.from(
      cache.device,
      Int32Array.from(typeof victim === 'number' ? [victim] : victim),
      [typeof victim === 'number' ? 1 : victim.length],
    );
    camMerge(
      stream,
      kv.kv(0),
      typeof victim === 'number' ? victim : victims,
      { ...DRAW, p, merged, ...(u && { uniforms }), ...given },
      { ...FOLD, tally: 1, ...options },
    );
    using values = cache.empty([heads, count, dim]);
    ops.kvRead(stream, null, values, null, kv.kv(0));
    return {
      p: [...((await p.read(stream)) as Float32Array)],
      merged: [...((await merged.read(stream)) as Int32Array)],
      values: await readAs(values, cache),
    };
  };
  /** Values in float32 whatever their format. */
  const readAs = async (tensor: Tensor, cache: TestCache): Promise<Float32Array> => {
    using wide = Tensor.empty(cache.device, 'float32', tensor.shape);
    ops.cast(cache.stream, wide, tensor);
    return (await wide.read(cache.stream)) as Float32Array;
  };

  it('gives the example of the specification', async () => {
    const values = [0, 8, 2, 3, 4, 5].map((x) => new Array<number>(8).fill(x));
    const rows = { scores: [[0.9, 0.2, 0.1, 0.3, 0.4, 0.05]], values: [values] };
    const got = await run(rows, 1, { targets: 2 }, { u: [0.99] });
    expect(got.p[0]).toBeCloseTo(1);
    expect(got.merged).toEqual([1]);
    const want = [0, 8, 6, 7, 4, 5].flatMap((x) => new Array<number>(8).fill(x));
    expect([...got.values]).toEqual(want);
  });

  it.each([
    { heads: 1, count: 2, dim: 8, targets: 1, dtype: 'float32' },
    { heads: 3, count: 40, dim: 64, targets: 16, dtype: 'float32' },
    { heads: 2, count: 400, dim: 128, targets: 300, dtype: 'float32' },
    { heads: 2, count: 40, dim: 80, targets: 16, dtype: 'bfloat16' },
    { heads: 4, count: 40, dim: 128, targets: 16, dtype: 'float16' },
    { heads: 2, count: 40, dim: 24, targets: 5, dtype: 'float16' },
  ] as const)(
    'agrees with the reference: $heads × $count, dim $dim, $targets targets, $dtype',
    async ({ heads, count, dim, targets, dtype }) => {
      const rows = random(heads, count, dim, 31);
      for (const divisor of ['targets', 'actual'] as const) {
        const victims = Array.from({ length: heads }, (_, head) => (head * 17) % count);
        const u = Array.from({ length: heads }, (_, head) => (head % 2 === 0 ? 0.01 : 0.6));
        const got = await run(rows, victims, { targets, divisor }, { u, dtype });
        const want: number[] = [];
        for (let head = 0; head < heads; head++) {
          const all = copyOf(rows, head);
          const fold = { targets, divisor, recent: undefined };
          const { p, merged } = referenceMerge(all, victims[head] ?? 0, u[head] ?? 0, fold);
          expect(got.p[head]).toBeCloseTo(p, 5);
          expect(got.merged[head]).toBe(Number(merged));
          want.push(...all.values.flat());
        }
        const rel = dtype === 'float32' ? 1e-6 : dtype === 'float16' ? 2 ** -11 : 2 ** -8;
        expectClose(got.values, want, { abs: 1e-6, rel }, divisor);
      }
    },
  );

  it('writes no row past the newest, and none before the newest `recent`', async () => {
    const rows = random(1, 12, 8, 3);
    const changed = async (victim: number, recent?: number): Promise<number[]> => {
      const { values } = await run(rows, victim, { targets: 4, recent }, { gate: 'always' });
      const before = rows.values.flat(2);
      return Array.from({ length: 12 }, (_, row) => row).filter((row) =>
        values.subarray(row * 8, row * 8 + 8).some((x, c) => x !== before[row * 8 + c]),
      );
    };
    expect(await changed(2)).toEqual([3, 4, 5, 6]);
    expect(await changed(9)).toEqual([10, 11]);
    expect(await changed(11)).toEqual([]);
    expect(await changed(2, 12)).toEqual([3, 4, 5, 6]);
    expect(await changed(2, 7)).toEqual([5, 6]);
    expect(await changed(2, 5)).toEqual([]);
  });

  it('takes 0/0 for 0 and x/0 for 1', async () => {
    const values = Array.from({ length: 4 }, (_, row) => new Array<number>(8).fill(row));
    const rows = {
      scores: [
        [0, 0, 0, 0],
        [2, 0, 0, 0],
      ],
      values: [values, values],
    };
    const got = await run(rows, 0, { targets: 2 }, { u: [0, 0.999] });
    expect(got.p).toEqual([0, 1]);
    expect(got.merged).toEqual([0, 1]);
  });

  it('draws its own numbers from seed, layer, head and position', async () => {
    const count = 9;
    for (const [seed, layer, first] of [
      [0, 0, 0],
      [12_345_678_901, 31, 70_000],
    ] as const) {
      // Probability is about u of the head, a little above or below.
      for (const nudge of [-1e-4, 1e-4]) {
        const scores = [0, 1, 2].map((head) =>
          Array.from({ length: count }, (_, row) =>
            row === 2 ? referenceUniform(seed, layer, head, first + 2) + nudge : 1,
          ),
        );
        const rows = { ...random(3, count, 8, 1), scores };
        const got = await run(rows, 2, { layer, targets: 4 }, { seed, first });
        expect(got.merged).toEqual(new Array(3).fill(nudge > 0 ? 1 : 0));
      }
    }
  });

  it('keeps the sum of values when a row is folded into all its targets', async () => {
    const cases = fc.record({
      count: fc.integer({ min: 2, max: 60 }),
      targets: fc.integer({ min: 1, max: 40 }),
      seed: fc.integer({ min: 1, max: 100_000 }),
      at: fc.double({ min: 0, max: 0.999, noNaN: true }),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({ count, targets, seed, at }) => {
        const rows = random(2, count, 8, seed);
        const victim = Math.floor(at * (count - 1));
        const options = { targets, divisor: 'actual' } as const;
        const { values } = await run(rows, victim, options, { gate: 'always' });
        for (let head = 0; head < 2; head++) {
          for (let c = 0; c < 8; c++) {
            const sum = (all: (row: number) => number, from: number): number =>
              Array.from({ length: count - from }, (_, i) => all(from + i)).reduce(
                (a, b) => a + b,
                0,
              );
            const before = sum((row) => rows.values[head]?.[row]?.[c] ?? 0, victim);
            const after = sum((row) => values[(head * count + row) * 8 + c] ?? 0, victim + 1);
            expect(after).toBeCloseTo(before, 3);
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  it('refuses what is not a row of the cache', async () => {
    const rows = random(2, 6, 8, 5);
    await expect(run(rows, 6)).rejects.toThrow(errorWith('ERR_ACCEL_ARGUMENT'));
    await expect(run(rows, -1)).rejects.toThrow(errorWith('ERR_ACCEL_ARGUMENT'));
    await expect(run(rows, [0, 6])).rejects.toMatchObject({ code: 'ERR_ACCEL_ARGUMENT' });
    await expect(run(rows, [0])).rejects.toThrow(errorWith('ERR_ACCEL_SHAPE'));
    await expect(run(rows, 0, { tally: 2 })).rejects.toThrow(errorWith('ERR_ACCEL_ARGUMENT'));
    await expect(run(rows, 0, { targets: 0 })).rejects.toThrow(errorWith('ERR_ACCEL_ARGUMENT'));
    await expect(run(rows, 0, {}, { u: [0] })).rejects.toThrow(errorWith('ERR_ACCEL_SHAPE'));
  });
});
