import fc from 'fast-check';
import { kvBatch, ops, type HeadReduce, type KvSequence } from '../ts/index.js';
import { contents, few, fill, one } from './support/parity-cache.js';
import { describeParity, EXACT, parity, sameFailure } from './support/parity.js';

const groups = fc.constantFrom(1, 2, 4, 7, 8);
const reduces = fc.constantFrom<HeadReduce[]>('mean', 'max', 'sum', 'first');
/** Probabilities and sums of them; nothing is rounded to the format on the way. */
const near = (): { abs: number; rel: number } => ({ abs: 2e-5, rel: 5e-3 });

/** One of the two must have the tally that is written. */
const counted = <T extends { readonly tallies: number }>(shape: T): T => ({
  ...shape,
  tallies: Math.max(1, shape.tallies),
});

describeParity('tallies', () => {
  parity(
    'column_sums of chunks, in ranges',
    fc.record({
      cache: one,
      group: groups,
      queries: fc.oneof(fc.constantFrom(1, 32), fc.integer({ min: 1, max: 300 })),
      reduce: fc.constantFrom('none' as const, 'mean' as const, 'sum' as const),
      accumulate: fc.boolean(),
      extra: fc.nat(70),
      ranged: fc.boolean(),
    }),
    near,
    async (side, shape, numbers) => {
      const { heads, dim, dtype } = shape.cache;
      const [cache] = fill(side, shape.cache, numbers) as [KvSequence];
      const rows = cache.rows(0, 0);
      const tokens = Math.min(rows, shape.queries);
      const hq = heads * shape.group;
      const q = side.floats(numbers.normal(tokens * hq * dim), [tokens, hq, dim], dtype);
      const lse = side.floats(
        numbers.normal(tokens * hq).map((x) => x + 9),
        [tokens, hq],
      );
      const size = [shape.reduce === 'none' ? hq : heads, rows + shape.extra];
      const out = side.floats(numbers.normal((size[0] ?? 1) * (size[1] ?? 1)), size);
      const [a, b] = [numbers.integer(rows), numbers.integer(rows + 40)];
      const { reduce, accumulate } = shape;
      ops.columnSums(side.stream, out, q, lse, cache.kv(0), {
        scale: 1 / Math.sqrt(dim),
        reduce,
        accumulate,
        ...(shape.ranged && { range: [Math.min(a, b), Math.max(a, b)] as const }),
      });
      return await side.read({ out });
    },
    60,
  );

  parity(
    'tally_add',
    fc.record({ cache: one.map(counted), group: groups, reduce: reduces, extra: fc.nat(70) }),
    (_, name) => (name.startsWith('tally') ? { abs: 2e-6, rel: 1e-6 } : EXACT),
    async (side, { cache: shape, group, reduce, extra }, numbers) => {
      const [cache] = fill(side, shape, numbers) as [KvSequence];
      const size = [shape.heads * group, cache.rows(0, 0) + extra] as const;
      const sums = side.floats(numbers.normal(size[0] * size[1]), size);
      ops.tallyAdd(side.stream, cache.kv(0), sums, shape.tallies - 1, reduce);
      return await side.read(contents(side, cache, shape));
    },
  );

  parity(
    'tally_step',
    fc.record({
      cache: few.map(counted),
      group: groups,
      reduce: reduces,
      accumulate: fc.boolean(),
      ranged: fc.boolean(),
    }),
    (_, name) => (name.startsWith('tally') ? near() : EXACT),
    async (side, shape, numbers) => {
      const { heads, dim, dtype, rows, tallies } = shape.cache;
      const caches = fill(side, shape.cache, numbers);
      const [batch, hq] = [caches.length, heads * shape.group];
      const q = side.floats(numbers.normal(batch * hq * dim), [batch, hq, dim], dtype);
      const lse = side.floats(
        numbers.normal(batch * hq).map((x) => x + 5),
        [batch, hq],
      );
      const ranges = Int32Array.from(
        rows.flatMap((count) => {
          const begin = numbers.integer(count);
          return [begin, begin + numbers.integer(count + 10)];
        }),
      );
      ops.tallyStep(side.stream, kvBatch(caches, 0), q, lse, {
        scale: 1 / Math.sqrt(dim),
        tally: tallies - 1,
        reduce: shape.reduce,
        accumulate: shape.accumulate,
        ...(shape.ranged && { ranges }),
      });
      return await side.read(contents(side, caches.at(-1) as KvSequence, shape.cache));
    },
    60,
  );

  parity(
    'kv_remove',
    fc.record({ cache: one, keep: fc.nat(60) }),
    () => EXACT,
    async (side, { cache: shape, keep: wanted }, numbers) => {
      const [cache] = fill(side, shape, numbers) as [KvSequence];
      const rows = cache.rows(0, 0);
      const keep = Math.min(wanted, rows - 1);
      const victims = side.ints(numbers.integers(shape.heads, rows - keep));
      ops.kvRemove(side.stream, cache.kv(0), victims, keep);
      // The stale row may hold anything: it leaves by a copy, because the gap may be elsewhere.
      const others = Array.from({ length: rows }, (_, row) => row).filter(
        (row) => row !== rows - 1 - keep,
      );
      const list = Array.from({ length: shape.heads }, () => others).flat();
      const index = side.ints(Int32Array.from(list), [shape.heads, rows - 1]);
      cache.compact(0, index, new Array<number>(shape.heads).fill(rows - 1));
      return await side.read(contents(side, cache, shape));
    },
  );

  parity(
    'take_columns',
    fc.record({ heads: fc.integer({ min: 1, max: 9 }), n: fc.integer({ min: 1, max: 70_000 }) }),
    () => EXACT,
    async (side, { heads, n }, numbers) => {
      const k = numbers.integer(1000);
      const x = side.floats(numbers.normal(heads * n), [heads, n]);
      const out = side.out('float32', [heads, k]);
      const index = side.ints(numbers.integers(heads * k, n), [heads, k]);
      ops.takeColumns(side.stream, out, x, index);
      return await side.read({ out });
    },
  );

  sameFailure('a column that does not exist', 'take_columns', (side) => {
    const x = side.floats(new Float32Array(6), [2, 3]);
    const index = side.ints(Int32Array.of(0, 3), [2, 1]);
    ops.takeColumns(side.stream, side.out('float32', [2, 1]), x, index);
  });
});
