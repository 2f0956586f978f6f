import fc from 'fast-check';
import { expect, test } from 'vitest';
import { kvBatch, ops, type HeadReduce, type KvSequence } from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { Numbers, Side } from './support/parity.js';
import { probabilities, reduceHeads, stored, type PlainShape } from './support/plain-attention.js';

interface Shape extends PlainShape {
  readonly dtype: 'float32' | 'bfloat16';
  readonly rows: number;
  /** Rows dropped behind the first ones, which leaves a gap. */
  readonly gap: number;
}

const geometry = {
  kvHeads: fc.integer({ min: 1, max: 3 }),
  group: fc.integer({ min: 1, max: 5 }),
  dim: fc.constantFrom(8, 24, 64, 128),
  dtype: fc.constantFrom('float32' as const, 'bfloat16' as const),
  gap: fc.constantFrom(0, 1, 19, 70),
};
const shapes = fc.record({ ...geometry, rows: fc.integer({ min: 1, max: 130 }) });
const TALLIES = 3;

/** A cache on a device beside the keys that it holds. */
class Filled {
  readonly side: Side;
  readonly cache: KvSequence;
  readonly shape: Shape;
  keys: Float32Array;

  constructor(side: Side, cache: KvSequence, shape: Shape, numbers: Numbers) {
    this.side = side;
    this.cache = cache;
    this.shape = shape;
    this.keys = new Float32Array(0);
    const { rows, gap } = shape;
    const front = Math.min(rows, 4);
    this.append(front, numbers);
    if (front < rows) {
      const kept = this.keys;
      this.append(gap, numbers);
      this.keys = kept;
      this.append(rows - front, numbers);
      cache.drop(0, front, gap);
    }
  }

  append(count: number, numbers: Numbers): void {
    const { kvHeads, dim, dtype } = this.shape;
    const data = stored(numbers.normal(count * kvHeads * dim), dtype);
    const keys = this.side.floats(data, [count, kvHeads, dim], dtype);
    const positions = this.side.ints(Int32Array.from({ length: count }, (_, i) => i));
    this.cache.reserve(0, count);
    const kv = this.cache.kv(0);
    ops.kvAppend(this.side.stream, kv, keys, keys, positions, Int32Array.of(count));
    const all = new Float32Array(this.keys.length + data.length);
    all.set(this.keys);
    all.set(data, this.keys.length);
    this.keys = all;
  }
}

function fill(side: Side, shape: Shape, numbers: Numbers): Filled {
  const { kvHeads, dim, dtype, rows, gap } = shape;
  const [cache] = side.caches(1, kvHeads, dim, dtype, rows + gap + 200, TALLIES);
  if (cache === undefined) throw new Error('no cache');
  return new Filled(side, cache, shape, numbers);
}

/** A tally of every row, `[heads][rows]`. */
async function tally(side: Side, cache: KvSequence, which: number): Promise<number[][]> {
  const heads = cache.shape.heads;
  const rows = cache.rows(0, 0);
  const out = side.out('float32', [heads, rows]);
  ops.tallyRead(side.stream, out, cache.kv(0), which);
  const all = (await out.read(side.stream)) as Float32Array;
  return Array.from({ length: heads }, (_, h) => [...all.subarray(h * rows, (h + 1) * rows)]);
}

function expectClose(got: readonly number[], want: readonly number[], near = 2e-5): void {
  expect(got).toHaveLength(want.length);
  for (const [i, value] of want.entries()) {
    const error = Math.abs((got[i] ?? NaN) - value);
    if (!(error <= near * (1 + Math.abs(value)))) expect.fail(`[${i}] is ${got[i]}, not ${value}`);
  }
}

