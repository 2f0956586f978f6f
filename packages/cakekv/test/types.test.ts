import { compose, freezePart, type Part } from '@accel/core';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { cakeBudget, cakekv } from '../src/index.js';

const base = {
  needs: [],
  provides: [],
  lossy: true,
  options: {},
  packedRows: 'forbidden',
} as const;
const packed = freezePart({ ...base, id: 'packed', slot: 'codec', residual: 0 } as const);
const pruned = freezePart({ ...base, id: 'pruned', slot: 'channels', pairAligned: false } as const);

// What the compiler refuses must be refused at run time as well.
describe('CakeKV beside rows that stay once they are packed or pruned', () => {
  const refusal = errorWith('ERR_ACCEL_POLICY');

  it('is no selection for them: it takes one row at every step', () => {
    // @ts-expect-error rows leave one by one but are packed in groups
    expect(() => compose(...cakekv(), packed)).toThrow(refusal);
    // @ts-expect-error rows leave one by one, but keys that have lost channels stay
    expect(() => compose(...cakekv(), pruned)).toThrow(refusal);
  });

  it('shares out the rows of a selection that is', () => {
    const once = {
      id: 'once',
      slot: 'select',
      positions: 'original',
      evicts: 'prefillEnd',
    } as const;
    const select = freezePart({
      ...once,
      needs: [],
      provides: [],
      lossy: true,
      options: {},
    } as const);
    const parts: readonly Part[] = compose(select, cakeBudget(), pruned, packed).parts;
    expect(parts).toHaveLength(4);
  });
});
