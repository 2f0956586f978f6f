import { readMethodConfig } from '@accel/core';
import { describe, expect, it } from 'vitest';
import { h2o, method } from '../src/index.js';
import { limitsOf, settingsFrom } from '../src/settings.js';

describe('configs', () => {
  it('paper.yaml has the values of the paper', async () => {
    const [part] = await readMethodConfig(method.presets.paper, method);
    expect(part?.options).toEqual({
      budget: { keep: 0.2 },
      groupReduce: 'mean',
      evicts: 'everyStep',
      approximateSignal: false,
    });
  });

  it('loom.yaml has the values of the seed toolkit, under its keys', async () => {
    const [part] = await readMethodConfig(method.presets.loom, method);
    expect(part?.options).toMatchObject({
      budget: { tokens: 1024 },
      recent: 32,
      evicts: 'prefillEnd',
    });
  });

  it('has the default of the original: 1024 heavy hitters and 1024 recent rows', () => {
    expect(limitsOf(settingsFrom({}))).toEqual({ rows: 2048, recent: 1024 });
  });

  it('resolves shares with the first prompt, in double precision, rounded down', () => {
    const share = settingsFrom({ budget: { keep: 0.29 } });
    expect(limitsOf(share)).toBeUndefined();
    expect(limitsOf(share, 100)).toEqual({ rows: 28, recent: 14 });
    expect(limitsOf(settingsFrom({ budget: { keep: 0.29 }, recent: 99 }), 100)).toEqual({
      rows: 28,
      recent: 28,
    });
  });

  it('says what it needs and when rows leave, for the legality of policies', () => {
    expect(h2o()).toMatchObject({
      needs: ['columnSums', 'decodeProbs'],
      evicts: 'everyStep',
      positions: 'original',
      lossy: true,
      tallies: [{ kind: 'attention', reduce: 'mean', of: 'stream' }],
    });
    expect(h2o({ approximateSignal: true, evicts: 'prefillEnd' })).toMatchObject({
      lossy: 'approximateSignal',
      evicts: 'prefillEnd',
    });
  });
});
