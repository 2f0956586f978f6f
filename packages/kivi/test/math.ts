import { fromBfloat16, fromFloat16, toBfloat16, toFloat16, type DType } from '@accel/kernels';
import type { KiviLayout } from '../src/layout.js';
import { referenceGroup, referenceValues } from '../src/reference.js';
import type { Bits } from '../src/settings.js';
import type { KiviShape, Packed } from './harness.js';

/** Rows of one head, `[row][channel]`. */
export type Rows = number[][];

/** Head `head` of `[rows, heads, dim]`. */
export function rowsOf(data: Float32Array, heads: number, dim: number, head: number): Rows {
  return Array.from({ length: data.length / (heads * dim) }, (_, row) => {
    const at = (row * heads + head) * dim;
    return [...data.subarray(at, at + dim)];
  });
}

/** Numbers as a cache of this format holds them. */
function stored(data: Float32Array, dtype: DType = 'float32'): Float32Array {
  if (dtype === 'bfloat16') return fromBfloat16(toBfloat16(data));
  return dtype === 'float16' ? fromFloat16(toFloat16(data)) : data;
}

/** The first `count` keys of a head replaced by what their codes stand for, and by zeros in channels that are not `kept`. */
function packKeys(
  rows: Rows,
  count: number,
  group: number,
  bits: Bits,
  kept?: readonly number[],
): Rows {
  const out = rows.map((row) => [...row]);
  for (let first = 0; first < count; first += group) {
    for (const channel of (rows[0] ?? []).keys()) {
      const numbers = rows.slice(first, first + group).map((row) => row[channel] ?? NaN);
      for (const [i, x] of referenceValues(referenceGroup(numbers, bits)).entries())
        (out[first + i] as number[])[channel] = kept?.includes(channel) === false ? 0 : x;
    }
  }
  return out;
}

/** The first `count` values of a head replaced by what their codes stand for. */
function packValues(rows: Rows, count: number, group: number, bits: Bits): Rows {
  return rows.map((row, i) => {
    if (i >= count) return row;
    const out: number[] = [];
    for (let first = 0; first < row.length; first += group)
      out.push(...referenceValues(referenceGroup(row.slice(first, first + group), bits)));
    return out;
  });
}

/**
 * Causal attention of the last m rows over all of one head, in float64.
 * @param queries `[m][channel]`
 * @param reach what query rows see besides: rows whose positions are less than `window` behind theirs
 */
export function attention(
  queries: Rows,
  keys: Rows,
  values: Rows,
  reach?: { readonly positions: readonly number[]; readonly window: number },
): { out: number[][]; lse: number[] } {
  const out: number[][] = [];
  const lse: number[] = [];
  for (const [i, query] of queries.entries()) {
    const seen = keys.length - queries.length + i + 1;
    const scale = 1 / Math.sqrt(query.length);
    const logits = keys.slice(0, seen).map((key, j) => {
      const { positions = [], window = Infinity } = reach ?? {};
      if ((positions[seen - 1] ?? 0) - (positions[j] ?? 0) >= window) return -Infinity;
      return scale * key.reduce((sum, x, c) => sum + x * (query[c] ?? NaN), 0);
    });
    const top = Math.max(...logits);
    const weights = logits.map((x) => Math.exp(x - top));
    const total = weights.reduce((a, b) => a + b, 0);
    lse.push(top + Math.log(total));
    const sums = new Array<number>(query.length).fill(0);
    for (const [j, weight] of weights.entries()) {
      for (const [c, x] of (values[j] ?? []).entries())
        sums[c] = (sums[c] ?? 0) + (weight / total) * x;
    }
    out.push(sums);
  }
  return { out, lse };
}

/** One kv head: its rows, and how many keys and values are packed. */
export interface Head {
  readonly keys: Rows;
  readonly values: Rows;
  readonly packed: readonly [number, number];
  /** Channels that packed keys keep. Default all. */
  readonly kept?: readonly number[] | undefined;
  /** Original positions of the rows. Default: their numbers. */
  readonly positions?: readonly number[];
}

