import { compose, loadModel, type Model } from '@accel/core';
import { needlePath } from '@accel/needle';
import { snapkv } from '@accel/snapkv';
import { describeDevices, describeShared, needlePrompts } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { think } from '../src/index.js';

describeDevices('the embedded model', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, { device, dtype: 'float32' });
  });
  afterAll(() => model.dispose());

  describeShared('golden/needle', () => {
    const prompts = needlePrompts(/single_[12]|multikey_1/, 2100);

    it.each(
      prompts.flatMap((prompt) => [
        { ...prompt, rows: 'all rows', select: undefined },
        {
          ...prompt,
          rows: 'a quarter of the rows',
          select: snapkv({ budget: { keep: 0.25 }, observe: 16, pool: { kind: 'max', size: 21 } }),
        },
      ]),
    )('finds the needle of $id in $rows, without 40 % of the channels', async (given) => {
      const { input_ids: ids, references, select } = given;
      const part = think();
      const policy = select === undefined ? compose(part) : compose(select, part);
      using sequence = model.sequence({ policy, strict: true });
      await sequence.append(ids);
      let text = '';
      for await (const token of sequence.generate({ maxTokens: 48 })) text += token.text;
      for (const reference of references) expect(text).toContain(reference);
    });
  });
});
