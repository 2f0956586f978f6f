import { compose, freezePart } from '@accel/core';
import { errorWith } from '@accel/testkit';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { l2compress, type L2compressOptions } from '../src/index.js';

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
describe('L2Compress beside rows that stay once they are packed or pruned', () => {
  const refusal = errorWith('ERR_ACCEL_POLICY');

  it('takes rows at the end of the first prompt, as published', () => {
    expect(compose(l2compress(), packed, pruned).parts).toHaveLength(3);
  });

  it('takes none after every token', () => {
    // @ts-expect-error rows leave one by one but are packed in groups
    expect(() => compose(l2compress({ evicts: 'everyStep' }), packed)).toThrow(refusal);
    // @ts-expect-error rows leave one by one, but keys that have lost channels stay
    expect(() => compose(l2compress({ evicts: 'everyStep' }), pruned)).toThrow(refusal);
  });

  it('takes none in later turns', () => {
    // @ts-expect-error rows leave in later turns too, when older ones are packed already
    expect(() => compose(l2compress({ turns: 'every' }), packed)).toThrow(refusal);
    // @ts-expect-error rows leave in later turns too, when older ones are pruned already
    expect(() => compose(l2compress({ turns: 'every' }), pruned)).toThrow(refusal);
  });

  it('evicts in every turn when it does after every token', () => {
    const part = l2compress({ evicts: 'everyStep' });
    expectTypeOf(part.turns).toEqualTypeOf<'every'>();
    expect(part.turns).toBe('every');
    expectTypeOf(l2compress().turns).toEqualTypeOf<'first'>();
    expect(l2compress().turns).toBe('first');
  });

  it('leaves to run time what the types leave open', () => {
    const options: L2compressOptions = { turns: 'every' };
    expect(() => compose(l2compress(options), packed)).toThrow(refusal);
  });
});
