import fc from 'fast-check';
import { ops, type KvSequence, type Tensor } from '../../ts/index.js';
import { floatFormats, type Float, type Numbers, type Side } from './parity.js';

/** A cache that both devices fill with the same rows. */
export interface Cache {
  readonly dtype: Float;
  readonly heads: number;
  readonly dim: number;
  /** Rows of each sequence. */
  readonly rows: readonly number[];
  /** Appended in pieces of this many rows at most. */
  readonly piece: number;
  /** Rows dropped behind the first three, which leaves a gap. */
  readonly gap: number;
  readonly tallies: number;
}

export const geometry = {
  dtype: floatFormats,
  heads: fc.integer({ min: 1, max: 4 }),
  dim: fc.constantFrom(8, 64, 80, 128),
  piece: fc.constantFrom(1, 13, 64, 5000),
  gap: fc.constantFrom(0, 0, 1, 5, 40),
  tallies: fc.constantFrom(0, 0, 1, 3),
};
export const rowCounts = fc.oneof(
  fc.constantFrom(1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129),
  fc.integer({ min: 1, max: 400 }),
);
/** Of several sequences, or one. */
export const few: fc.Arbitrary<Cache> = fc.record({
  ...geometry,
  rows: fc.array(rowCounts, { minLength: 1, maxLength: 4 }),
});
export const one: fc.Arbitrary<Cache> = fc.record({
  ...geometry,
  rows: fc.tuple(fc.oneof(rowCounts, fc.constant(4097))),
});

/** Caches with rows of normal numbers. A row that is dropped later comes on top of `rows`. */
export function fill(side: Side, shape: Cache, numbers: Numbers): KvSequence[] {
  const { dtype, heads, dim, rows, piece, gap, tallies } = shape;
  const most = Math.max(...rows) + gap;
  const caches = side.caches(rows.length, heads, dim, dtype, most, tallies);
  for (const [i, cache] of caches.entries()) {
    const total = (rows[i] ?? 0) + ((rows[i] ?? 0) >= 3 ? gap : 0);
    // Single rows for the beginning are enough to cross pages; the rest comes at once.
    const pieces = piece === 1 ? 40 : Math.ceil(total / piece);
    for (let from = 0, step = 0; from < total; step++) {
      const to = step < pieces ? Math.min(total, from + piece) : total;
      const size = [to - from, heads, dim];
      const data = (): Float32Array => numbers.normal((to - from) * heads * dim);
      const [k, v] = [side.floats(data(), size, dtype), side.floats(data(), size, dtype)];
      const positions = Int32Array.from({ length: to - from }, (_, j) => from + j);
      cache.reserve(0, to - from);
      ops.kvAppend(side.stream, cache.kv(0), k, v, side.ints(positions), Int32Array.of(to - from));
      from = to;
    }
    if (total > (rows[i] ?? 0)) cache.drop(0, 3, gap);
    for (let tally = 0; tally < tallies; tally++) {
      const size = [heads, rows[i] ?? 0];
      const values = side.floats(numbers.normal(heads * (rows[i] ?? 0)), size);
      ops.tallyWrite(side.stream, cache.kv(0), values, tally);
    }
  }
  return caches;
}

/** Everything a cache holds, as tensors to read. */
export function contents(side: Side, cache: KvSequence, shape: Cache): Parameters<Side['read']>[0] {
  const { heads, dim, dtype } = shape;
  const counts = Array.from({ length: heads }, (_, head) => cache.rows(0, head));
  const most = Math.max(1, ...counts);
  const k = side.out(dtype, [heads, most, dim]);
  const v = side.out(dtype, [heads, most, dim]);
  const positions = side.out('int32', [heads, most]);
  ops.kvRead(side.stream, k, v, positions, cache.kv(0));
  const all: Record<string, Tensor> = { k, v, positions };
  for (let tally = 0; tally < shape.tallies && counts.every((count) => count === most); tally++) {
    const out = (all[`tally ${tally}`] = side.out('float32', [heads, most]));
    ops.tallyRead(side.stream, out, cache.kv(0), tally);
  }
  return all;
}
