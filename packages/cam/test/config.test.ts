import { assemble, compose, readMethodConfig } from '@accel/core';
import { method as h2oMethod } from '@accel/h2o';
import { describe, expect, it } from 'vitest';
import { cam, method } from '../src/index.js';

describe('configs', () => {
  it('paper.yaml has the values of the original’s streaming program', async () => {
    const [part, selection] = await readMethodConfig(method.presets.paper, method);
    expect(part?.options).toMatchObject({
      targets: 16,
      gate: 'bernoulli',
      statistic: 'stream',
      divisor: 'targets',
      at: 'decode',
    });
    expect(selection).toMatchObject({ id: 'streamingllm', positions: 'cacheRelative' });
    expect(selection?.options).toMatchObject({ sink: 1, recent: 255, trim: 'token' });
  });

  it('loom.yaml has the values of the seed toolkit, under its keys', async () => {
    const [part, selection] = await readMethodConfig(method.presets.loom, method);
    expect(part?.options).toMatchObject({
      at: 'prompt',
      observe: 32,
      minPrompt: 1024,
      startRatio: 0.1,
      denominator: 'fixed',
    });
    expect(selection?.id).toBe('snapkv');
    expect(selection?.options).toMatchObject({
      budget: { tokens: 1024 },
      observe: 32,
      pool: { size: 1 },
    });
  });

  it('works alone with the selection it brings, and yields to one that is named', () => {
    const parts = method.fromConfig({});
    expect(parts.map(({ id }) => id)).toEqual(['cam', 'streamingllm']);
    expect(compose(...parts).warnings).toEqual([]);
    const joined = assemble([
      { method, parts },
      { method: h2oMethod, parts: h2oMethod.fromConfig({}) },
    ]);
    expect(joined.map(({ id }) => id)).toEqual(['cam', 'h2o']);
  });

  it('hands options to its selection, in the selection’s own names', () => {
    const sized = method.fromConfig({ streamingllm: { budget: { tokens: 512 } }, targets: 8 });
    expect(sized[0]?.options).toMatchObject({ targets: 8 });
    expect(sized[1]?.options).toMatchObject({ sink: 1, budget: { tokens: 512 } });
    const prompt = method.fromConfig({ at: 'prompt', observe: 8, snapkv: { turns: 'every' } });
    expect(prompt[1]?.options).toMatchObject({ observe: 8, pool: { size: 1 }, turns: 'every' });
  });

  it('says what it needs and counts, for the legality of policies', () => {
    expect(cam()).toMatchObject({
      needs: ['columnSums', 'decodeProbs'],
      at: 'decode',
      observe: 0,
      lossy: true,
      recent: Infinity,
      tallies: [{ kind: 'attention', reduce: 'mean', of: 'stream' }],
    });
    expect(cam({ statistic: 'decode', recent: 128 })).toMatchObject({
      needs: ['decodeProbs'],
      recent: 128,
      tallies: [{ kind: 'attention', reduce: 'mean', of: 'steps' }],
    });
    expect(cam({ at: 'prompt', observe: 8 })).toMatchObject({
      needs: ['observedWindow'],
      at: 'prompt',
      observe: 8,
      tallies: [],
    });
  });
});
