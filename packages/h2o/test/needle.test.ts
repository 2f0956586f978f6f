import { compose, loadModel, type Model, type Policy } from '@accel/core';
import { needlePath } from '@accel/needle';
import { describeDevices } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { h2o } from '../src/index.js';

const FILLER =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n';
const ROWS = 512;

function hidden(place: string, number: string): string {
  return `One of the special magic numbers for ${place} is: ${number}.\n`;
}

function question(place: string): string {
  return (
    `What is the special magic number for ${place} mentioned in the provided text? ` +
    `The special magic number for ${place} mentioned in the provided text is`
  );
}

describeDevices('the embedded model', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, { device, dtype: 'float32' });
  });
  afterAll(() => model.dispose());

  /** Asks for a number, tells three cache fillings of something else, and asks again, then for one never asked for. */
  const remembered = async (policy: Policy): Promise<string[]> => {
    using sequence = model.sequence({ policy, strict: true });
    const append = (text: string): Promise<unknown> =>
      sequence.append(model.tokenizer.encode(text, { addSpecial: sequence.length === 0 }));
    const ask = async (place: string): Promise<string> => {
      await append(question(place));
      let answer = '';
      for await (const { text } of sequence.generate({ maxTokens: 12, stop: ['.', '\n'] }))
        answer += text;
      await append('.\n');
      return answer.trim();
    };
    const needles = hidden('quiet-harbor', '4819205') + hidden('silent-meadow', '7305518');
    await append(FILLER.repeat(6) + needles + FILLER.repeat(4));
    for (let i = 0; i < 4; i++) expect(await ask('quiet-harbor')).toBe('4819205');
    for (let i = 0; i < 6; i++) await append(FILLER.repeat(10));
    expect(sequence.view().rows(0, 0)).toBe(Math.min(ROWS, sequence.length));
    return [await ask('quiet-harbor'), await ask('silent-meadow')];
  };

  it('remembers what was asked for, and not what never was', { timeout: 120_000 }, async () => {
    const [asked, ignored] = await remembered(compose(h2o({ budget: { tokens: ROWS } })));
    expect(asked).toBe('4819205');
    expect(ignored).not.toBe('7305518');
    // As many rows without heavy hitters.
    const recent = compose(h2o({ budget: { tokens: ROWS }, recent: ROWS }));
    expect((await remembered(recent))[0]).not.toBe('4819205');
  });
});
