import { compose, loadModel, type Model } from '@accel/core';
import { needlePath } from '@accel/needle';
import { describeDevices, describeShared, needlePrompts } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { kivi } from '../src/index.js';

describeDevices('the embedded model', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, { device, dtype: 'float32' });
  });
  afterAll(() => model.dispose());

  describeShared('golden/needle', () => {
    const prompts = needlePrompts(/single_[12]|multikey_1/, 2100);

    it.each(prompts)('finds the needle of $id in a cache of 4 bits', async (given) => {
      const { input_ids: ids, references } = given;
      using sequence = model.sequence({ policy: compose(kivi()), strict: true });
      await sequence.append(ids);
      let text = '';
      for await (const token of sequence.generate({ maxTokens: 48 })) text += token.text;
      for (const reference of references) expect(text).toContain(reference);
    });
  });
});
