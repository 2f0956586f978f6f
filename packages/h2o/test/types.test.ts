import { compose, freezePart, type CodecPart, type PrefillPart } from '@accel/core';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { h2o, type H2oOptions } from '../src/index.js';

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

const packed = freezePart({
  id: 'packed',
  slot: 'codec',
  needs: [],
  provides: [],
  lossy: true,
  options: {},
  packedRows: 'forbidden',
  residual: 0,
  format: () => {
    throw new Error('only described');
  },
} as const satisfies CodecPart<'packed'>);

// What the compiler refuses must be refused at run time as well, and the other way round.
describe('H2O beside other parts', () => {
  const refusal = errorWith('ERR_ACCEL_POLICY');

  it('needs a dense prompt, unless it was told to take what a sparse one gives', () => {
    // @ts-expect-error h2o needs columnSums, which sparse does not provide
    expect(() => compose(sparse, h2o())).toThrow(refusal);
    // @ts-expect-error the same reason, spelled out
    expect(() => compose(sparse, h2o({ approximateSignal: false }))).toThrow(refusal);
    expect(compose(sparse, h2o({ approximateSignal: true })).parts).toHaveLength(2);
  });

  it('does not take rows one by one from groups that cannot be taken apart', () => {
    // @ts-expect-error rows leave one by one but are packed in groups
    expect(() => compose(h2o(), packed)).toThrow(refusal);
    expect(compose(h2o({ evicts: 'prefillEnd' }), packed).parts).toHaveLength(2);
  });

  it('is one selection', () => {
    // @ts-expect-error two select parts: h2o, h2o
    expect(() => compose(h2o(), h2o())).toThrow(refusal);
  });

  it('leaves to run time what the types leave open', () => {
    const options: H2oOptions = { evicts: 'everyStep' };
    expect(() => compose(h2o(options), packed)).toThrow(refusal);
  });
});
