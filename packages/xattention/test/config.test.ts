import { readMethodConfig } from '@accel/core';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { method, xattention } from '../src/index.js';

describe('configs', () => {
  it('paper.yaml has the values of the paper', async () => {
    const [part] = await readMethodConfig(method.presets.paper, method);
    expect(part?.options).toEqual({
      stride: 16,
      threshold: 0.9,
      norm: 1,
      mode: 'clean',
      dense: 0,
    });
  });

  it('loom.yaml has the values of the seed toolkit, under its keys', async () => {
    const [part] = await readMethodConfig(method.presets.loom, method);
    expect(part?.options).toEqual(xattention({ threshold: 0.95 }).options);
  });

  it('has the defaults of the README', () => {
    expect(xattention().options).toEqual({
      stride: 16,
      threshold: 0.9,
      norm: 1,
      mode: 'clean',
      dense: 2048,
    });
    expect(xattention({ mode: 'compat' }).options).toMatchObject({ chunk: 2048, dense: 0 });
  });

  it('takes the keys of the seed toolkit and of the authors’ config', () => {
    const keys = {
      stride: 8,
      threshold: 0.8,
      norm: 2,
      keep_sink: true,
      keep_recent: true,
      chunk_size: 16384,
      use_triton: true,
    };
    const want = xattention({ stride: 8, threshold: 0.8, norm: 2 }).options;
    expect(method.fromConfig(keys)[0]?.options).toEqual(want);
  });

  it('takes a plan as it is written', () => {
    const plan = {
      schema: 'accel.xattention.thresholds/1',
      model: { name: 'small', layers: 1, heads: 2 },
      stride: 8,
      coverage: 0.9,
      provenance: 'made up',
      thresholds: [[0.5, 0.7]],
    };
    const want = xattention({ stride: 8, thresholds: [[0.5, 0.7]] }).options;
    expect(method.fromConfig(plan)[0]?.options).toEqual(want);
  });

  it('says where a chunk has a meaning', () => {
    expect(() => method.fromConfig({ chunk: 2048 })).toThrow(
      errorWith('ERR_ACCEL_POLICY', 'compat'),
    );
  });

  it('freezes plans', () => {
    const { options } = xattention({ thresholds: [[0.5, 0.7]] });
    expect(Object.isFrozen((options.thresholds as number[][])[0])).toBe(true);
  });
});
