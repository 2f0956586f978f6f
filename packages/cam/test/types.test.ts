import { compose, freezePart, type PrefillPart } from '@accel/core';
import { h2o } from '@accel/h2o';
import { snapkv } from '@accel/snapkv';
import { streamingllm } from '@accel/streamingllm';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { cam, type CamOptions } from '../src/index.js';

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

const codec = {
  id: 'packed',
  slot: 'codec',
  needs: [],
  provides: [],
  lossy: true,
  options: {},
  residual: 64,
} as const;
const forbidden = freezePart({ ...codec, packedRows: 'forbidden' } as const);
const wholeGroups = freezePart({ ...codec, packedRows: 'wholeGroups' } as const);
const reencode = freezePart({ ...codec, packedRows: 'reencode' } as const);
const residualOnly = freezePart({ ...codec, packedRows: 'residualOnly' } as const);

// What the compiler refuses must be refused at run time as well.
describe('CaM beside other parts', () => {
  const refusal = errorWith('ERR_ACCEL_POLICY');
  const select = streamingllm({ recent: 64 });

  it('needs a selection', () => {
    // @ts-expect-error cam needs a select part
    expect(() => compose(cam())).toThrow(refusal);
    expect(compose(cam(), select).warnings).toEqual([]);
    expect(compose(cam(), h2o()).warnings).toEqual([]);
  });

  it('needs a dense prompt, unless it counts decoded tokens only or was told to take what there is', () => {
    // @ts-expect-error cam needs columnSums, which sparse does not provide
    expect(() => compose(sparse, select, cam())).toThrow(refusal);
    expect(compose(sparse, select, cam({ statistic: 'decode' })).parts).toHaveLength(3);
    expect(compose(sparse, select, cam({ approximateSignal: true })).parts).toHaveLength(3);
    // The prompt form looks at the last queries, which are always computed densely.
    expect(compose(sparse, snapkv(), cam({ at: 'prompt' })).parts).toHaveLength(3);
    const open: CamOptions = { statistic: 'stream' };
    expect(() => compose(sparse, select, cam(open))).toThrow(refusal);
  });

  it('needs a prompt in which rows see each other', () => {
    // @ts-expect-error a banded prompt gives no attention for merging to go by
    expect(() => compose(streamingllm({ prefill: 'banded' }), cam())).toThrow(refusal);
    expect(compose(streamingllm({ prefill: 'dense' }), cam()).parts).toHaveLength(2);
  });

  it('changes values, which groups of packed rows may not allow', () => {
    // @ts-expect-error merging changes stored values but these are packed
    expect(() => compose(select, cam(), forbidden)).toThrow(refusal);
    // @ts-expect-error merging changes single stored values, not groups
    expect(() => compose(select, cam(), wholeGroups)).toThrow(refusal);
    expect(compose(select, cam(), reencode).parts).toHaveLength(3);
    // Any row may take values, unless it is limited to those that are not packed yet.
    expect(() => compose(select, cam(), residualOnly)).toThrow(refusal);
    expect(compose(select, cam({ recent: 64 }), residualOnly).parts).toHaveLength(3);
  });

  it('has little use where rows leave at the end of the prompt', () => {
    expect(compose(snapkv(), cam()).warnings).toHaveLength(1);
    expect(compose(snapkv(), cam({ at: 'prompt' })).warnings).toEqual([]);
  });
});
