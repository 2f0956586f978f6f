import { compose, loadModel, type Model, type Policy } from '@accel/core';
import { flexprefill } from '@accel/flexprefill';
import { kivi } from '@accel/kivi';
import { needlePath } from '@accel/needle';
import { pyramidkv } from '@accel/pyramidkv';
import { snapkv } from '@accel/snapkv';
import { streamingllm } from '@accel/streamingllm';
import { describeDevices } from '@accel/testkit';
import { xattention } from '@accel/xattention';
import { afterAll, beforeAll, expect, it } from 'vitest';

// A sparse prefill in later turns, on what other methods have left of the cache: it chooses where it can, and says why
// where it cannot.

describeDevices('a later turn after', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, {
      device,
      dtype: device === 'cpu' ? 'float32' : 'bfloat16',
    });
  });
  afterAll(() => model.dispose());

  const sparse = () => xattention({ dense: 0, threshold: 0.5 });
  const budget = { tokens: 200 };

  /** Receipts of a first turn of 700 tokens and of a second one of 600. */
  async function turns(policy: Policy) {
    using sequence = model.sequence({ policy });
    const tokens = Int32Array.from({ length: 1300 }, (_, i) => (i * 7919 + (i >> 3) * 31) % 4096);
    await sequence.append(tokens.slice(0, 700));
    const first = sequence.receipt();
    await sequence.append(tokens.slice(700));
    const second = sequence.receipt();
    expect((await sequence.logits()).every(Number.isFinite)).toBe(true);
    const tokensOf = (layer: number) => [
      first.prefill?.layers[layer]?.sparseTokens ?? 0,
      second.prefill?.layers[layer]?.sparseTokens ?? 0,
    ];
    return { tokensOf, dense: Object.keys(second.prefill?.dense ?? {}) };
  }

  it('nothing else chooses again, from the first whole block on', async () => {
    for (const part of [sparse(), flexprefill({ minBudget: 128 })]) {
      const { tokensOf } = await turns(compose(part));
      // 700 rows are five blocks and 60 rows: 68 tokens attend densely before the next block begins.
      const [before = 0, after = 0] = tokensOf(0);
      expect(after - before).toBeGreaterThan(300);
      expect(after - before).toBeLessThanOrEqual(600 - 68);
    }
  });

  it('SnapKV chooses among the rows that were kept', async () => {
    const { tokensOf } = await turns(compose(sparse(), snapkv({ budget })));
    const [before = 0, after = 0] = tokensOf(0);
    expect(after).toBeGreaterThan(before);
  });

  it('PyramidKV attends densely in layers whose rows are off the first one’s blocks', async () => {
    const { dense } = await turns(compose(sparse(), snapkv({ budget }), pyramidkv()));
    expect(dense).toContain('the rows before are no whole number of blocks');
  });

  it('KIVI attends densely: older rows are packed', async () => {
    const { tokensOf, dense } = await turns(compose(sparse(), kivi({ bits: 4, residual: 32 })));
    const [before, after] = tokensOf(0);
    expect(after).toBe(before);
    expect(dense).toContain('older rows are stored encoded');
  });

  it('StreamingLLM attends as it does: keys are where the cache has them', async () => {
    const { tokensOf, dense } = await turns(compose(sparse(), streamingllm({ budget })));
    const [before = 0, after] = tokensOf(0);
    expect(before).toBeGreaterThan(0);
    expect(after).toBe(before);
    expect(dense).toContain('keys are used at their place in the cache');
  });
});
