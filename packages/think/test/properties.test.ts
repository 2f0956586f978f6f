import { ops, Tensor } from '@accel/kernels';
import { describeDevices, expectClose, readFloats, TestCache } from '@accel/testkit';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { referenceAttention } from '../src/reference.js';
import { keptChannels } from '../src/settings.js';
import { EXACT, leave, pruned, rowOf, type Given } from './pruned.js';

const shapes = fc.record({
  kvHeads: fc.integer({ min: 1, max: 2 }),
  group: fc.integer({ min: 1, max: 5 }),
  dim: fc.constantFrom(8, 24, 40, 64, 80, 128),
  dtype: fc.constantFrom('float32', 'float16', 'bfloat16'),
  rows: fc.integer({ min: 1, max: 210 }),
  recent: fc.integer({ min: 0, max: 70 }),
  ratio: fc.constantFrom(0, 0.1, 0.4, 0.5, 0.77, 0.99),
  m: fc.integer({ min: 1, max: 20 }),
  pageRows: fc.integer({ min: 1, max: 20 }),
  seed: fc.integer({ min: 1, max: 1000 }),
});
/** What the tensor-core kernel takes: an item lies in one page or two, 16 rows in one. */
const wholePages = fc.record({
  kvHeads: fc.integer({ min: 1, max: 3 }),
  group: fc.integer({ min: 1, max: 8 }),
  dim: fc.constantFrom(64, 128),
  dtype: fc.constantFrom('float16', 'bfloat16'),
  rows: fc.integer({ min: 1, max: 900 }),
  recent: fc.integer({ min: 0, max: 200 }),
  ratio: fc.double({ min: 0, max: 0.99, noNaN: true }),
  m: fc.integer({ min: 1, max: 40 }),
  pageRows: fc.constantFrom(16, 32, 48),
  seed: fc.integer({ min: 1, max: 1000 }),
});
/** A sliding window, or none, and the share of the rows that has left. */
const windows = fc.record({
  window: fc.oneof(fc.constantFrom(0, 0, 1, 16, 100_000), fc.integer({ min: 1, max: 900 })),
  share: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true })),
});
type Shape = typeof shapes extends fc.Arbitrary<infer T> ? T : never;

function givenOf({ group, kvHeads, rows, m, ratio, ...rest }: Shape): Given {
  // A ratio that takes no channel is refused, but for 0.
  const some = keptChannels({ ratio, aligned: false }, rest.dim) < rest.dim;
  const heads = kvHeads * group;
  return { ...rest, kvHeads, heads, rows, m: Math.min(m, rows), ratio: some ? ratio : 0 };
}

describeDevices('think_attention', (device) => {
  it('agrees with the two-part dot product of the reference', { timeout: 120_000 }, () =>
    fc.assert(
      fc.asyncProperty(shapes, async (shape) => {
        const given = givenOf(shape);
        const { heads, kvHeads, dim, dtype, rows, recent, m } = given;
        const { harness, k, v, q } = pruned(device, given);
        try {
          expect(harness.pruned()).toEqual(new Array(kvHeads).fill(Math.max(0, rows - recent)));
          const { channels } = await harness.stored();
          const { out, lse } = await harness.attend(q, 0.3);
          const [outputs, sums]: [number[], number[]] = [[], []];
          for (let i = 0; i < m; i++) {
            for (let head = 0; head < heads; head++) {
              const kvHead = Math.floor((head * kvHeads) / heads);
              const all = (data: Float32Array): number[][] =>
                Array.from({ length: rows }, (_, row) => rowOf(data, kvHeads, dim, row, kvHead));
              const want = referenceAttention(
                rowOf(q, heads, dim, i, head),
                {
                  keys: all(k),
                  values: all(v),
                  pruned: Math.max(0, rows - recent),
                  channels: channels[kvHead] ?? [],
                },
                rows - m + i + 1,
                0.3,
              );
              outputs.push(...want.out);
              sums.push(want.lse);
            }
          }
          expectClose(out, outputs, { abs: EXACT[dtype] ?? 0, rel: 0 }, 'outputs');
          expectClose(lse, sums, { abs: 1e-4, rel: 1e-4 }, 'log-sum-exp');
        } finally {
          harness.dispose();
        }
      }),
      { numRuns: 60 },
    ),
  );

  it.each([
    { title: 'any shape', all: shapes, cores: false },
    { title: 'shapes of tensor cores', all: wholePages, cores: true },
  ])(
    'counts channels that keys have lost as zeros: $title',
    { timeout: 120_000 },
    ({ all, cores }) =>
      fc.assert(
        fc.asyncProperty(all as fc.Arbitrary<Shape>, windows, async (shape, { window, share }) => {
          const drawn = givenOf(shape);
          // Rows that leave are others in each head.
          const given = { ...drawn, gone: Math.round(share * (drawn.rows - drawn.m)) };
          const { heads, kvHeads, dim, dtype, rows, gone, recent, m, seed } = given;
          const { harness, k, v, q } = pruned(device, given);
          using plain = new TestCache(device, { heads: kvHeads, headDim: dim, dtype });
          try {
            const { channels } = await harness.stored();
            const positions = await harness.cache.positions();
            const last = positions.map((of) => of[rows - gone - recent - 1] ?? -1);
            const zeroed = k.map((x, i) => {
              const [row, head, c] = [
                Math.floor(i / (kvHeads * dim)),
                Math.floor(i / dim) % kvHeads,
                i % dim,
              ];
              return row > (last[head] ?? -1) || channels[head]?.includes(c) === true ? x : 0;
            });
            plain.append(zeroed, v, 0);
            if (gone > 0) leave(plain, gone, seed);
            using query = plain.floats(q, [m, heads, dim]);
            using out = plain.empty([m, heads, dim]);
            using lse = Tensor.empty(plain.device, 'float32', [m, heads]);
            const scale = 1 / Math.sqrt(dim);
            ops.attention(plain.stream, out, lse, query, plain.kv.kv(0), Int32Array.of(m), {
              scale,
              causal: true,
              window,
            });
            const got = await harness.attend(q, scale, window);
            const ran = Object.keys(harness.cache.stream.kernels());
            if (cores) expect(ran).not.toContain('think_attention_any');
            const near = { abs: EXACT[dtype] ?? 0, rel: 0 };
            expectClose(got.out, await readFloats(out, plain.stream), near, 'outputs');
            const sums = await readFloats(lse, plain.stream);
            expectClose(got.lse, sums, { abs: 1e-4, rel: 1e-4 }, 'log-sum-exp');
          } finally {
            harness.dispose();
          }
        }),
        { numRuns: 60 },
      ),
  );
});
