import {
  compose,
  freezePart,
  type MergePart,
  type PrefillPart,
  type SelectPart,
} from '@accel/core';
import { snapkv } from '@accel/snapkv';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { kivi } from '../src/index.js';

const create = (): never => {
  throw new Error('only composed');
};

const sparse: PrefillPart<'sparse', 'observedWindow'> = freezePart({
  id: 'sparse',
  slot: 'prefill',
  needs: [],
  provides: ['observedWindow'],
  lossy: true,
  options: {},
  figures: ['recall'],
  create: () => {
    throw new Error('only described');
  },
});

const rows = {
  id: 'rows',
  slot: 'select',
  needs: [],
  provides: [],
  lossy: true,
  options: {},
  positions: 'original',
  evicts: 'prefillEnd',
  create,
} as const satisfies SelectPart<'rows'>;
const everyStep = freezePart({ ...rows, evicts: 'everyStep' } as const);
const everyTurn = freezePart({ ...rows, turns: 'every' } as const);
const cacheRelative = freezePart({ ...rows, positions: 'cacheRelative' } as const);
const banded = freezePart({ ...rows, prefill: 'banded' } as const);

const merge = freezePart({
  id: 'merge',
  slot: 'merge',
  needs: [],
  provides: [],
  lossy: true,
  options: {},
  recent: 16,
  at: 'prompt',
  create,
} as const satisfies MergePart<'merge', never>);

const other = freezePart({
  id: 'other',
  slot: 'codec',
  needs: [],
  provides: [],
  lossy: true,
  options: {},
  packedRows: 'forbidden',
  residual: 0,
  format: create,
} as const);

// What the compiler refuses must be refused at run time as well.
describe('KIVI beside other parts', () => {
  const refusal = errorWith('ERR_ACCEL_POLICY');

  it('goes with every prefill, and with selections that are done when rows are packed', () => {
    expect(compose(kivi()).warnings).toEqual([]);
    expect(compose(sparse, snapkv(), kivi()).parts).toHaveLength(3);
    expect(compose(rows, kivi({ bits: 2 })).parts).toHaveLength(2);
  });

  it('does not give packed rows back', () => {
    // @ts-expect-error rows leave one by one but are packed in groups
    expect(() => compose(everyStep, kivi())).toThrow(refusal);
    // @ts-expect-error rows leave in later turns too, when older ones are packed already
    expect(() => compose(everyTurn, kivi())).toThrow(refusal);
    // @ts-expect-error merging changes stored values but these are packed
    expect(() => compose(rows, merge, kivi())).toThrow(refusal);
  });

  it('brings an attention of its own', () => {
    // @ts-expect-error keys used at their place in the cache need an attention of their own
    expect(() => compose(cacheRelative, kivi())).toThrow(refusal);
    // @ts-expect-error banded attention reads plain rows only
    expect(() => compose(banded, kivi())).toThrow(refusal);
  });

  it('is one codec', () => {
    // @ts-expect-error two codec parts: kivi, other
    expect(() => compose(kivi(), other)).toThrow(refusal);
  });
});
