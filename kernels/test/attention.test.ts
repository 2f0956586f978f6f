import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Device, KvSequence, ops, PagePool, Tensor } from '../ts/index.js';
import { describeDevices } from './support/devices.js';

/** Deterministic numbers in [-1, 1). */
function numbers(count: number, seed: number): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

interface Shape {
  readonly kvHeads: number;
  readonly group: number;
  readonly dim: number;
  readonly rows: number;
  readonly queries: number;
  readonly window: number;
}

/** Plain causal attention in double precision; query i of m sees rows up to n − m + i. */
function plain(q: Float32Array, k: Float32Array, v: Float32Array, shape: Shape): Float64Array {
  const { kvHeads, group, dim, rows, queries, window } = shape;
  const heads = kvHeads * group;
  const out = new Float64Array(queries * heads * dim);
  for (let i = 0; i < queries; i++) {
    const last = rows - queries + i;
    const first = window > 0 ? Math.max(0, last - window + 1) : 0;
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / group);
      const at = (i * heads + h) * dim;
      const row = (j: number): number => (j * kvHeads + kv) * dim;
      const logits: number[] = [];
      for (let j = first; j <= last; j++) {
        let dot = 0;
        for (let c = 0; c < dim; c++) dot += (q[at + c] ?? 0) * (k[row(j) + c] ?? 0);
        logits.push(dot / Math.sqrt(dim));
      }
      const most = Math.max(...logits);
      const weights = logits.map((logit) => Math.exp(logit - most));
      const sum = weights.reduce((a, b) => a + b, 0);
      for (const [offset, weight] of weights.entries()) {
        for (let c = 0; c < dim; c++) {
          const value = v[row(first + offset) + c] ?? 0;
          out[at + c] = (out[at + c] ?? 0) + (weight / sum) * value;
        }
      }
    }
  }
  return out;
}

const shapes = fc
  .record({
    kvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 4 }),
    dim: fc.constantFrom(8, 64, 128),
    rows: fc.integer({ min: 1, max: 150 }),
    queries: fc.integer({ min: 1, max: 40 }),
    window: fc.constantFrom(0, 0, 1, 17),
  })
  .map((shape) => ({ ...shape, queries: Math.min(shape.queries, shape.rows) }));

describeDevices('float32', (id) => {
  // A GPU sums in another order and takes powers of two in hardware.
  const near = id === 'cpu' ? 1e-5 : 3e-5;

  test('attention through the paged cache is plain attention', async () => {
    const device = Device.open(id);
    using stream = device.createStream();
    await fc.assert(
      fc.asyncProperty(
        shapes,
        fc.integer(),
        fc.integer({ min: 1, max: 50 }),
        async (shape, seed, step) => {
          const { kvHeads, group, dim, rows, queries, window } = shape;
          const q = numbers(queries * kvHeads * group * dim, seed);
          const k = numbers(rows * kvHeads * dim, seed + 1);
          const v = numbers(rows * kvHeads * dim, seed + 2);
          using pool = new PagePool(stream, { pageBytes: 16 * dim * 4, capacityBytes: 1 << 24 });
          using cache = new KvSequence(pool, {
            layers: 1,
            heads: kvHeads,
            headDim: dim,
            dtype: 'float32',
          });
          for (let from = 0; from < rows; from += step) {
            const to = Math.min(rows, from + step);
            const part = (data: Float32Array): Tensor => {
              const slice = data.slice(from * kvHeads * dim, to * kvHeads * dim);
              return Tensor.from(device, slice, [to - from, kvHeads, dim]);
            };
            const positions = Int32Array.from({ length: to - from }, (_, i) => from + i);
            using keys = part(k);
            using values = part(v);
            using where = Tensor.from(device, positions, [to - from]);
            cache.reserve(0, to - from);
            ops.kvAppend(stream, cache.kv(0), keys, values, where, Int32Array.of(to - from));
          }
          using query = Tensor.from(device, q, [queries, kvHeads * group, dim]);
          using out = Tensor.empty(device, 'float32', [queries, kvHeads * group, dim]);
          const options = { scale: 1 / Math.sqrt(dim), causal: true, window };
          ops.attention(stream, out, null, query, cache.kv(0), Int32Array.of(queries), options);
          const got = (await out.read(stream)) as Float32Array;
          const want = plain(q, k, v, shape);
          for (const [i, value] of want.entries())
            expect(Math.abs((got[i] ?? NaN) - value)).toBeLessThan(near);
        },
      ),
      { numRuns: 60 },
    );
  });
});
