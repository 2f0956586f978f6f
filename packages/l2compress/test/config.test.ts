import { readMethodConfig } from '@accel/core';
import { describe, expect, it } from 'vitest';
import { l2compress, method } from '../src/index.js';

describe('configs', () => {
  it('paper.yaml has the values of the paper', async () => {
    const [part] = await readMethodConfig(method.presets.paper, method);
    expect(part?.options).toEqual({
      budget: { keep: 0.5 },
      rounding: 'ceil',
      skipLayers: [0, 1],
      pruneAfter: 0,
      sink: 0,
      recent: 0,
      evicts: 'prefillEnd',
      turns: 'first',
    });
  });

  it('loom.yaml has the values of the seed toolkit, under its keys', async () => {
    const [part] = await readMethodConfig(method.presets.loom, method);
    expect(part?.options).toEqual(l2compress().options);
  });

  it('takes the keys of the seed toolkit and of the authors’ function', () => {
    const options = (keys: Parameters<typeof method.fromConfig>[0]): unknown =>
      method.fromConfig(keys)[0]?.options;
    expect(options({ max_capacity_prompt: 512, skip_layers: [0] })).toMatchObject({
      budget: { tokens: 512 },
      skipLayers: [0],
    });
    expect(options({ keep_ratio: 0.9, prune_after: 1000, skip_layers: [] })).toMatchObject({
      budget: { keep: 0.9 },
      pruneAfter: 1000,
      skipLayers: [],
    });
  });
});

describe('the part', () => {
  it('evicts at the end of prompts, or at every step', () => {
    expect(l2compress().evicts).toBe('prefillEnd');
    expect(l2compress({ evicts: 'everyStep' }).evicts).toBe('everyStep');
    expect(l2compress({ evicts: 'everyStep' }).options.turns).toBe('every');
    expect(l2compress({ turns: 'every' }).options.turns).toBe('every');
  });

  it('needs no signal', () => {
    expect(l2compress().needs).toEqual([]);
  });
});
