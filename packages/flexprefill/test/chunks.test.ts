import { Tensor } from '@accel/kernels';
import { describeDevices, errorWith, knownInputs, queryRows, sparseCache } from '@accel/testkit';
import { expect, it } from 'vitest';
import { flexprefillBlocks } from '../src/blocks.js';
import { referenceBlocks } from '../src/reference.js';
import { ruleOf, runBlocks, type RunOptions } from './run.js';

const inputs = knownInputs(1500, 64);

describeDevices('FlexPrefill in chunks', (device) => {
  it.each([
    { begin: 0, end: 640 },
    { begin: 512, end: 1024 },
    { begin: 1024, end: 1500 },
    { begin: 896, end: 1024 },
    { begin: 1408, end: 1500 },
    { begin: 512, end: 1024, block: 64 },
    { begin: 640, end: 1500, block: 64, tau: 0.9 },
    { begin: 512, end: 1500, tau: 0.9, gamma: 0.7 },
    { begin: 512, end: 1500, tau: 0, minBlocks: 2, maxBlocks: 5 },
  ] as RunOptions[])('chooses for rows $begin to $end', async (options) => {
    const { begin = 0, end = 1500 } = options;
    const rule = ruleOf(64, options);
    const want = referenceBlocks({
      ...rule,
      maxBlocks: rule.maxBlocks ?? Infinity,
      q: queryRows(inputs, begin, end),
      k: inputs.k.subarray(0, end * 2 * 64),
      heads: 4,
      kvHeads: 2,
      dim: 64,
    });
    const got = await runBlocks(device, inputs, options);
    // A head whose choice hangs by a hair may fall either way.
    const firm = [...want.entries()].filter(([, head]) => head.margin > 1e-6);
    expect(firm.length).toBeGreaterThan(1);
    for (const [h, head] of firm) {
      expect(got[h]?.budgets).toEqual(head.numbers);
      expect(got[h]?.aware).toBe(Number(head.aware));
      expect([...(got[h]?.mask ?? [])]).toEqual(head.mask.flat().map(Number));
    }
  });

  it('observes the last queries of a chunk whatever came before', async () => {
    // The same last 128 rows, alone and with others before them: the same columns and diagonals.
    const alone = await runBlocks(device, inputs, { begin: 896, end: 1024, tau: 0 });
    const all = await runBlocks(device, inputs, { begin: 0, end: 1024, tau: 0 });
    for (const [h, head] of alone.entries()) {
      expect(all[h]?.counts).toEqual(head.counts);
      expect([...(all[h]?.mask.subarray(7 * 8) ?? [])]).toEqual([...head.mask]);
    }
  });

  it('refuses what it cannot compute', () => {
    using cache = sparseCache(device, inputs, { rows: 700 });
    const refuses = (
      code: string,
      { m = 60, heads = 4, dim = 64, ...rule }: Record<string, number> = {},
      shape?: readonly number[],
    ) => {
      using q = cache.empty([m, heads, dim]);
      const rows = Math.ceil(m / 128);
      using mask = Tensor.empty(cache.device, 'int32', shape ?? [rows, heads, 1]);
      using figures = Tensor.empty(cache.device, 'float32', [heads, 5]);
      expect(() =>
        flexprefillBlocks(cache.stream, { mask, figures }, q, cache.kv.kv(0), {
          ...ruleOf(64),
          ...(rule as object),
        }),
      ).toThrow(errorWith(code as never));
    };
    refuses('ERR_ACCEL_ARGUMENT', { m: 100 });
    refuses('ERR_ACCEL_ARGUMENT', { gamma: 1 });
    refuses('ERR_ACCEL_ARGUMENT', { gamma: 0 });
    refuses('ERR_ACCEL_ARGUMENT', { tau: -1 });
    refuses('ERR_ACCEL_ARGUMENT', { tau: NaN });
    refuses('ERR_ACCEL_ARGUMENT', { scale: 0 });
    refuses('ERR_ACCEL_ARGUMENT', { block: 32 });
    refuses('ERR_ACCEL_ARGUMENT', { minBlocks: 0 });
    refuses('ERR_ACCEL_ARGUMENT', { maxBlocks: 0 });
    refuses('ERR_ACCEL_SHAPE', { m: 700 + 128 });
    refuses('ERR_ACCEL_SHAPE', { heads: 3 });
    refuses('ERR_ACCEL_SHAPE', { dim: 32 });
    refuses('ERR_ACCEL_SHAPE', {}, [1, 4, 2]);
  });
});
