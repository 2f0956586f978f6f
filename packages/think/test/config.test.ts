import { assemble, compose, readMethodConfig } from '@accel/core';
import { method as pyramidkvMethod } from '@accel/pyramidkv';
import { method as snapkvMethod } from '@accel/snapkv';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { keyItems } from '../src/layout.js';
import { method, think } from '../src/index.js';
import { channelsOf, keptChannels } from '../src/settings.js';

describe('configs', () => {
  it('paper.yaml has the values of the paper', async () => {
    const [selection, part] = await readMethodConfig(method.presets.paper, method);
    expect(part).toMatchObject({ id: 'think', slot: 'channels' });
    expect(part?.options).toEqual(think().options);
    expect(selection?.id).toBe('snapkv');
    expect(selection?.options).toMatchObject({
      budget: { tokens: 512 },
      observe: 32,
      pool: { kind: 'max', size: 7 },
    });
  });

  it('loom.yaml has the values of the seed toolkit, under its keys', async () => {
    const [selection, part] = await readMethodConfig(method.presets.loom, method);
    expect(part?.options).toMatchObject({ ratio: 0.4, recent: 32 });
    expect(selection?.options).toMatchObject({
      budget: { tokens: 1024 },
      observe: 32,
      pool: { kind: 'avg', size: 5 },
    });
  });

  it('brings a selection along only where the config says which rows stay', () => {
    const ids = (config: Parameters<typeof method.fromConfig>[0]): string[] =>
      method.fromConfig(config).map(({ id }) => id);
    expect(ids({})).toEqual(['think']);
    expect(ids({ pruning_ratio: 0.5, recent_size: 64 })).toEqual(['think']);
    expect(ids({ window_size: 16 })).toEqual(['snapkv', 'think']);
    expect(ids({ snapkv: {} })).toEqual(['snapkv', 'think']);
    const [selection, part] = method.fromConfig({
      ratio: 0.5,
      snapkv: { budget: { keep: 0.5 } },
      window_size: 8,
    });
    expect(selection?.options).toMatchObject({ budget: { keep: 0.5 }, observe: 8 });
    expect(part?.options).toMatchObject({ ratio: 0.5, observe: 32 });
  });

  it('yields its selection to one that is named, and goes with budgets', () => {
    const parts = method.fromConfig({ max_capacity_prompt: 64, window_size: 16 });
    const own = snapkvMethod.fromConfig({ budget: { tokens: 256 } });
    const joined = assemble([
      { method, parts },
      { method: snapkvMethod, parts: own },
    ]);
    expect(joined).toHaveLength(2);
    expect(joined).toContain(own[0]);
    const pyramid = assemble([
      { method, parts: method.fromConfig({}) },
      { method: pyramidkvMethod, parts: pyramidkvMethod.fromConfig({}) },
    ]);
    expect(compose(...pyramid).warnings).toEqual([]);
  });
});

describe('sizes', () => {
  it.each([
    { headDim: 128, ratio: 0.4, kept: 77, aligned: 80 },
    { headDim: 128, ratio: 0.375, kept: 80, aligned: 80 },
    { headDim: 128, ratio: 0.5, kept: 64, aligned: 64 },
    { headDim: 64, ratio: 0.4, kept: 39, aligned: 48 },
    { headDim: 64, ratio: 0.99, kept: 1, aligned: 16 },
    { headDim: 40, ratio: 0.1, kept: 36, aligned: 40 },
    { headDim: 80, ratio: 0, kept: 80, aligned: 80 },
  ])('of $headDim channels at $ratio $kept stay', ({ headDim, ratio, kept, aligned }) => {
    expect(keptChannels({ ratio, aligned: false }, headDim)).toBe(kept);
    expect(keptChannels({ ratio, aligned: true }, headDim)).toBe(aligned);
    expect(keyItems(kept, 'bfloat16').bytes).toBe(16 * kept * 2);
    expect(keyItems(kept, 'float32').bytes).toBe(16 * kept * 4);
  });

  it.each([
    { headDim: 128, ratio: 0.1, aligned: true },
    { headDim: 64, ratio: 0.01, aligned: false },
  ])('a ratio of $ratio that prunes none of $headDim channels is an error', (options) => {
    const spec = { headDim: options.headDim };
    expect(() => channelsOf(options, spec)).toThrow(
      errorWith('ERR_ACCEL_POLICY', 'nothing would be pruned'),
    );
    expect(channelsOf({ ...options, ratio: 0 }, spec)).toBe(options.headDim);
  });

  it('says what the engine has to know', () => {
    const part = think({ ratio: 0.4, recent: 64, observe: 16 });
    const spec = { headDim: 128 } as Parameters<typeof part.kept>[0];
    expect(part).toMatchObject({ observe: 16, pairAligned: false, packedRows: 'forbidden' });
    expect([part.kept(spec), part.header(spec)]).toEqual([77, 160]);
    expect(part.format({ spec, dtype: 'float16' })).toMatchObject({
      items: { keys: { rows: 16, bytes: 2464, header: 160 } },
      rules: { keys: { block: 1, keep: 64 } },
      encodes: 'firstPrompt',
      idleRows: 64,
    });
  });

  it('does not run where its kernels would not', () => {
    const spec = (headDim: number) =>
      ({ headDim }) as Parameters<NonNullable<typeof method.supports>>[0];
    expect(method.supports?.(spec(256))).toBeUndefined();
    expect(method.supports?.(spec(288))).toContain('288');
  });
});
