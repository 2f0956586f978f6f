import type { DType } from '@accel/kernels';
import { TestCache } from './cache.js';
import { tokenMajor } from './generator.js';
import type { GoldenCase, StructuredInputs } from './golden.js';

/** Queries, keys and values of one layer of one prompt, token major: what sparse prefill is tested on. */
export interface SparseInputs {
  readonly tokens: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** `[tokens, heads, headDim]`. */
  readonly q: Float32Array;
  /** `[tokens, kvHeads, headDim]`. */
  readonly k: Float32Array;
  /** `[tokens, kvHeads, headDim]`. */
  readonly v: Float32Array;
}

/**
 * The inputs that the known answers of the sparse prefill specification are for: 4 query heads, 2 kv heads; attention
 * sinks, a needle, periodic locality, heads of rising flatness. All values are exact in bfloat16 and float16.
 */
export function knownInputs(tokens: number, headDim: number): SparseInputs {
  const heads = 4;
  const kvHeads = 2;
  const q = knownStream(1, tokens * heads * headDim);
  const k = knownStream(2, tokens * kvHeads * headDim);
  const v = knownStream(3, tokens * kvHeads * headDim);
  const needle = Math.floor(tokens / 3);
  for (let token = 0; token < tokens; token++) {
    const local = 4 + (Math.floor(token / 128) % 16);
    for (let head = 0; head < heads; head++) {
      const row = q.subarray((token * heads + head) * headDim).subarray(0, headDim);
      row.fill(1.5, 0, 4);
      row[local] = 4;
      for (let d = 0; d < headDim; d++) row[d] = (row[d] as number) * 2 ** -(head % 4);
    }
    for (let head = 0; head < kvHeads; head++) {
      const row = k.subarray((token * kvHeads + head) * headDim).subarray(0, headDim);
      if (token < 4 || (token >= needle && token < needle + 4)) row.fill(4, 0, 4);
      row[local] = 4;
    }
  }
  return { tokens, heads, kvHeads, headDim, q, k, v };
}

/**
 * Elements 0 to `count - 1` of stream `seed` of {@link knownInputs}: a 64-bit mixer, reduced to 257 values in [-2, 2].
 * Computed on pairs of 32-bit words, since BigInt would take seconds.
 */
export function knownStream(seed: number, count: number): Float32Array {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    let low = (i + 0x7f4a7c15) >>> 0;
    let high = (seed + 0x9e3779b9 + (i + 0x7f4a7c15 > 0xffffffff ? 1 : 0)) >>> 0;
    // z ^= z >> 30, then a product modulo 2^64; again with 27.
    let mixed = low ^ ((low >>> 30) | (high << 2));
    let top = high ^ (high >>> 30);
    high = highProduct(mixed, top, 0x1ce4e5b9, 0xbf58476d);
    low = Math.imul(mixed, 0x1ce4e5b9);
    mixed = low ^ ((low >>> 27) | (high << 5));
    top = high ^ (high >>> 27);
    high = highProduct(mixed, top, 0x133111eb, 0x94d049bb);
    // The last step, z ^= z >> 31, reaches bits 40 to 63 only from bit 31 of the high word.
    top = (high ^ (high >>> 31)) >>> 0;
    out[i] = (((top >>> 8) % 257) - 128) / 64;
  }
  return out;
}

/** High word of the product of two 64-bit numbers modulo 2^64. */
function highProduct(low: number, high: number, otherLow: number, otherHigh: number): number {
  const a0 = low & 0xffff;
  const a1 = low >>> 16;
  const b0 = otherLow & 0xffff;
  const b1 = otherLow >>> 16;
  const middle = Math.floor((a0 * b0) / 0x10000) + a1 * b0;
  const carry = Math.floor(((middle % 0x10000) + a0 * b1) / 0x10000);
  const top = a1 * b1 + Math.floor(middle / 0x10000) + carry;
  return (top + Math.imul(low, otherHigh) + Math.imul(high, otherLow)) | 0;
}

/**
 * Inputs of a golden case of a sparse prefill method: stored, or built as golden/README.md says, in which case its
 * `checks` must agree.
 */
export function structuredInputs(golden: GoldenCase): SparseInputs {
  const heads = golden.param('Hq');
  const kvHeads = golden.param('Hkv');
  const headDim = golden.param('D');
  const { generated } = golden;
  const built = generated
    ? build(generated, [golden.param('N'), heads, kvHeads, headDim])
    : { q: stored(golden, 'q'), k: stored(golden, 'k'), v: stored(golden, 'v') };
  const tokens = built.k.length / (kvHeads * headDim);
  for (const [name, check] of Object.entries(generated?.checks ?? {})) {
    const got = checksum(built[name as 'q' | 'k' | 'v']);
    const want = [...check.first4, check.sum4096, check.wsum4096_mod32];
    if (got.some((value, i) => value !== want[i]))
      throw new Error(`${golden.id}: ${name} is built wrongly: ${got.join()} for ${want.join()}`);
  }
  return {
    tokens,
    heads,
    kvHeads,
    headDim,
    q: tokenMajor(built.q, [heads, built.q.length / (heads * headDim), headDim]),
    k: tokenMajor(built.k, [kvHeads, tokens, headDim]),
    v: tokenMajor(built.v, [kvHeads, tokens, headDim]),
  };
}

interface HeadMajor {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
}

