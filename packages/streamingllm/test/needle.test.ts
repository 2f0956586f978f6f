import { compose, loadModel, type Model } from '@accel/core';
import { needlePath } from '@accel/needle';
import { describeDevices } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { streamingllm, type StreamingllmOptions } from '../src/index.js';

const FILLER =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n';
const NEEDLE = 'One of the special magic numbers for quiet-harbor is: 4815162.\n';
const QUESTION =
  'What is the special magic number for quiet-harbor mentioned in the provided text? ' +
  'The special magic number for quiet-harbor mentioned in the provided text is';

/** A prompt with the needle after `before` lines and before `after` lines. */
function prompt(before: number, after: number): string {
  const task =
    'A special magic number is hidden within the following text. Make sure to memorize it. ' +
    'I will quiz you about the number afterwards.\n';
  return task + FILLER.repeat(before) + NEEDLE + FILLER.repeat(after) + QUESTION;
}

describeDevices('the embedded model', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, { device, dtype: 'float32' });
  });
  afterAll(() => model.dispose());

  const answer = async (text: string, options: StreamingllmOptions): Promise<string> => {
    using sequence = model.sequence({ policy: compose(streamingllm(options)), strict: true });
    await sequence.append(model.tokenizer.encode(text, { addSpecial: true }));
    let out = '';
    for await (const token of sequence.generate({ maxTokens: 16 })) out += token.text;
    return out;
  };

  it.each([
    { positions: 'cacheRelative', prefill: 'dense' },
    { positions: 'cacheRelative', prefill: 'banded' },
    { positions: 'original', prefill: 'dense' },
    { positions: 'original', prefill: 'banded' },
  ] as const)(
    'finds what is in the window and forgets what has left it: positions $positions, prefill $prefill',
    async (form) => {
      const options = { sink: 4, recent: 508, ...form };
      expect(await answer(prompt(60, 8), options)).toContain('4815162');
      expect(await answer(prompt(8, 60), options)).not.toContain('4815162');
    },
  );
});
