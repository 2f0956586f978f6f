import { compose, parsePolicy, readMethodConfig, type JsonObject, type Part } from '@accel/core';
import { l2compress } from '@accel/l2compress';
import { method as snapkvMethod, snapkv } from '@accel/snapkv';
import { streamingllm } from '@accel/streamingllm';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { method, pyramidkv } from '../src/index.js';

const partOf = (parts: readonly Part[], id: string): Part | undefined =>
  parts.find((part) => part.id === id);

describe('configs', () => {
  it('paper.yaml has the values of the paper', async () => {
    const parts = await readMethodConfig(method.presets.paper, method);
    expect(partOf(parts, 'pyramidkv')?.options).toEqual({ beta: 20, mode: 'exact' });
    expect(partOf(parts, 'snapkv')?.options).toEqual({
      budget: { tokens: 2048 },
      observe: 8,
      pool: { kind: 'max', size: 7 },
      groupReduce: 'mean',
      turns: 'first',
    });
  });

  it('loom.yaml has the values of the seed toolkit, under its keys', async () => {
    const parts = await readMethodConfig(method.presets.loom, method);
    expect(partOf(parts, 'pyramidkv')?.options).toEqual({ beta: 20, mode: 'reference' });
    expect(partOf(parts, 'snapkv')?.options).toEqual(snapkv().options);
  });

  it('takes the seed toolkit’s keys', () => {
    const keys = { max_capacity_prompt: 512, window_size: 8, kernel_size: 7, pooling: 'maxpool' };
    expect(partOf(method.fromConfig(keys), 'snapkv')?.options).toMatchObject({
      budget: { tokens: 512 },
      observe: 8,
      pool: { kind: 'max', size: 7 },
    });
  });

  it('names an unknown option as its own, with the nearest of both parts', () => {
    const config = (options: JsonObject) => () => method.fromConfig(options);
    expect(config({ bet: 20 })).toThrow(errorWith('ERR_ACCEL_POLICY', 'PyramidKV: bet is not'));
    expect(config({ observ: 20 })).toThrow(errorWith('ERR_ACCEL_POLICY', 'observe'));
  });
});

describe('the parts', () => {
  it('are PyramidKV’s allocation and SnapKV’s selection', () => {
    const policy = compose(...method.fromConfig({ beta: 10, observe: 16 }));
    expect(policy.parts.map(({ id, slot }) => [id, slot])).toEqual([
      ['snapkv', 'select'],
      ['pyramidkv', 'budget'],
    ]);
    expect(policy.warnings).toEqual([]);
    const again = parsePolicy(JSON.parse(JSON.stringify(policy)), [method, snapkvMethod]);
    expect(again.toJSON()).toEqual(policy.toJSON());
  });

  it('need a select part, refuse a second budget part, and have no use beside StreamingLLM', () => {
    const alone: readonly Part[] = [pyramidkv()];
    expect(() => compose(...alone)).toThrow(errorWith('ERR_ACCEL_POLICY', 'needs a select part'));
    const two: readonly Part[] = [snapkv(), pyramidkv(), pyramidkv({ beta: 2 })];
    expect(() => compose(...two)).toThrow(errorWith('ERR_ACCEL_POLICY', 'two budget parts'));
    // @ts-expect-error pyramidkv needs a select part: a budget is used by a select part
    expect(() => compose(pyramidkv())).toThrow();
    // @ts-expect-error two budget parts: pyramidkv, pyramidkv
    expect(() => compose(snapkv(), pyramidkv(), pyramidkv())).toThrow();
    expect(compose(l2compress(), pyramidkv()).warnings).toEqual([]);
    expect(compose(streamingllm(), pyramidkv()).warnings).toHaveLength(1);
  });
});
