import { compose, freezePart } from '@accel/core';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { streamingllm, type StreamingllmOptions } from '../src/index.js';

const base = { needs: [], provides: [], lossy: true, options: {} } as const;
const packed = freezePart({
  ...base,
  id: 'packed',
  slot: 'codec',
  packedRows: 'forbidden',
  residual: 0,
} as const);
const stays = freezePart({
  ...base,
  id: 'stays',
  slot: 'channels',
  pairAligned: true,
  packedRows: 'forbidden',
} as const);
const pruned = freezePart({ ...base, id: 'pruned', slot: 'channels', pairAligned: false } as const);

// What the compiler refuses must be refused at run time as well.
describe('StreamingLLM beside other parts', () => {
  const refusal = errorWith('ERR_ACCEL_POLICY');

  it('takes rows one by one, unless it cuts the first prompt only', () => {
    // @ts-expect-error rows leave one by one but are packed in groups
    expect(() => compose(streamingllm(), packed)).toThrow(refusal);
    // @ts-expect-error rows leave one by one but are packed in groups
    expect(() => compose(streamingllm({ trim: 'token' }), packed)).toThrow(refusal);
    const options = { trim: 'prompt', positions: 'original' } as const;
    expect(compose(streamingllm(options), packed).parts).toHaveLength(2);
    expect(compose(streamingllm(options), stays).parts).toHaveLength(2);
  });

  it('takes rows in later turns when it makes room for them', () => {
    const options = { trim: 'turn', positions: 'original' } as const;
    // @ts-expect-error rows leave in later turns too, when older ones are packed already
    expect(() => compose(streamingllm(options), packed)).toThrow(refusal);
    // @ts-expect-error rows leave in later turns too, when older ones are pruned already
    expect(() => compose(streamingllm(options), stays)).toThrow(refusal);
  });

  it('has an attention of its own, which reads plain rows', () => {
    // @ts-expect-error keys used at their place in the cache need an attention of their own
    expect(() => compose(streamingllm({ trim: 'prompt' }), packed)).toThrow(refusal);
    // @ts-expect-error the same, whatever the channels
    expect(() => compose(streamingllm({ trim: 'prompt' }), stays)).toThrow(refusal);
    // @ts-expect-error rows leave one by one, and banded attention reads plain rows only
    expect(() => compose(streamingllm({ prefill: 'banded' }), packed)).toThrow(refusal);
  });

  it('turns keys, unless positions are original ones', () => {
    // @ts-expect-error keys used at their place in the cache need both channels of each pair
    expect(() => compose(streamingllm(), pruned)).toThrow(refusal);
    expect(compose(streamingllm({ positions: 'original' }), pruned).parts).toHaveLength(2);
  });

  it('leaves to run time what the types leave open', () => {
    const options: StreamingllmOptions = { positions: 'cacheRelative' };
    expect(() => compose(streamingllm(options), pruned)).toThrow(refusal);
  });
});
