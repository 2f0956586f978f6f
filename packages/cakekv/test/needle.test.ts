import { readFileSync } from 'node:fs';
import { compose, loadModel, type Model } from '@accel/core';
import { needlePath } from '@accel/needle';
import { describeDevices, describeShared, sharedPath } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cakekv } from '../src/index.js';
import { cascadeOf, probe } from './probe.js';

interface NeedlePrompt {
  readonly id: string;
  readonly task: string;
  readonly input_ids: readonly number[];
  readonly references: readonly string[];
}

// The model reads a value one digit a token and looks at the next digit only when it gets there, so the pool must be as
// wide as a value.
const OPTIONS = { budget: { keep: 0.25 }, observe: 16, pool: 21 } as const;

describeDevices('the embedded model', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, { device, dtype: 'float32' });
  });
  afterAll(() => model.dispose());

  describeShared('golden/needle', () => {
    const prompts = readFileSync(sharedPath('golden/needle/prompts.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as NeedlePrompt)
      .filter(
        ({ task, input_ids: ids }) => /single_[12]|multikey_1/.test(task) && ids.length <= 2100,
      );

    it.each(prompts)(
      'finds the needle of $id in a quarter of the rows, shared by the arithmetic',
      async ({ input_ids: ids, references }) => {
        using sequence = model.sequence({ policy: compose(...cakekv(OPTIONS)), strict: true });
        await sequence.append(ids);
        const { layers } = sequence.receipt();
        const capacity = Math.floor(ids.length * OPTIONS.budget.keep);
        const window = OPTIONS.observe;
        const want = cascadeOf(await probe(model, ids, { window }), { capacity, window });
        const kept = layers.map(({ rowsKept }) => rowsKept);
        // Else rounding decides.
        expect(want.margin).toBeGreaterThan(1e-3);
        expect(kept).toEqual(want.rows.map((rows) => [rows, rows]));
        const total = kept.reduce((sum, [rows = 0]) => sum + rows, 0);
        expect(total).toBeLessThanOrEqual(model.spec.layers * capacity);
        expect(total).toBeGreaterThan(model.spec.layers * (capacity - 1));

        let text = '';
        for await (const token of sequence.generate({ maxTokens: 48 })) text += token.text;
        for (const reference of references) expect(text).toContain(reference);
      },
    );
  });
});
