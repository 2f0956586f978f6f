import fc from 'fast-check';
import { expect, test } from 'vitest';
import { kvBatch, ops, type KvSequence } from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { expectError } from './support/errors.js';
import { holedCaches, type HeldRow, type HoledShape } from './support/holed-cache.js';
import { Numbers, Side } from './support/parity.js';
import { reduceHeads, stored } from './support/plain-attention.js';
import { pay, sees, weighted, type Paid, type Sight } from './support/windowed-attention.js';

/** Windows of one position, inside the prompt, and wider than everything. */
const windows = fc.oneof(fc.constantFrom(1, 2, 17, 64, 100000), fc.integer({ min: 1, max: 500 }));
const formats = fc.constantFrom<HoledShape['dtype']>('float32', 'bfloat16');

/** Caches with holes; `alike`: heads keep different rows, but equally many. */
function shapes(limits: {
  readonly most: number;
  readonly after: number;
  readonly alike: boolean;
  readonly sequences: number;
}): fc.Arbitrary<HoledShape & { readonly group: number }> {
  return fc
    .record({
      dtype: formats,
      heads: fc.integer({ min: 1, max: 3 }),
      dim: fc.constantFrom(8, 64, 128),
      group: fc.integer({ min: 1, max: 4 }),
      drawn: fc.array(
        fc.record({
          first: fc.integer({ min: 0, max: limits.most }),
          shares: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), {
            minLength: 3,
            maxLength: 3,
          }),
          after: fc.integer({ min: 1, max: limits.after }),
        }),
        { minLength: 1, maxLength: limits.sequences },
      ),
    })
    .map(({ drawn, ...rest }) => ({
      ...rest,
      sequences: drawn.map(({ first, shares, after }) => ({
        first,
        after,
        kept: Array.from({ length: rest.heads }, (_, h) =>
          Math.round(first * (shares[limits.alike ? 0 : h] as number)),
        ),
      })),
    }));
}

/** How far numbers may be off: probabilities are rounded to the format on the way to `out` on a GPU. */
function near(device: string, dtype: HoledShape['dtype']): number {
  return dtype === 'bfloat16' ? 2e-2 : device === 'cpu' ? 1e-5 : 5e-5;
}

function expectNear(got: ArrayLike<number>, want: ArrayLike<number>, limit: number): void {
  expect(got.length).toBe(want.length);
  for (let i = 0; i < want.length; i++) {
    const [a, b] = [got[i] as number, want[i] as number];
    if (a === b) continue;
    expect(Math.abs(a - b) / (1 + Math.abs(b)), `at ${i}: ${a}, not ${b}`).toBeLessThan(limit);
  }
}

/** Queries `[T, heads, dim]`, the last rows of each sequence, and what each of them pays. */
function queries(
  shape: HoledShape & { readonly group: number },
  rows: readonly (readonly (readonly HeldRow[])[])[],
  lens: readonly number[],
  numbers: Numbers,
  sightOf: (sequence: number, query: number, head: number) => Sight,
): { readonly data: Float32Array; readonly paid: readonly (readonly Paid[])[] } {
  const { heads, group, dim, dtype } = shape;
  const queryHeads = heads * group;
  const total = lens.reduce((a, b) => a + b, 0);
  const data = stored(numbers.normal(total * queryHeads * dim), dtype);
  const paid: Paid[][] = [];
  for (const [b, m] of lens.entries()) {
    for (let i = 0; i < m; i++) {
      const token = paid.length;
      paid.push(
        Array.from({ length: queryHeads }, (_, h) => {
          const head = rows[b]?.[Math.floor(h / group)] as readonly HeldRow[];
          const at = (token * queryHeads + h) * dim;
          const own = head.length - m + i;
          return pay(data.subarray(at, at + dim), head, own, dim ** -0.5, sightOf(b, i, h));
        }),
      );
    }
  }
  return { data, paid };
}