function build(
  { seed, noise, sink, columns, groups, exps, band, qband }: StructuredInputs,
  [tokens, heads, kvHeads, headDim]: readonly [number, number, number, number],
): HeadMajor {
  const q = structuredStream(3 * seed, heads * tokens * headDim);
  const k = structuredStream(3 * seed + 1, kvHeads * tokens * headDim);
  const v = structuredStream(3 * seed + 2, kvHeads * tokens * headDim);
  const [period, lanes, strength] = band;
  const lane = (token: number) => 16 + (Math.floor(token / period) % lanes);
  for (let i = 0; i < k.length; i++) k[i] = (k[i] as number) * noise;
  for (let row = 0; row < kvHeads * tokens; row++) {
    const token = row % tokens;
    const key = k.subarray(row * headDim, (row + 1) * headDim);
    if (token < sink[0]) key.fill(sink[1], 0, 16);
    for (const [begin, end, group, height] of columns)
      if (token >= begin && token < end) key.fill(height, 4 * group, 4 * group + 4);
    key[lane(token)] = strength;
  }
  for (let row = 0; row < heads * tokens; row++) {
    const head = Math.floor(row / tokens);
    const group = groups[head] as number;
    const query = q.subarray(row * headDim, (row + 1) * headDim);
    for (let d = 0; d < 16; d++) query[d] = (query[d] as number) * 0.25;
    query.fill(1.5, 4 * group, 4 * group + 4);
    query[lane(row % tokens)] = qband[head] as number;
    const factor = 2 ** -(exps[head] as number);
    for (let d = 0; d < headDim; d++) query[d] = (query[d] as number) * factor;
  }
  return { q, k, v };
}

/** base(s) of golden/README.md: 257 values in [-2, 2]. */
function structuredStream(seed: number, count: number): Float32Array {
  const out = new Float32Array(count);
  const start = Math.imul(seed, 0x9e3779b9);
  for (let i = 0; i < count; i++) {
    let h = (i + start) >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    h = (h ^ (h >>> 16)) >>> 0;
    out[i] = (((h >>> 8) % 257) - 128) / 64;
  }
  return out;
}

/** A stored bfloat16 tensor, widened. */
function stored(golden: GoldenCase, name: string): Float32Array {
  const { dtype, data } = golden.tensor(name);
  if (dtype === 'F32' && data instanceof Float32Array) return data;
  if (dtype !== 'BF16') throw new Error(`${golden.id}: ${name} is ${dtype}, not BF16`);
  return new Float32Array(Uint32Array.from(data, (bits) => bits << 16).buffer);
}

function checksum(data: Float32Array): number[] {
  let sum = 0;
  let weighted = 0;
  for (let i = 0; i < data.length; i++) {
    const value = 4096 * (data[i] as number);
    sum += value;
    weighted = (weighted + Math.imul(value, (i % 65521) + 1)) | 0;
  }
  return [...data.subarray(0, 4), sum, weighted >>> 0];
}

/** Options of {@link sparseCache}. */
export interface SparseCacheOptions {
  /** Default `'float32'`. */
  readonly dtype?: DType;
  /** Rows that are appended, from the first. Default: all. */
  readonly rows?: number;
}

/** A cache of one layer that holds the keys and values of `inputs`, at positions from 0. */
export function sparseCache(
  device: string,
  inputs: SparseInputs,
  { dtype = 'float32', rows = inputs.tokens }: SparseCacheOptions = {},
): TestCache {
  const { kvHeads: heads, headDim, k, v } = inputs;
  const rowBytes = headDim * (dtype === 'float32' ? 4 : 2);
  const pageBytes = 64 * rowBytes;
  // Keys and values of every head end in a page that is not full, and rows carry positions.
  const capacityBytes = Math.max(4 << 20, 3 * heads * (rows + 64) * rowBytes);
  const cache = new TestCache(device, { heads, headDim, dtype, pageBytes, capacityBytes });
  const width = heads * headDim;
  if (rows > 0) cache.append(k.subarray(0, rows * width), v.subarray(0, rows * width), 0);
  return cache;
}

/** Rows `begin` to `end` of the queries of `inputs`, `[end - begin, heads, headDim]`, without a copy. */
export function queryRows(
  { q, heads, headDim, tokens }: SparseInputs,
  begin = 0,
  end: number = tokens,
): Float32Array {
  return q.subarray(begin * heads * headDim, end * heads * headDim);
}

/**
 * Bits of block columns 0 to `columns - 1` of `mask`, `[rowBlocks, heads, ⌈columns / 32⌉]`, as bytes 0 and 1,
 * `[heads, rowBlocks, columns]`.
 */
export function unpackMask(
  mask: Int32Array,
  rowBlocks: number,
  heads: number,
  columns: number,
): Uint8Array {
  const words = Math.ceil(columns / 32);
  if (mask.length !== rowBlocks * heads * words)
    throw new Error(`a mask of ${mask.length} words, not ${rowBlocks} × ${heads} × ${words}`);
  const out = new Uint8Array(heads * rowBlocks * columns);
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < rowBlocks; row++) {
      const from = (row * heads + head) * words;
      const to = (head * rowBlocks + row) * columns;
      for (let j = 0; j < columns; j++)
        out[to + j] = ((mask[from + (j >> 5)] as number) >>> (j & 31)) & 1;
    }
  }
  return out;
}

/** FNV-1a of the bytes, 64 bits, as 16 hexadecimal digits. */
export function maskHash(bytes: Uint8Array): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  return hash.toString(16).padStart(16, '0');
}
