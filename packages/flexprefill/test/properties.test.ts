import { describeDevices, expectClose, generated, SCORES, type SparseInputs } from '@accel/testkit';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { referenceBlocks } from '../src/reference.js';
import { ruleOf, runBlocks } from './run.js';

describeDevices('FlexPrefill against the reference', (device) => {
  const shapes = fc.record({
    seed: fc.integer({ min: 1, max: 1 << 20 }),
    prefix: fc.integer({ min: 0, max: 3 }),
    queries: fc.integer({ min: 1, max: 420 }),
    group: fc.constantFrom(1, 2, 3),
    kvHeads: fc.constantFrom(1, 2),
    headDim: fc.constantFrom(16, 64, 72, 128),
    block: fc.constantFrom(64 as const, 128 as const),
    gamma: fc.constantFrom(0.3, 0.6, 0.9, 0.95),
    tau: fc.constantFrom(0, 0.1, 0.3, 1),
    minBlocks: fc.integer({ min: 1, max: 4 }),
    maxBlocks: fc.integer({ min: 1, max: 6 }),
    sharpness: fc.constantFrom(0.25, 1, 3),
    compat: fc.boolean(),
    dtype: fc.constantFrom('float32' as const, 'bfloat16' as const, 'float16' as const),
  });

  it('chooses the same blocks, unless a choice hangs by a hair', async () => {
    await fc.assert(
      fc.asyncProperty(shapes, async (shape) => {
        const { seed, prefix, queries, group, kvHeads, headDim, sharpness, dtype } = shape;
        const heads = group * kvHeads;
        const tokens = prefix * 128 + queries;
        // Sixteenths below 8 are exact in 16 bits.
        const values = (offset: number, count: number, scale: number): Float32Array =>
          generated(seed + offset, count).map((x) => Math.round(x * scale * 16) / 16);
        const inputs: SparseInputs = {
          tokens,
          heads,
          kvHeads,
          headDim,
          q: values(0, tokens * heads * headDim, 2 * sharpness),
          k: values(1, tokens * kvHeads * headDim, 2),
          v: new Float32Array(tokens * kvHeads * headDim),
        };
        const rule = { ...ruleOf(headDim, shape), maxBlocks: shape.maxBlocks };
        const begin = prefix * 128;
        const want = referenceBlocks({
          ...rule,
          q: inputs.q.subarray(begin * heads * headDim),
          k: inputs.k,
          heads,
          kvHeads,
          dim: headDim,
        });
        const got = await runBlocks(device, inputs, { ...rule, begin, dtype });
        for (const [h, head] of want.entries()) {
          const mine = got[h];
          if (mine === undefined) throw new Error(`no head ${h}`);
          expectClose(mine.vertical, head.vertical, SCORES, 'vertical');
          expectClose(mine.slash, head.slash, SCORES, 'slash');
          expectClose(mine.estimate, head.estimate, SCORES, 'estimate');
          expectClose(mine.counts, head.counts, { abs: 2, rel: 0 }, 'counts');
          expectClose(
            [mine.figures[2] as number],
            [head.divergence],
            { abs: 1e-5, rel: 1e-4 },
            'divergence',
          );
          if (head.margin < 1e-4) continue;
          expect(mine.budgets).toEqual(head.numbers);
          expect(mine.aware).toBe(Number(head.aware));
          expect([...mine.mask]).toEqual(head.mask.flat().map(Number));
        }
      }),
      { numRuns: 60, seed: 20502766 },
    );
  }, 240_000);
});
