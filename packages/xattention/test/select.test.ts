import { describeDevices } from '@accel/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { referenceRow } from '../src/reference.js';
import { select } from './select.js';

const columnsOf = (mask: ArrayLike<number>): number[] =>
  Array.from(mask, (bit, column) => (bit ? column : -1)).filter((column) => column >= 0);

/** The specification's micro table: one row, six columns, diagonal 4. */
const MICRO = Float32Array.of(1, 0.5, 3, 0.25, 2, 0);
const micro = [
  { threshold: 0, later: [0, 4], first: [0, 4] },
  { threshold: 0.3, later: [0, 4], first: [0, 2, 4] },
  { threshold: 0.5, later: [0, 2, 4], first: [0, 2, 4] },
  { threshold: 0.9, later: [0, 1, 2, 4], first: [0, 1, 2, 3, 4] },
  { threshold: 1, later: [0, 1, 2, 3, 4], first: [0, 1, 2, 3, 4] },
];

describe('reference', () => {
  it.each(micro)('agrees with the micro table at $threshold', ({ threshold, later, first }) => {
    expect(columnsOf(referenceRow(MICRO, 4, threshold).chosen)).toEqual(later);
    expect(columnsOf(referenceRow(MICRO, 4, threshold, true).chosen)).toEqual(first);
  });
});

describeDevices('xattention_select', (device) => {
  it.each(micro)('agrees with the micro table at $threshold', async (row) => {
    const { threshold, later, first } = row;
    const sums = Float32Array.of(...MICRO, ...MICRO);
    const rules = [false, true].map((first) => ({ diagonal: 4, threshold, first }));
    const { mask, recall } = await select(device, sums, rules);
    expect(columnsOf(mask.subarray(0, 6))).toEqual(later);
    expect(columnsOf(mask.subarray(6))).toEqual(first);
    for (const [i, kept] of [later, first].entries()) {
      const held = kept.reduce((sum, column) => sum + (MICRO[column] as number), 0);
      expect(recall[i]).toBeCloseTo(held / 6.75, 6);
    }
  });

  it('takes equal blocks from the left', async () => {
    const sums = new Float32Array(40).fill(0.25);
    const { mask, recall } = await select(device, sums, [{ diagonal: 38, threshold: 0.2 }]);
    // 39 blocks: 0 and 38 hold 2 / 39; six more reach 0.2.
    expect(columnsOf(mask)).toEqual([0, 1, 2, 3, 4, 5, 6, 38]);
    expect(recall[0]).toBeCloseTo(8 / 39, 6);
  });

  it('stops exactly where the share is reached', async () => {
    const sums = Float32Array.of(0.5, 0.25, 0.125, 0.0625, 0.0625);
    const { mask } = await select(device, sums, [{ diagonal: 4, threshold: 0.8125 }]);
    expect(columnsOf(mask)).toEqual([0, 1, 4]);
    const more = await select(device, sums, [{ diagonal: 4, threshold: 0.8125 + 2 ** -50 }]);
    expect(columnsOf(more.mask)).toEqual([0, 1, 2, 4]);
  });

  it('leaves blocks without attention out, whatever the threshold', async () => {
    const sums = Float32Array.of(1, 0, 2, 0, 3);
    const { mask, recall } = await select(device, sums, [{ diagonal: 4, threshold: 1 }]);
    expect(columnsOf(mask)).toEqual([0, 2, 4]);
    expect(recall[0]).toBe(1);
  });

  it('says that there is no share of nothing', async () => {
    const sums = Float32Array.of(0, 0, NaN, NaN, NaN, NaN);
    const rules = [1, 2].map((diagonal) => ({ diagonal, threshold: 0.9 }));
    const { mask, recall } = await select(device, sums, rules);
    expect([...mask]).toEqual([1, 1, 0, 1, 0, 1]);
    expect([...recall]).toEqual([NaN, NaN]);
  });

  it('handles rows of a million tokens', async () => {
    const columns = 8192;
    const sums = Float32Array.from({ length: columns }, (_, i) => ((i * 7919) % 8191) / 8191);
    const rule = { diagonal: columns - 1, threshold: 0.6 };
    const { mask } = await select(device, sums, [rule]);
    expect(mask).toEqual(referenceRow(sums, rule.diagonal, rule.threshold).chosen);
  });

  it('agrees with the reference', async () => {
    // Multiples of 2^-10: the reference's sums are exact too.
    const value = fc.integer({ min: 0, max: 1 << 14 }).map((x) => x / 1024);
    const rowOf = fc.record({
      values: fc.array(value, { minLength: 1, maxLength: 140 }),
      threshold: fc.integer({ min: 0, max: 64 }).map((x) => x / 64),
      first: fc.boolean(),
      beyond: fc.integer({ min: 0, max: 40 }),
    });
    await fc.assert(
      fc.asyncProperty(rowOf, async ({ values, threshold, first, beyond }) => {
        const diagonal = values.length - 1;
        const sums = Float32Array.of(...values, ...new Array<number>(beyond).fill(9));
        const { mask } = await select(device, sums, [{ diagonal, threshold, first }]);
        expect(mask).toEqual(referenceRow(sums, diagonal, threshold, first).chosen);
      }),
      { numRuns: 150 },
    );
  });

  it('refuses rows of other shapes', async () => {
    const rows = [1, 2, 3].map((diagonal) => ({ diagonal, threshold: 0.5 }));
    await expect(select(device, new Float32Array(0), rows)).rejects.toMatchObject({
      code: 'ERR_ACCEL_SHAPE',
    });
  });
});
