import { readFileSync } from 'node:fs';
import { compose, full, loadModel, type Model, type Policy } from '@accel/core';
import { needlePath } from '@accel/needle';
import { describeDevices, describeShared, sharedPath } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { snapkv } from '../src/index.js';

interface NeedlePrompt {
  readonly id: string;
  readonly task: string;
  readonly input_ids: readonly number[];
  readonly references: readonly string[];
}

describeDevices('the embedded model', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, { device, dtype: 'float32' });
  });
  afterAll(() => model.dispose());

  const usedAfter = async (tokens: Int32Array, policy: Policy): Promise<number> => {
    using sequence = model.sequence({ policy });
    await sequence.append(tokens);
    const used = model.pool.usedBytes;
    const { measuredBytes, arithmeticBytes } = sequence.receipt().kv;
    expect(used).toBe(measuredBytes);
    expect(Math.abs(measuredBytes - arithmeticBytes) / arithmeticBytes).toBeLessThanOrEqual(0.05);
    return used;
  };

  it('gives 14 of 15 pages back when 512 of 8192 rows stay', { timeout: 300_000 }, async () => {
    const text = 'The grass is green. The sky is blue. The sun is yellow. Here we go. ';
    const ids = model.tokenizer.encode(text.repeat(700)).slice(0, 8192);
    expect(ids).toHaveLength(8192);
    const all = await usedAfter(ids, full);
    const kept = await usedAfter(ids, compose(snapkv({ budget: { tokens: 512 } })));
    expect(all / kept).toBeGreaterThanOrEqual(14);
    expect(model.pool.usedBytes).toBe(0);
  });

  describeShared('golden/needle', () => {
    const prompts = readFileSync(sharedPath('golden/needle/prompts.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as NeedlePrompt)
      .filter(
        ({ task, input_ids: ids }) => /single_[12]|multikey_1/.test(task) && ids.length <= 2100,
      );

    // The model reads a value one digit a token and looks at the next digit only when it gets there, so the pool must
    // be as wide as a value.
    it.each(prompts)(
      'finds the needle of $id in a quarter of the rows',
      async ({ input_ids: ids, references }) => {
        const part = snapkv({
          budget: { keep: 0.25 },
          observe: 16,
          pool: { kind: 'max', size: 21 },
        });
        using sequence = model.sequence({ policy: compose(part), strict: true });
        await sequence.append(ids);
        let text = '';
        for await (const token of sequence.generate({ maxTokens: 48 })) text += token.text;
        for (const reference of references) expect(text).toContain(reference);
        expect(sequence.receipt().parts[0]?.acted).toBe(model.spec.layers);
      },
    );
  });
});
