import { compose, freezePart } from '@accel/core';
import { errorWith } from '@accel/testkit';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { snapkv, type SnapkvOptions, type SnapkvPart } from '../src/index.js';

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
describe('SnapKV beside rows that stay once they are packed or pruned', () => {
  const refusal = errorWith('ERR_ACCEL_POLICY');

  it('compresses the first turn only, as published', () => {
    expect(compose(snapkv(), packed, pruned).parts).toHaveLength(3);
    expect(compose(snapkv({ turns: 'first' }), packed).parts).toHaveLength(2);
  });

  it('does not compress every turn', () => {
    // @ts-expect-error rows leave in later turns too, when older ones are packed already
    expect(() => compose(snapkv({ turns: 'every' }), packed)).toThrow(refusal);
    // @ts-expect-error rows leave in later turns too, when older ones are pruned already
    expect(() => compose(snapkv({ turns: 'every' }), pruned)).toThrow(refusal);
  });

  it('leaves to run time what the types leave open', () => {
    const options: SnapkvOptions = { turns: 'every' };
    const part: SnapkvPart = snapkv(options);
    expectTypeOf(part.turns).toEqualTypeOf<'first' | 'every'>();
    expect(() => compose(part, packed)).toThrow(refusal);
  });
});
