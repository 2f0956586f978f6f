import { readMethodConfig } from '@accel/core';
import { describe, expect, it } from 'vitest';
import { method, streamingllm } from '../src/index.js';

describe('configs', () => {
  it('paper.yaml has the values of the paper', async () => {
    const [part] = await readMethodConfig(method.presets.paper, method);
    expect(part?.options).toMatchObject({
      sink: 4,
      recent: 1020,
      positions: 'cacheRelative',
      prefill: 'dense',
      trim: 'token',
    });
  });

  it('loom.yaml has the values of the seed toolkit, under its keys', async () => {
    const [part] = await readMethodConfig(method.presets.loom, method);
    expect(part?.options).toMatchObject({
      sink: 992,
      recent: 32,
      positions: 'original',
      prefill: 'dense',
      trim: 'prompt',
    });
  });

  it('says when rows leave and where positions are, for the legality of policies', () => {
    expect(streamingllm()).toMatchObject({
      positions: 'cacheRelative',
      evicts: 'everyStep',
      needs: [],
    });
    const once = streamingllm({ positions: 'original', trim: 'prompt' });
    expect(once).toMatchObject({ positions: 'original', evicts: 'prefillEnd' });
  });
});
