import { ops, Tensor, type KvSequence } from '../../ts/index.js';
import type { Float, Numbers, Side } from './parity.js';
import { stored } from './plain-attention.js';

/** Caches of several sequences from which rows have left, head by head, before the newest ones came. */
export interface HoledShape {
  readonly dtype: Exclude<Float, 'float16'>;
  readonly heads: number;
  readonly dim: number;
  /** Of each sequence: rows that came first, how many of them stay in each head, and rows that came afterwards. */
  readonly sequences: readonly {
    readonly first: number;
    readonly kept: readonly number[];
    readonly after: number;
  }[];
  readonly tallies?: number;
}

/** What a head of a cache holds, row by row. */
export interface HeldRow {
  readonly position: number;
  readonly k: Float32Array;
  readonly v: Float32Array;
}

export interface HoledCaches {
  readonly caches: readonly KvSequence[];
  /** `[sequence][head][row]` */
  readonly rows: readonly (readonly (readonly HeldRow[])[])[];
}

/** Makes the caches of `shape` and says what they hold. Which rows stay is random. */
export function holedCaches(side: Side, shape: HoledShape, numbers: Numbers): HoledCaches {
  const { dtype, heads, dim, sequences, tallies = 0 } = shape;
  const most = Math.max(...sequences.map(({ first, after }) => first + after));
  const caches = side.caches(sequences.length, heads, dim, dtype, most, tallies);
  const rows = caches.map((cache, b) => {
    const { first, kept, after } = sequences[b] as HoledShape['sequences'][number];
    let held = append(side, cache, shape, numbers, 0, first);
    const keep = kept.map((count) => choose(numbers, first, count));
    if (kept.some((count) => count < first)) {
      const width = Math.max(1, ...kept);
      const index = new Int32Array(heads * width).fill(-1);
      for (const [head, list] of keep.entries()) index.set(list, head * width);
      using tensor = Tensor.from(side.device, index, [heads, width]);
      cache.compact(0, tensor, [...kept]);
      held = held.map((all, head) => (keep[head] ?? []).map((row) => all[row] as HeldRow));
    }
    const newest = append(side, cache, shape, numbers, first, after);
    return held.map((old, head) => [...old, ...(newest[head] ?? [])]);
  });
  return { caches, rows };
}

/** `count` of the numbers below `below`, ascending. */
function choose(numbers: Numbers, below: number, count: number): number[] {
  const left = Array.from({ length: below }, (_, i) => i);
  while (left.length > count) left.splice(numbers.integer(left.length), 1);
  return left;
}

function append(
  side: Side,
  cache: KvSequence,
  { dtype, heads, dim }: HoledShape,
  numbers: Numbers,
  position: number,
  count: number,
): HeldRow[][] {
  if (count === 0) return Array.from({ length: heads }, () => []);
  const size = [count, heads, dim];
  const k = stored(numbers.normal(count * heads * dim), dtype);
  const v = stored(numbers.normal(count * heads * dim), dtype);
  const positions = Int32Array.from({ length: count }, (_, i) => position + i);
  const [keys, values] = [side.floats(k, size, dtype), side.floats(v, size, dtype)];
  cache.reserve(0, count);
  ops.kvAppend(side.stream, cache.kv(0), keys, values, side.ints(positions), Int32Array.of(count));
  return Array.from({ length: heads }, (_, head) =>
    Array.from({ length: count }, (_, i) => {
      const at = (i * heads + head) * dim;
      return { position: position + i, k: k.slice(at, at + dim), v: v.slice(at, at + dim) };
    }),
  );
}