describeDevices('a sliding window, in positions', (id) => {
  test('attention: rows that left, heads of different lengths, ranges', async () => {
    await fc.assert(
      fc.asyncProperty(
        shapes({ most: 260, after: 40, alike: false, sequences: 3 }),
        windows,
        fc.array(fc.tuple(fc.nat(200), fc.nat(200)), { minLength: 3, maxLength: 3 }),
        fc.boolean(),
        fc.integer(),
        async (shape, window, drawn, ranged, seed) => {
          using side = new Side(id);
          const numbers = new Numbers(seed);
          const { heads, group, dim, dtype } = shape;
          const { caches, rows } = holedCaches(side, shape, numbers);
          const ranges = drawn.map(([a, more]) => [a, a + more] as const);
          const lens = shape.sequences.map(({ after }) => after);
          const { data, paid } = queries(shape, rows, lens, numbers, (b) => ({
            window,
            ...(ranged && { range: ranges[b] as readonly [number, number] }),
          }));
          const size = [paid.length, heads * group, dim];
          const q = side.floats(data, size, dtype);
          const [out, lse] = [side.out(dtype, size), side.out('float32', size.slice(0, 2))];
          ops.attention(side.stream, out, lse, q, kvBatch([...caches], 0), Int32Array.from(lens), {
            scale: dim ** -0.5,
            causal: true,
            window,
            ...(ranged && { ranges: Int32Array.from(ranges.slice(0, lens.length).flat()) }),
          });
          const got = await side.read({ out, lse });
          let token = 0;
          const want = lens.flatMap((m, b) =>
            Array.from({ length: m }, () => token++).flatMap((t) =>
              (paid[t] as readonly Paid[]).flatMap(({ weights }, h) =>
                weighted(weights, rows[b]?.[Math.floor(h / group)] ?? [], dim),
              ),
            ),
          );
          expectNear(got['out'] ?? [], want, near(id, dtype));
          const lses = paid.flatMap((heads) => heads.map((one) => one.lse));
          expectNear(got['lse'] ?? [], lses, 1e-4);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('columnSums and observeScores: what rows receive through it', async () => {
    await fc.assert(
      fc.asyncProperty(
        shapes({ most: 400, after: 90, alike: true, sequences: 1 }),
        windows,
        fc.constantFrom('none', 'mean', 'max', 'sum'),
        fc.integer(),
        async (shape, window, reduce, seed) => {
          using side = new Side(id);
          const numbers = new Numbers(seed);
          const { heads, group, dim, dtype } = shape;
          const { caches, rows } = holedCaches(side, shape, numbers);
          const cache = caches[0] as KvSequence;
          const m = shape.sequences[0]?.after ?? 0;
          const { data, paid } = queries(shape, rows, [m], numbers, () => ({ window }));
          const q = side.floats(data, [m, heads * group, dim], dtype);
          const lseOf = Float32Array.from(paid.flatMap((of) => of.map((one) => one.lse)));
          const lse = side.floats(lseOf, [m, heads * group]);
          const n = cache.rows(0, 0);
          const size = [reduce === 'none' ? heads * group : heads, n];
          const [sums, scores] = [side.out('float32', size), side.out('float32', size)];
          const options = { scale: dim ** -0.5, reduce, window };
          ops.columnSums(side.stream, sums, q, lse, cache.kv(0), options);
          ops.observeScores(side.stream, scores, q, cache.kv(0), options);
          const got = await side.read({ sums, scores });
          const perHead = Array.from({ length: heads * group }, (_, h) =>
            Array.from({ length: n }, (_, j) =>
              paid.reduce((sum, of) => sum + (of[h]?.weights[j] ?? NaN), 0),
            ),
          );
          const want = reduceHeads(perHead, group, reduce).flat();
          expectNear(got['sums'] ?? [], want, 1e-4);
          expectNear(got['scores'] ?? [], want, 1e-4);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('tallyStep: rows outside receive 0', async () => {
    await fc.assert(
      fc.asyncProperty(
        shapes({ most: 300, after: 3, alike: true, sequences: 3 }),
        windows,
        fc.constantFrom('mean', 'max', 'sum', 'first'),
        fc.boolean(),
        fc.option(fc.tuple(fc.nat(200), fc.nat(200)), { nil: undefined }),
        fc.integer(),
        async (drawn, window, reduce, accumulate, span, seed) => {
          using side = new Side(id);
          const numbers = new Numbers(seed);
          const shape = { ...drawn, tallies: 1 };
          const { heads, group, dim, dtype } = shape;
          const { caches, rows } = holedCaches(side, shape, numbers);
          const lens = caches.map(() => 1);
          const { data, paid } = queries(shape, rows, lens, numbers, () => ({ window }));
          const q = side.floats(data, [lens.length, heads * group, dim], dtype);
          const lseOf = Float32Array.from(paid.flatMap((of) => of.map((one) => one.lse)));
          const lse = side.floats(lseOf, [lens.length, heads * group]);
          const options = { scale: dim ** -0.5, tally: 0, reduce };
          const kv = kvBatch([...caches], 0);
          // Without a window first, so that rows have something to keep or to lose.
          const everything = side.floats(new Float32Array(lens.length * heads * group), [
            lens.length,
            heads * group,
          ]);
          ops.tallyStep(side.stream, kv, q, everything, { ...options, accumulate: false });
          const before = await tallies(side, caches, heads);
          const range = span === undefined ? undefined : ([span[0], span[0] + span[1]] as const);
          ops.tallyStep(side.stream, kv, q, lse, {
            ...options,
            accumulate,
            window,
            ...(range && { ranges: Int32Array.from(lens.flatMap(() => [...range])) }),
          });
          const after = await tallies(side, caches, heads);
          for (const [b, of] of rows.entries()) {
            for (const [h, held] of of.entries()) {
              const weights = Array.from(
                { length: group },
                (_, i) => paid[b]?.[h * group + i]?.weights ?? [],
              );
              const received = reduceHeads(weights, group, reduce)[0] ?? [];
              const want = held.map((_, j) => {
                const old = before[b]?.[h]?.[j] ?? NaN;
                if (range !== undefined && (j < range[0] || j >= range[1])) return old;
                return (accumulate ? old : 0) + (received[j] ?? NaN);
              });
              expectNear(after[b]?.[h] ?? [], want, 1e-4);
              const outside = held.findIndex((_, j) => sees(held, held.length - 1, j, { window }));
              if (range === undefined && !accumulate)
                expect((after[b]?.[h] ?? []).slice(0, outside).every((x) => x === 0)).toBe(true);
            }
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test('blockSparseAttention and blockMass: rows of computed blocks that are in it', async () => {
    const blocks = fc.record({
      past: fc.integer({ min: 0, max: 3 }),
      after: fc.integer({ min: 1, max: 300 }),
      left: fc.nat(150),
      dtype: formats,
      dim: fc.constantFrom(8, 64),
      heads: fc.integer({ min: 1, max: 2 }),
      group: fc.integer({ min: 1, max: 2 }),
    });
    await fc.assert(
      fc.asyncProperty(blocks, windows, fc.integer(), async (drawn, window, seed) => {
        using side = new Side(id);
        const numbers = new Numbers(seed);
        const { past, after, left, dim, heads, group, dtype } = drawn;
        const kept = Array.from({ length: heads }, () => 128 * past);
        const shape = { ...drawn, sequences: [{ first: 128 * past + left, kept, after }] };
        const { caches, rows } = holedCaches(side, shape, numbers);
        const kv = (caches[0] as KvSequence).kv(0);
        const queryHeads = heads * group;
        const rowBlocks = Math.ceil(after / 128);
        const columns = Math.ceil((128 * past + after) / 128);
        const words = Int32Array.from({ length: rowBlocks * queryHeads }, () =>
          numbers.integer(2 ** 31),
        );
        const listed = (i: number, h: number, j: number): boolean =>
          (((words[i * queryHeads + h] ?? 0) >> j) & 1) === 1;
        const blockOf = (i: number, h: number): Sight => ({
          window,
          block: (j) => listed(Math.floor(i / 128), h, j),
        });
        const sparse = queries(shape, rows, [after], numbers, (_, i, h) => blockOf(i, h));
        const size = [after, queryHeads, dim];
        const q = side.floats(sparse.data, size, dtype);
        const [out, lse] = [side.out(dtype, size), side.out('float32', size.slice(0, 2))];
        const mask = side.ints(words, [rowBlocks, queryHeads, 1]);
        const counts = side.ints(new Int32Array(queryHeads), [1, queryHeads]);
        const scale = dim ** -0.5;
        const options = { scale, mask, counts, window };
        const sums = side.out('float32', [queryHeads, 128 * past + after]);
        ops.blockSparseAttention(side.stream, out, lse, q, kv, Int32Array.of(after), options);
        ops.columnSums(side.stream, sums, q, lse, kv, { scale, reduce: 'none', mask, window });
        const mass = side.out('float32', [queryHeads, rowBlocks, columns]);
        ops.blockMass(side.stream, mass, q, kv, lse, { scale, window });
        const got = await side.read({ out, lse, counts, mass, sums });

        const head = (h: number): readonly HeldRow[] => rows[0]?.[Math.floor(h / group)] ?? [];
        const want = sparse.paid.flatMap((of) =>
          of.flatMap(({ weights }, h) => weighted(weights, head(h), dim)),
        );
        expectNear(got['out'] ?? [], want, near(id, dtype));
        expectNear(
          got['lse'] ?? [],
          sparse.paid.flatMap((of) => of.map((one) => one.lse)),
          1e-4,
        );
        const received = Array.from({ length: queryHeads }, (_, h) =>
          head(h).map((_, j) => sparse.paid.reduce((sum, of) => sum + (of[h]?.weights[j] ?? 0), 0)),
        );
        expectNear(got['sums'] ?? [], received.flat(), 1e-4);
        for (let h = 0; h < queryHeads; h++) {
          // Computed: the diagonal, and listed blocks between it and the window of the first query.
          let computed = 0;
          for (let i = 0; i < rowBlocks; i++) {
            const own = 128 * (past + i);
            const first = head(h).findIndex((_, j) => sees(head(h), own, j, { window }));
            for (let j = Math.floor(first / 128); j <= past + i; j++)
              computed += Number(j === past + i || listed(i, h, j));
          }
          expect(got['counts']?.[h]).toBe(computed);
        }

        // Mass does not know the mask: with the lse at hand it is what every block would have got.
        const wantMass = Array.from({ length: queryHeads * rowBlocks * columns }, (_, at) => {
          const [j, i] = [at % columns, Math.floor(at / columns) % rowBlocks];
          const h = Math.floor(at / (columns * rowBlocks));
          const count = Math.min(128, after - 128 * i);
          let total = 0;
          for (let t = 128 * i; t < 128 * i + count; t++) {
            const from = (t * queryHeads + h) * dim;
            const query = sparse.data.subarray(from, from + dim);
            const own = 128 * past + t;
            const dense = pay(query, head(h), own, scale, { window });
            const factor = Math.exp(dense.lse - (sparse.paid[t]?.[h]?.lse ?? NaN));
            for (const weight of dense.weights.slice(128 * j, 128 * (j + 1)))
              total += weight * factor;
          }
          return total / count;
        });
        expectNear(got['mass'] ?? [], wantMass, 1e-3);
      }),
      { numRuns: 30 },
    );
  });

  test('a negative window is refused', () => {
    using side = new Side(id);
    const [cache] = side.caches(1, 1, 8, 'float32', 1, 1);
    const kv = (cache as KvSequence).kv(0);
    const q = side.out('float32', [0, 1, 8]);
    const lse = side.out('float32', [0, 1]);
    const lens = Int32Array.of(0);
    const options = { scale: 1, window: -1 };
    const refused = ['ERR_ACCEL_ARGUMENT', /window must be at least 0, got -1/] as const;
    expectError(
      () => ops.attention(side.stream, q, null, q, kv, lens, { ...options, causal: true }),
      ...refused,
    );
    const sums = side.out('float32', [1, 0]);
    const scores = { ...options, reduce: 'none' } as const;
    expectError(() => ops.columnSums(side.stream, sums, q, lse, kv, scores), ...refused);
    expectError(() => ops.observeScores(side.stream, sums, q, kv, scores), ...refused);
  });
});

/** The first tally of all rows, `[sequence][head]`. */
async function tallies(
  side: Side,
  caches: readonly KvSequence[],
  heads: number,
): Promise<readonly (readonly (readonly number[])[])[]> {
  return Promise.all(
    caches.map(async (cache) => {
      const n = cache.rows(0, 0);
      const out = side.out('float32', [heads, n]);
      ops.tallyRead(side.stream, out, cache.kv(0), 0);
      const got = (await out.read(side.stream)) as Float32Array;
      return Array.from({ length: heads }, (_, h) => Array.from(got.subarray(h * n, (h + 1) * n)));
    }),
  );
}
