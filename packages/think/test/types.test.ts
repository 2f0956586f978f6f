import { compose, freezePart, type PrefillPart } from '@accel/core';
import { snapkv } from '@accel/snapkv';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { think } from '../src/index.js';

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

const blind: PrefillPart<'blind', 'columnSums'> = freezePart({
  id: 'blind',
  slot: 'prefill',
  needs: [],
  provides: ['columnSums'],
  lossy: true,
  options: {},
  figures: ['recall'],
  create: () => {
    throw new Error('only described');
  },
});

const select = {
  id: 'rows',
  slot: 'select',
  needs: [],
  provides: [],
  lossy: true,
  options: {},
  positions: 'original',
  evicts: 'prefillEnd',
  create: () => {
    throw new Error('only composed');
  },
} as const;
const everyStep = freezePart({ ...select, evicts: 'everyStep' } as const);
const cacheRelative = freezePart({ ...select, positions: 'cacheRelative' } as const);
const codec = freezePart({
  id: 'packed',
  slot: 'codec',
  needs: [],
  provides: [],
  lossy: true,
  options: {},
  packedRows: 'forbidden',
  residual: 32,
  format: () => {
    throw new Error('only composed');
  },
} as const);

// What the compiler refuses must be refused at run time as well.
describe('ThinK beside other parts', () => {
  const refusal = errorWith('ERR_ACCEL_POLICY');

  it('goes with a selection, a codec, and a prefill that shows the last queries', () => {
    expect(compose(sparse, snapkv(), think(), codec).parts).toHaveLength(4);
    expect(compose(think()).warnings).toEqual([]);
  });

  it('needs the last queries', () => {
    // @ts-expect-error think needs observedWindow, which blind does not provide
    expect(() => compose(blind, think())).toThrow(refusal);
  });

  it('cannot rotate keys again', () => {
    // @ts-expect-error keys used at their place in the cache are rotated again
    expect(() => compose(cacheRelative, think())).toThrow(refusal);
  });

  it('does not take rows out of items', () => {
    // @ts-expect-error rows leave one by one, but keys that have lost channels lie in groups
    expect(() => compose(everyStep, think())).toThrow(refusal);
  });

  it('is one choice of channels', () => {
    // @ts-expect-error two channels parts: think, think
    expect(() => compose(think(), think({ ratio: 0.5 }))).toThrow(refusal);
  });
});
