import fc from 'fast-check';
import { kvBatch, ops, type KvSequence } from '../ts/index.js';
import {
  contents,
  few,
  fill,
  geometry,
  one,
  rowCounts,
  type Cache,
} from './support/parity-cache.js';
import {
  describeParity,
  EXACT,
  parity,
  ROUNDED,
  sameFailure,
  TWICE,
  type Numbers,
  type Side,
} from './support/parity.js';

describeParity('cache ops', () => {
  parity(
    'kv_append and kv_read',
    few,
    () => EXACT,
    async (side, shape, numbers) => {
      const caches = fill(side, shape, numbers);
      const all = caches.map((cache) => side.read(contents(side, cache, shape)));
      const read = await Promise.all(all);
      return Object.fromEntries(
        read.flatMap((outputs, i) =>
          Object.entries(outputs).map(([name, data]) => [`${name} ${i}`, data] as const),
        ),
      );
    },
  );

  parity(
    'kv_gather',
    one,
    () => EXACT,
    async (side, shape, numbers) => {
      const [cache] = fill(side, shape, numbers) as [KvSequence];
      const rows = cache.rows(0, 0);
      const kept = Array.from({ length: shape.heads }, () =>
        Array.from({ length: rows }, (_, row) => row).filter(() => numbers.uniform() < 0.4),
      );
      const most = Math.max(1, ...kept.map((list) => list.length));
      const index = new Int32Array(shape.heads * most).fill(-1);
      kept.forEach((list, head) => index.set(list, head * most));
      cache.compact(
        0,
        side.ints(index, [shape.heads, most]),
        kept.map((list) => list.length),
      );
      return await side.read(contents(side, cache, shape));
    },
  );

  parity(
    'rope_append',
    fc.record({ cache: few, group: fc.integer({ min: 1, max: 4 }), interleaved: fc.boolean() }),
    ({ cache }, name) =>
      name === 'positions' || name.startsWith('tally') ? EXACT : ROUNDED[cache.dtype],
    async (side, { cache: shape, group, interleaved }, numbers) => {
      const { heads, dim, dtype } = shape;
      const caches = fill(side, shape, numbers);
      const lens = Int32Array.from(caches, () => numbers.integer(70));
      const total = lens.reduce((sum, length) => sum + length, 0);
      caches.forEach((cache, i) => cache.reserve(0, lens[i] ?? 0));
      const tensor = (count: number): ReturnType<Side['floats']> =>
        side.floats(numbers.normal(total * count * dim), [total, count, dim], dtype);
      const [q, k, v] = [tensor(heads * group), tensor(heads), tensor(heads)];
      const table = side.floats(numbers.normal(total * dim), [total, dim / 2, 2]);
      const positions = side.ints(Int32Array.from({ length: total }, (_, i) => 1000 + i));
      const kv = kvBatch(caches, 0);
      ops.ropeAppend(side.stream, q, k, v, kv, table, positions, lens, interleaved);
      const last = caches.at(-1) as KvSequence;
      return await side.read({ q, ...contents(side, last, shape) });
    },
  );

  sameFailure('a row that does not exist', 'kv_gather', (side) => {
    const [cache] = side.caches(1, 1, 8, 'float32', 16);
    if (cache === undefined) throw new Error('no cache');
    const data = side.floats(new Float32Array(24).fill(1), [3, 1, 8]);
    cache.reserve(0, 3);
    const positions = side.ints(Int32Array.of(0, 1, 2));
    ops.kvAppend(side.stream, cache.kv(0), data, data, positions, Int32Array.of(3));
    cache.compact(0, side.ints(Int32Array.of(0, 3), [1, 2]), [2]);
  });
});

