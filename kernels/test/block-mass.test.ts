import { expect, test } from 'vitest';
import { ops, type KvSequence } from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { expectError } from './support/errors.js';
import { Numbers, Side } from './support/parity.js';
import { probabilities, stored } from './support/plain-attention.js';

const BLOCK = 128;

interface Shape {
  readonly kvHeads: number;
  readonly group: number;
  readonly dim: number;
  readonly rows: number;
  readonly queries: number;
  readonly dtype: 'float32' | 'bfloat16';
}

/** `[Hq, RB, C]` from the probabilities themselves, in double precision. */
function plainMass(q: Float32Array, k: Float32Array, shape: Shape): Float64Array {
  const { kvHeads, group, rows, queries } = shape;
  const [heads, rowBlocks, columns] = [kvHeads * group, blocks(queries), blocks(rows)];
  const out = new Float64Array(heads * rowBlocks * columns);
  for (const [query, byHead] of probabilities(q, k, shape).entries()) {
    const i = Math.floor(query / BLOCK);
    const count = Math.min(BLOCK, queries - i * BLOCK);
    for (const [h, row] of byHead.entries()) {
      for (const [s, p] of row.entries()) {
        const at = (h * rowBlocks + i) * columns + Math.floor(s / BLOCK);
        out[at] = (out[at] ?? 0) + p / count;
      }
    }
  }
  return out;
}

function blocks(rows: number): number {
  return Math.ceil(rows / BLOCK);
}

/** A cache with keys of a shape, and its queries. */
function setUp(side: Side, shape: Shape) {
  const { kvHeads, group, dim, rows, queries, dtype } = shape;
  const numbers = new Numbers(rows * 31 + queries);
  // Logits spread far enough that some blocks hold much and others next to nothing.
  const q = stored(numbers.normal(queries * kvHeads * group * dim, 2), dtype);
  const k = stored(numbers.normal(rows * kvHeads * dim), dtype);
  const [cache] = side.caches(1, kvHeads, dim, dtype, rows) as [KvSequence];
  const keys = side.floats(k, [rows, kvHeads, dim], dtype);
  cache.reserve(0, rows);
  const positions = side.ints(Int32Array.from({ length: rows }, (_, i) => i));
  ops.kvAppend(side.stream, cache.kv(0), keys, keys, positions, Int32Array.of(rows));
  const heads = kvHeads * group;
  return { cache, q, k, heads, queries: side.floats(q, [queries, heads, dim], dtype) };
}

const small: Shape = {
  kvHeads: 2,
  group: 2,
  dim: 64,
  rows: 200,
  queries: 130,
  dtype: 'float32',
};

describeDevices('block mass', (device) => {
  const shapes: readonly Shape[] = [
    { kvHeads: 2, group: 2, dim: 64, rows: 384, queries: 384, dtype: 'float32' },
    { kvHeads: 1, group: 3, dim: 8, rows: 300, queries: 300, dtype: 'float32' },
    { kvHeads: 2, group: 1, dim: 128, rows: 513, queries: 257, dtype: 'bfloat16' }, // prefix 256
    { kvHeads: 1, group: 4, dim: 80, rows: 700, queries: 130, dtype: 'bfloat16' }, // a ragged one
    { kvHeads: 1, group: 1, dim: 256, rows: 129, queries: 1, dtype: 'float32' },
    { kvHeads: 3, group: 2, dim: 64, rows: 1, queries: 1, dtype: 'bfloat16' },
  ];

  test.each(shapes)(
    'of $queries queries over $rows rows, $dtype [$kvHeads × $group, $dim] is that of the probabilities',
    async (shape) => {
      using side = new Side(device);
      const { cache, q, k, heads, queries } = setUp(side, shape);
      const [rowBlocks, columns] = [blocks(shape.queries), blocks(shape.rows)];
      const attended = side.out(shape.dtype, [shape.queries, heads, shape.dim]);
      const lse = side.out('float32', [shape.queries, heads]);
      const out = side.out('float32', [heads, rowBlocks, columns]);
      const scale = 1 / Math.sqrt(shape.dim);
      const lens = Int32Array.of(shape.queries);
      ops.attention(side.stream, attended, lse, queries, cache.kv(0), lens, {
        scale,
        causal: true,
      });
      ops.blockMass(side.stream, out, queries, cache.kv(0), lse, { scale });
      const got = (await out.read(side.stream)) as Float32Array;
      const want = plainMass(q, k, shape);
      expect(got.length).toBe(want.length);
      // A 16-bit attention kernel keeps its lse to about 1e-4.
      const near = shape.dtype === 'float32' ? 1e-5 : 4e-4;
      for (const [i, mass] of want.entries()) {
        if (mass === 0)
          expect(got[i], `element ${i}`).toBe(0); // beyond the diagonal
        else expect(Math.abs((got[i] ?? NaN) - mass), `element ${i}`).toBeLessThan(near);
      }
      for (let row = 0; row < heads * rowBlocks; row++) {
        const sum = got.subarray(row * columns, (row + 1) * columns).reduce((a, b) => a + b, 0);
        expect(Math.abs(sum - 1), `row ${row}`).toBeLessThan(near);
      }
      expect(side.stream.kernels()).toHaveProperty('block_mass');
    },
  );

  test('gives the same bits again', async () => {
    using side = new Side(device);
    const { cache, heads, queries } = setUp(side, { ...small, rows: 640, queries: 512 });
    const lse = side.floats(new Float32Array(512 * heads).fill(7), [512, heads]);
    const bits: Uint32Array[] = [];
    for (let run = 0; run < 3; run++) {
      const out = side.out('float32', [heads, 4, 5]);
      ops.blockMass(side.stream, out, queries, cache.kv(0), lse, { scale: 0.125 });
      const read = (await out.read(side.stream)) as Float32Array;
      bits.push(new Uint32Array(read.buffer, read.byteOffset, read.length));
    }
    expect(bits[1]).toEqual(bits[0]);
    expect(bits[2]).toEqual(bits[0]);
  });

  test('refuses tensors that do not fit', () => {
    using side = new Side(device);
    const { cache, heads, queries } = setUp(side, small);
    const call = (outShape: number[], lseShape: number[]) => () => {
      const out = side.out('float32', outShape);
      ops.blockMass(side.stream, out, queries, cache.kv(0), side.out('float32', lseShape), {
        scale: 1,
      });
    };
    const shape = 'ERR_ACCEL_SHAPE';
    expectError(call([heads, 1, 2], [130, heads]), shape, /block_mass: out must be \[Hq,RB,C\]/);
    expectError(call([heads, 2, 2], [129, heads]), shape, /block_mass: lse must be \[m,Hq\]/);
    cache.truncate(0, 100);
    expectError(call([heads, 2, 1], [130, heads]), shape, /130 queries but kv only 100 rows/);
  });
});
