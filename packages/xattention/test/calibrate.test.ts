import { errorWith } from '@accel/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { calibrate, thresholdFromSums } from '../src/index.js';

describe('thresholds from block sums', () => {
  it('keep what covers the attention, by the smallest estimate among it', () => {
    // One row of four columns: 0.6 + 0.3 cover 0.9 of the attention; the lesser estimate of the two is 2.
    const text = {
      mass: [0.6, 0.05, 0.3, 0.05],
      sums: [2, 3, 4, 1],
      heads: 1,
      rowBlocks: 1,
      columns: 4,
      offset: 3,
    };
    // Blocks with 2, 3 and 4 of 10 are not below the cut.
    expect([...thresholdFromSums({ ...text, coverage: 0.89 })]).toEqual([0.9]);
    expect([...thresholdFromSums({ ...text, coverage: 0.5 })]).toEqual([0.9]);
    expect([...thresholdFromSums({ ...text, coverage: 1 })]).toEqual([1]);
    expect([...thresholdFromSums({ ...text, sums: [3, 2, 4, 1], coverage: 0.89 })]).toEqual([0.7]);
  });

  it('add up rows, and ignore what lies behind the diagonal', () => {
    const sums = [8, 99, 99, 6, 2, 99, 1, 5, 2];
    const mass = [1, 9, 9, 0.95, 0.05, 9, 0, 0.92, 0.08];
    const [threshold] = thresholdFromSums({ sums, mass, heads: 1, rowBlocks: 3, columns: 3 });
    expect(threshold).toBeCloseTo((8 + 6 + 5) / 24, 12);
  });

  it('are one a head, the largest of all texts', () => {
    const text = { heads: 2, rowBlocks: 1, columns: 2, offset: 1 };
    const a = { ...text, sums: [1, 3, 1, 1], mass: [0, 1, 1, 1] };
    const b = { ...text, sums: [1, 1, 1, 4], mass: [0, 1, 1, 0] };
    expect([...thresholdFromSums(a)]).toEqual([0.75, 1]);
    // Equal estimates are not below the cut.
    expect([...thresholdFromSums(b)]).toEqual([1, 1]);
    expect([...calibrate([a, b])]).toEqual([1, 1]);
    expect([...calibrate([a])]).toEqual([0.75, 1]);
  });

  it('are shares, and grow with the coverage', () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    const numbers = fc.array(share, { minLength: 32, maxLength: 32 });
    fc.assert(
      fc.property(numbers, numbers, (sums, mass) => {
        const text = { sums, mass, heads: 2, rowBlocks: 4, columns: 4 };
        let before = [0, 0];
        for (const coverage of [0.3, 0.6, 0.9, 1]) {
          const found = [...thresholdFromSums({ ...text, coverage })];
          for (const [head, threshold] of found.entries()) {
            expect(threshold).toBeGreaterThanOrEqual(before[head] as number);
            expect(threshold).toBeLessThanOrEqual(1);
          }
          before = found;
        }
      }),
    );
  });

  it('need numbers of one shape', () => {
    const text = { sums: [1, 2], mass: [1, 2], heads: 1, rowBlocks: 1, columns: 2 };
    expect(() => thresholdFromSums({ ...text, mass: [1] })).toThrow(errorWith('ERR_ACCEL_SHAPE'));
    expect(() => thresholdFromSums({ ...text, coverage: 0 })).toThrow(
      errorWith('ERR_ACCEL_ARGUMENT', 'coverage'),
    );
    expect(() => calibrate([])).toThrow(errorWith('ERR_ACCEL_ARGUMENT', 'at least one'));
    expect(() => calibrate([text, { ...text, heads: 2, rowBlocks: 1, columns: 1 }])).toThrow(
      errorWith('ERR_ACCEL_SHAPE'),
    );
  });
});