/** Heads of `[rows, kvHeads, dim]` as a cache holds them, with so many packed keys and values. */
export function headsOf(
  { kvHeads, dim, dtype, kept }: KiviShape,
  k: Float32Array,
  v: Float32Array,
  packed: readonly [number, number],
): Head[] {
  return Array.from({ length: kvHeads }, (_, head) => ({
    keys: rowsOf(stored(k, dtype), kvHeads, dim, head),
    values: rowsOf(stored(v, dtype), kvHeads, dim, head),
    packed,
    kept: kept?.[head],
  }));
}

/** What {@link KiviCache.attend} should give, `[m, heads, dim]` and `[m, heads]`: dequantise, then attend. */
export function expected(
  { heads, kvHeads, dim, dtype }: KiviShape,
  q: Float32Array,
  rows: readonly Head[],
  { keyBits, valueBits, group }: Pick<KiviLayout, 'keyBits' | 'valueBits' | 'group'>,
  window = Infinity,
): { out: Float32Array; lse: Float32Array } {
  const m = q.length / (heads * dim);
  const out = new Float32Array(q.length);
  const lse = new Float32Array(m * heads);
  const unpacked = rows.map(({ keys, values, packed, kept, positions }) => ({
    keys: packKeys(keys, packed[0], group, keyBits, kept),
    values: packValues(values, packed[1], group, valueBits),
    positions: positions ?? [...keys.keys()],
  }));
  for (let head = 0; head < heads; head++) {
    const { keys, values, positions } = unpacked[
      Math.floor((head * kvHeads) / heads)
    ] as (typeof unpacked)[number];
    const own = rowsOf(stored(q, dtype), heads, dim, head);
    const got = attention(own, keys, values, { positions, window });
    for (let i = 0; i < m; i++) {
      out.set(got.out[i] ?? [], (i * heads + head) * dim);
      lse[i * heads + head] = got.lse[i] ?? NaN;
    }
  }
  return { out, lse };
}

/** The numbers that packed keys stand for, `[kvHeads][row][channel]`. */
export function unpackedKeys(packed: Packed, kvHeads: number, dim: number, bits: Bits): Rows[] {
  const [scales, minima] = [fromFloat16(packed.keyScales), fromFloat16(packed.keyMinima)];
  const perLine = packed.keyCodes.length / (kvHeads * dim);
  const rows = (perLine * 32) / bits;
  const groups = scales.length / (kvHeads * dim);
  return Array.from({ length: kvHeads }, (_, head) =>
    Array.from({ length: rows }, (_, row) =>
      Array.from({ length: dim }, (_, channel) => {
        const line = head * dim + channel;
        const at = line * groups + Math.floor((row * groups) / rows);
        const code = codeAt(packed.keyCodes, line * perLine, row, bits);
        return Math.fround((scales[at] ?? NaN) * code + (minima[at] ?? NaN));
      }),
    ),
  );
}

/** The numbers that packed values stand for, `[kvHeads][row][channel]`. */
export function unpackedValues(packed: Packed, kvHeads: number, dim: number, bits: Bits): Rows[] {
  const [scales, minima] = [fromFloat16(packed.valueScales), fromFloat16(packed.valueMinima)];
  const perLine = (dim * bits) / 32;
  const rows = packed.valueCodes.length / (kvHeads * perLine);
  const groups = scales.length / (kvHeads * rows);
  return Array.from({ length: kvHeads }, (_, head) =>
    Array.from({ length: rows }, (_, row) =>
      Array.from({ length: dim }, (_, channel) => {
        const line = head * rows + row;
        const at = line * groups + Math.floor((channel * groups) / dim);
        const code = codeAt(packed.valueCodes, line * perLine, channel, bits);
        return Math.fround((scales[at] ?? NaN) * code + (minima[at] ?? NaN));
      }),
    ),
  );
}

function codeAt(words: Uint32Array, line: number, index: number, bits: Bits): number {
  const bit = index * bits;
  return ((words[line + Math.floor(bit / 32)] ?? 0) >>> (bit % 32)) & (2 ** bits - 1);
}
