import { compose, freezePart, type PrefillPart, type SelectPart } from '@accel/core';
import { errorWith } from '@accel/testkit';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { flexprefill, type FlexprefillPart } from '../src/index.js';

const create = (): never => {
  throw new Error('only composed');
};
const base = {
  slot: 'select',
  provides: [],
  lossy: true,
  options: {},
  positions: 'original',
  evicts: 'prefillEnd',
  create,
} as const;
const window = freezePart({
  ...base,
  id: 'window',
  needs: ['observedWindow'],
} as const satisfies SelectPart<'window', 'observedWindow'>);
const sums = freezePart({
  ...base,
  id: 'sums',
  needs: ['columnSums'],
} as const satisfies SelectPart<'sums', 'columnSums'>);

// What the compiler refuses must be refused at run time as well.
describe('FlexPrefill beside other parts', () => {
  it('is a prefill part', () => {
    expectTypeOf(flexprefill()).toEqualTypeOf<FlexprefillPart>();
    expectTypeOf<FlexprefillPart>().toExtend<PrefillPart>();
    expect(flexprefill().figures[0]).toBe('recall');
  });

  it('goes with what observes the last queries', () => {
    expect(compose(flexprefill(), window).parts).toHaveLength(2);
  });

  it('has no sums over all queries to give', () => {
    // @ts-expect-error sums over all queries are not what a sparse prefill computes
    expect(() => compose(flexprefill(), sums)).toThrow(errorWith('ERR_ACCEL_POLICY'));
  });

  it('is the only one that computes the prompt', () => {
    // @ts-expect-error two parts for one slot
    expect(() => compose(flexprefill(), flexprefill({ tau: 0 }))).toThrow(
      errorWith('ERR_ACCEL_POLICY'),
    );
  });

  it('takes the blocks there are', () => {
    // @ts-expect-error no such block
    expect(() => flexprefill({ blockSize: 32 })).toThrow(errorWith('ERR_ACCEL_POLICY', 'block'));
  });
});
