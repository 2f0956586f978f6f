import { readMethodConfig } from '@accel/core';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { flexprefill, method, type FlexprefillOptions } from '../src/index.js';

describe('configs', () => {
  it('paper.yaml has the values of the paper', async () => {
    const [part] = await readMethodConfig(method.presets.paper, method);
    expect(part?.options).toEqual({
      gamma: 0.95,
      tau: 0.1,
      minBudget: 1024,
      maxBudget: null,
      blockSize: 128,
      mode: 'clean',
    });
  });

  it('loom.yaml has the values of the seed toolkit, under its keys', async () => {
    const [part] = await readMethodConfig(method.presets.loom, method);
    expect(part?.options).toEqual({
      gamma: 0.9,
      tau: 0.1,
      minBudget: 256,
      maxBudget: 1024,
      blockSize: 64,
      mode: 'clean',
    });
  });

  it('has the defaults of the README', () => {
    expect(flexprefill().options).toEqual({
      gamma: 0.9,
      tau: 0.1,
      minBudget: 512,
      maxBudget: null,
      blockSize: 128,
      mode: 'clean',
    });
    expect(flexprefill({ minBudget: null }).options).toMatchObject({ minBudget: 1 });
  });

  it.each([
    { gamma: 1 },
    { gamma: 1.5 },
    { gamma: 0 },
    { gamma: NaN },
    { tau: -0.1 },
    { minBudget: 0 },
    { minBudget: 1.5 },
    { maxBudget: 0 },
    { blockSize: 32 },
    { mode: 'fast' },
    { block: 128 },
  ])('refuses %o', (options) => {
    expect(() => flexprefill(options as FlexprefillOptions)).toThrow(errorWith('ERR_ACCEL_POLICY'));
  });
});
