import { ops, Tensor } from '@accel/kernels';
import { describeDevices, knownInputs, queryRows, readFloats, sparseCache } from '@accel/testkit';
import { expect, it } from 'vitest';
import { flexprefillBlocks } from '../src/blocks.js';
import { ruleOf } from './run.js';

/**
 * Attention over the masks of the known answers, in double precision by the specification: head; distance of its outputs
 * from dense ones, relative; mean and least attention mass kept; sum of |O|; the last token's first three channels.
 * Those of F3 are over blocks of 64, in which the attention cannot be computed.
 */
const KNOWN = [
  {
    name: 'F1',
    tokens: 2048,
    minBlocks: 1,
    heads: [
      [0, 0.08653, 0.96983, 0.68307, 18548.659, 0.038635, -0.034735, 0.086201],
      [1, 0.30443, 0.89082, 0.05418, 8772.735, 0.116899, -0.083497, -0.003032],
    ],
  },
  {
    name: 'F2',
    tokens: 2085,
    minBlocks: 4,
    heads: [[1, 0.04728, 0.9862, 0.77334, 7970.303, -0.025101, -0.015193, -0.046131]],
  },
] as const;

describeDevices('attention over the blocks that FlexPrefill chooses', (device) => {
  it.each(KNOWN)('of $name is what it should be', async ({ tokens, minBlocks, heads: known }) => {
    const [heads, headDim] = [4, 64];
    const inputs = knownInputs(tokens, headDim);
    using cache = sparseCache(device, inputs);
    const { stream } = cache;
    const rows = Math.ceil(tokens / 128);
    const kv = cache.kv.kv(0);
    using q = cache.floats(queryRows(inputs), [tokens, heads, headDim]);
    using chosen = Tensor.empty(cache.device, 'int32', [rows, heads, 1]);
    using all = Tensor.from(cache.device, new Int32Array(rows * heads).fill(-1), [rows, heads, 1]);
    using figures = Tensor.empty(cache.device, 'float32', [heads, 5]);
    flexprefillBlocks(stream, { mask: chosen, figures }, q, kv, ruleOf(headDim, { minBlocks }));

    const attend = async (mask: Tensor) => {
      using o = cache.empty([tokens, heads, headDim]);
      using lse = Tensor.empty(cache.device, 'float32', [tokens, heads]);
      ops.blockSparseAttention(stream, o, lse, q, kv, Int32Array.of(tokens), {
        mask,
        scale: 1 / 8,
      });
      return { o: await readFloats(o, stream), lse: await readFloats(lse, stream) };
    };
    const [sparse, dense] = [await attend(chosen), await attend(all)];

    for (const [h, distance, mean, least, sum, ...channels] of known) {
      const own = (data: Float32Array) =>
        data.filter((_, i) => Math.floor(i / headDim) % heads === h);
      const [got, want] = [own(sparse.o), own(dense.o)];
      const norm = (x: Float32Array) => Math.sqrt(x.reduce((total, y) => total + y * y, 0));
      const kept = Array.from({ length: tokens }, (_, t) =>
        Math.exp((sparse.lse[t * heads + h] ?? 0) - (dense.lse[t * heads + h] ?? 0)),
      );
      expect(norm(got.map((x, i) => x - (want[i] ?? 0))) / norm(want)).toBeCloseTo(distance, 4);
      expect(kept.reduce((a, b) => a + b, 0) / tokens).toBeCloseTo(mean, 4);
      expect(Math.min(...kept)).toBeCloseTo(least, 4);
      expect(got.reduce((total, x) => total + Math.abs(x), 0)).toBeCloseTo(sum, 1);
      for (const [c, x] of channels.entries())
        expect(got[(tokens - 1) * headDim + c]).toBeCloseTo(x, 5);
    }
  });
});
