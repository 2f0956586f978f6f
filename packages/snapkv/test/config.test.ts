import { readMethodConfig } from '@accel/core';
import { describe, expect, it } from 'vitest';
import { method, snapkv } from '../src/index.js';

describe('configs', () => {
  it('paper.yaml has the values of the paper', async () => {
    const [part] = await readMethodConfig(method.presets.paper, method);
    expect(part?.options).toEqual({
      budget: { tokens: 1024 },
      observe: 32,
      pool: { kind: 'max', size: 7 },
      groupReduce: 'mean',
      turns: 'first',
    });
  });

  it('loom.yaml has the values of the seed toolkit, under its keys', async () => {
    const [part] = await readMethodConfig(method.presets.loom, method);
    expect(part?.options).toEqual(snapkv().options);
  });

  it('takes the seed toolkit’s keys', () => {
    const keys = { max_capacity_prompt: 512, window_size: 8, kernel_size: 7, pooling: 'maxpool' };
    expect(method.fromConfig(keys)[0]?.options).toMatchObject({
      budget: { tokens: 512 },
      observe: 8,
      pool: { kind: 'max', size: 7 },
    });
  });
});