describeParity('attention', () => {
  const queries = fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 200 }), fc.constant(4097));
  const options = {
    group: fc.constantFrom(1, 2, 4, 7, 8),
    queries,
    causal: fc.boolean(),
    window: fc.constantFrom(0, 0, 1, 17, 100),
    ranged: fc.boolean(),
  };
  const run = async (
    side: Side,
    shape: Cache & { group: number; queries: number } & {
      causal: boolean;
      window: number;
      ranged: boolean;
    },
    numbers: Numbers,
  ): Promise<Record<string, ArrayLike<number>>> => {
    const { heads, dim, dtype, group, causal, window, ranged } = shape;
    const caches = fill(side, shape, numbers);
    const lens = Int32Array.from(shape.rows, (rows) => Math.min(rows, shape.queries));
    const total = lens.reduce((sum, length) => sum + length, 0);
    const q = numbers.normal(total * heads * group * dim);
    const out = side.out(dtype, [total, heads * group, dim]);
    const lse = side.out('float32', [total, heads * group]);
    const ranges = Int32Array.from(
      shape.rows.flatMap((rows) => {
        const [a, b] = [numbers.integer(rows + 1), numbers.integer(rows + 1)];
        return [Math.min(a, b), Math.max(a, b)];
      }),
    );
    ops.attention(
      side.stream,
      out,
      lse,
      side.floats(q, [total, heads * group, dim], dtype),
      kvBatch(caches, 0),
      lens,
      { scale: 1 / Math.sqrt(dim), causal, window, ...(ranged && { ranges }) },
    );
    return await side.read({ out, lse });
  };
  const near = ({ dtype }: Cache, name: string): { abs: number; rel: number } =>
    name === 'lse' ? { abs: dtype === 'float32' ? 5e-5 : 2e-3, rel: 0 } : TWICE[dtype];

  parity(
    'of several sequences',
    fc.record({
      ...geometry,
      rows: fc.array(rowCounts, { minLength: 1, maxLength: 4 }),
      ...options,
    }),
    near,
    run,
    80,
  );
  parity(
    'of a long sequence',
    fc.record({ ...geometry, rows: fc.constantFrom([4097], [4096], [5000, 1]), ...options }),
    near,
    run,
    12,
  );
});

describeParity('attention signals', () => {
  const shapes = fc.record({
    cache: one,
    group: fc.constantFrom(1, 4, 7),
    queries: fc.oneof(fc.constantFrom(1, 16, 32), fc.integer({ min: 1, max: 150 })),
    reduce: fc.constantFrom('none' as const, 'mean' as const, 'max' as const, 'sum' as const),
  });
  // Sums of up to `queries` probabilities; nothing is rounded to the format on the way.
  const near = (): { abs: number; rel: number } => ({ abs: 2e-5, rel: 5e-3 });

  parity('observe_scores', shapes, near, async (side, shape, numbers) => {
    const { heads, dim, dtype } = shape.cache;
    const [cache] = fill(side, shape.cache, numbers) as [KvSequence];
    const rows = cache.rows(0, 0);
    const w = Math.min(rows, shape.queries);
    const hq = heads * shape.group;
    const q = side.floats(numbers.normal(w * hq * dim), [w, hq, dim], dtype);
    const out = side.out('float32', [shape.reduce === 'none' ? hq : heads, rows]);
    const { reduce } = shape;
    ops.observeScores(side.stream, out, q, cache.kv(0), { scale: 1 / Math.sqrt(dim), reduce });
    return await side.read({ out });
  });

  parity('column_sums', shapes, near, async (side, shape, numbers) => {
    const { heads, dim, dtype } = shape.cache;
    const [cache] = fill(side, shape.cache, numbers) as [KvSequence];
    const rows = cache.rows(0, 0);
    const tokens = Math.min(rows, 4 * shape.queries);
    const hq = heads * shape.group;
    const q = side.floats(numbers.normal(tokens * hq * dim), [tokens, hq, dim], dtype);
    const lse = side.floats(
      numbers.normal(tokens * hq).map((x) => x + 9),
      [tokens, hq],
    );
    const out = side.out('float32', [shape.reduce === 'none' ? hq : heads, rows]);
    const { reduce } = shape;
    const scale = 1 / Math.sqrt(dim);
    ops.columnSums(side.stream, out, q, lse, cache.kv(0), { scale, reduce });
    return await side.read({ out });
  });
});