describeDevices('attention counted', (id) => {
  // A GPU sums in another order and takes powers of two in hardware.
  const near = id === 'cpu' ? 2e-5 : 2e-4;

  test('columnSums of chunks add up to the sums of the prompt', async () => {
    await fc.assert(
      fc.asyncProperty(
        shapes,
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 4 }),
        fc.constantFrom('none' as const, 'mean' as const, 'sum' as const),
        fc.nat(40),
        fc.nat(),
        async (shape, chunks, reduce, extra, seed) => {
          using side = new Side(id);
          const numbers = new Numbers(seed);
          const filled = fill(side, shape, numbers);
          const { kvHeads, group, dim, dtype, rows } = shape;
          const heads = kvHeads * group;
          const total = rows + chunks.reduce((a, b) => a + b, 0);
          const width = total + extra;
          const outHeads = reduce === 'none' ? heads : kvHeads;
          // Rows from before the prompt begin at 0; columns of new rows are set whatever they hold.
          const initial = new Float32Array(outHeads * width).map((_, i) =>
            i % width < rows ? 0 : NaN,
          );
          const out = side.floats(initial, [outHeads, width]);
          const want = Array.from({ length: outHeads }, () => new Array<number>(total).fill(0));
          for (const count of chunks) {
            filled.append(count, numbers);
            const q = stored(numbers.normal(count * heads * dim, 2), dtype);
            const query = side.floats(q, [count, heads, dim], dtype);
            const attended = side.out(dtype, [count, heads, dim]);
            const lse = side.out('float32', [count, heads]);
            const kv = filled.cache.kv(0);
            const scale = 1 / Math.sqrt(dim);
            const lens = Int32Array.of(count);
            ops.attention(side.stream, attended, lse, query, kv, lens, { scale, causal: true });
            ops.columnSums(side.stream, out, query, lse, kv, { scale, reduce, accumulate: true });
            for (const step of probabilities(q, filled.keys, shape)) {
              reduceHeads(step, group, reduce).forEach((row, h) =>
                row.forEach((p, j) => ((want[h] as number[])[j] = (want[h]?.[j] ?? 0) + p)),
              );
            }
          }
          const got = [...((await out.read(side.stream)) as Float32Array)];
          for (const [h, sums] of want.entries()) {
            expectClose(got.slice(h * width, h * width + total), sums, near);
            expect(got.slice(h * width + total, (h + 1) * width).every(Number.isNaN)).toBe(true);
          }
          // The ways to a tally: reduced already, or by tallyAdd.
          ops.tallyAdd(side.stream, filled.cache.kv(0), out, 1, reduce === 'sum' ? 'sum' : 'mean');
          const to = await tally(side, filled.cache, 1);
          const sums = reduce === 'none' ? reduceHeads(want, group, 'mean') : want;
          sums.forEach((row, h) => expectClose(to[h] ?? [], row, near));
        },
      ),
      { numRuns: 25 },
    );
  });

  test('columnSums of a range writes its columns alone', async () => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.nat(150), fc.nat(150), fc.nat(), async (shape, a, b, seed) => {
        using side = new Side(id);
        const numbers = new Numbers(seed);
        const { cache } = fill(side, shape, numbers);
        const { kvHeads, group, dim, dtype, rows } = shape;
        const heads = kvHeads * group;
        const count = 1 + (seed % Math.min(rows, 9));
        const query = side.floats(numbers.normal(count * heads * dim), [count, heads, dim], dtype);
        const lse = side.floats(new Float32Array(count * heads).fill(5), [count, heads]);
        const [whole, part] = [0, 1].map(() => side.out('float32', [kvHeads, rows])) as [
          ReturnType<Side['out']>,
          ReturnType<Side['out']>,
        ];
        const range = [Math.min(a, b), Math.max(a, b)] as const;
        const options = { scale: 0.1, reduce: 'max' } as const;
        ops.columnSums(side.stream, whole, query, lse, cache.kv(0), options);
        ops.columnSums(side.stream, part, query, lse, cache.kv(0), { ...options, range });
        const all = [...((await whole.read(side.stream)) as Float32Array)];
        const got = [...((await part.read(side.stream)) as Float32Array)];
        expectClose(
          got,
          all.map((x, i) => (i % rows >= range[0] && i % rows < range[1] ? x : -777)),
          id === 'cpu' ? 0 : 1e-5,
        );
      }),
      { numRuns: 25 },
    );
  });

  test('tallyStep counts a decode step, the same alone as in a batch', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record(geometry),
        fc.array(fc.integer({ min: 1, max: 160 }), { minLength: 1, maxLength: 3 }),
        fc.constantFrom<HeadReduce[]>('mean', 'max', 'sum', 'first'),
        fc.boolean(),
        fc.boolean(),
        fc.nat(),
        async (common, counts, reduce, accumulate, ranged, seed) => {
          using side = new Side(id);
          const numbers = new Numbers(seed);
          const { kvHeads, group, dim, dtype } = common;
          const heads = kvHeads * group;
          const batch = counts.length;
          const made = side.caches(batch, kvHeads, dim, dtype, 300, TALLIES);
          const filled = made.map(
            (cache, b) => new Filled(side, cache, { ...common, rows: counts[b] ?? 1 }, numbers),
          );
          const before = await Promise.all(
            made.map(async (cache, b) => {
              const values = numbers.normal(kvHeads * (counts[b] ?? 1));
              const tensor = side.floats(values, [kvHeads, counts[b] ?? 1]);
              for (const which of [0, 2]) ops.tallyWrite(side.stream, cache.kv(0), tensor, which);
              return await tally(side, cache, 2);
            }),
          );
          const q = stored(numbers.normal(batch * heads * dim, 2), dtype);
          const query = side.floats(q, [batch, heads, dim], dtype);
          const attended = side.out(dtype, [batch, heads, dim]);
          const lse = side.out('float32', [batch, heads]);
          const [scale, ones] = [1 / Math.sqrt(dim), new Int32Array(batch).fill(1)];
          const kv = kvBatch(made, 0);
          ops.attention(side.stream, attended, lse, query, kv, ones, { scale, causal: true });
          const ranges = Int32Array.from(
            counts.flatMap((rows) => {
              const begin = numbers.integer(rows + 1);
              return [begin, begin + numbers.integer(rows + 9)];
            }),
          );
          const options = { scale, reduce, accumulate };
          ops.tallyStep(side.stream, kv, query, lse, {
            ...options,
            tally: 2,
            ...(ranged && { ranges }),
          });
          for (const [b, cache] of made.entries()) {
            const ofQ = q.slice(b * heads * dim, (b + 1) * heads * dim);
            const [step = []] = probabilities(ofQ, filled[b]?.keys ?? ofQ, common);
            const got = await tally(side, cache, 2);
            const old = before[b] ?? [];
            reduceHeads(step, group, reduce).forEach((row, h) => {
              const want = row.map((p, j) => {
                const was = old[h]?.[j] ?? NaN;
                const [begin = 0, end = 0] = ranges.subarray(2 * b, 2 * b + 2);
                return ranged && (j < begin || j >= end) ? was : accumulate ? was + p : p;
              });
              expectClose(got[h] ?? [], want, near);
            });
            const slice = { scale, reduce, accumulate, tally: 0 };
            const alone = ranged ? { ...slice, ranges: ranges.slice(2 * b, 2 * b + 2) } : slice;
            using one = query.slice(b, b + 1);
            using sum = lse.slice(b, b + 1);
            ops.tallyStep(side.stream, cache.kv(0), one, sum, alone);
            expect(await tally(side, cache, 0)).toEqual(got);
            const untouched = await tally(side, cache, 1);
            expect(untouched.flat().every((x) => x === 0)).toBe(true);
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  test.each(['mean', 'max', 'sum', 'first'] as const)(
    'tallyAdd of query heads: %s',
    async (how) => {
      await fc.assert(
        fc.asyncProperty(shapes, fc.nat(20), fc.nat(), async (shape, extra, seed) => {
          using side = new Side(id);
          const numbers = new Numbers(seed);
          const { cache } = fill(side, shape, numbers);
          const { kvHeads, group, rows } = shape;
          const width = rows + extra;
          const data = numbers.normal(kvHeads * group * width);
          const sums = side.floats(data, [kvHeads * group, width]);
          ops.tallyAdd(side.stream, cache.kv(0), sums, 0, how);
          ops.tallyAdd(side.stream, cache.kv(0), sums, 0, how);
          const heads = Array.from({ length: kvHeads * group }, (_, h) => [
            ...data.subarray(h * width, h * width + rows),
          ]);
          const got = await tally(side, cache, 0);
          reduceHeads(heads, group, how).forEach((row, h) =>
            expectClose(
              got[h] ?? [],
              row.map((x) => 2 * x),
              1e-6,
            ),
          );
          for (const other of [1, 2])
            expect((await tally(side, cache, other)).flat().every((x) => x === 0)).toBe(true);
        }),
        { numRuns: 15 },
      );
    },
  );

  test('tallyWrite and tallyRead, with rows that must stay', async () => {
    await fc.assert(
      fc.asyncProperty(
        shapes,
        fc.nat(140),
        fc.nat(140),
        fc.nat(),
        async (shape, first, last, seed) => {
          using side = new Side(id);
          const numbers = new Numbers(seed);
          const { cache } = fill(side, shape, numbers);
          const { kvHeads, rows } = shape;
          const data = numbers.normal(kvHeads * rows);
          ops.tallyWrite(side.stream, cache.kv(0), side.floats(data, [kvHeads, rows]), 2);
          const out = side.out('float32', [kvHeads, rows]);
          ops.tallyRead(side.stream, out, cache.kv(0), 2, { first, last });
          expect([...((await out.read(side.stream)) as Float32Array)]).toEqual(
            [...data].map((x, i) => (i % rows < first || i % rows >= rows - last ? Infinity : x)),
          );
        },
      ),
      { numRuns: 25 },
    );
  });

  test('takeColumns', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 2000 }),
        fc.nat(300),
        fc.nat(),
        async (heads, n, k, seed) => {
          using side = new Side(id);
          const numbers = new Numbers(seed);
          const x = numbers.normal(heads * n);
          const index = numbers.integers(heads * k, n);
          const out = side.out('float32', [heads, k]);
          ops.takeColumns(
            side.stream,
            out,
            side.floats(x, [heads, n]),
            side.ints(index, [heads, k]),
          );
          expect([...((await out.read(side.stream)) as Float32Array)]).toEqual(
            [...index].map((column, i) => x[Math.floor(i / k) * n + column]),
          );
        },
      ),
      { numRuns: 25 },
    );
  });
});
