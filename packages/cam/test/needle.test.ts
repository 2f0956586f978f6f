import { compose, loadModel, type Model } from '@accel/core';
import { needlePath } from '@accel/needle';
import { streamingllm } from '@accel/streamingllm';
import { describeDevices } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cam, type CamOptions } from '../src/index.js';

const FILLER =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n';
const NEEDLE = 'One of the special magic numbers for quiet-harbor is: 4815162.\n';
const QUESTION =
  'What is the special magic number for quiet-harbor mentioned in the provided text? ' +
  'The special magic number for quiet-harbor mentioned in the provided text is';

describeDevices('the embedded model', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, { device, dtype: 'float32' });
  });
  afterAll(() => model.dispose());

  it.each<CamOptions>([{}, { statistic: 'decode' }, { gate: 'always' }])(
    'still finds what is in the window after values were folded into it: %j',
    async (options) => {
      const policy = compose(streamingllm({ sink: 4, recent: 380 }), cam(options));
      using sequence = model.sequence({ policy, strict: true });
      const append = (text: string): Promise<unknown> =>
        sequence.append(model.tokenizer.encode(text, { addSpecial: sequence.length === 0 }));
      await append(FILLER.repeat(30) + NEEDLE + FILLER.repeat(4));
      for await (const _ of sequence.generate({ maxTokens: 100, ignoreEos: true }));
      const folded = sequence.receipt().parts.find(({ id }) => id === 'cam')?.acted;
      expect(folded).toBe(99 * model.spec.layers);
      await append(`\n${QUESTION}`);
      let answer = '';
      for await (const { text } of sequence.generate({ maxTokens: 12 })) answer += text;
      expect(answer).toContain('4815162');
    },
  );
});
