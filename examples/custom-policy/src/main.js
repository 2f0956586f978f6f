// A method of one's own at work, and what happens when parts do not go together.
import { AccelError, compose, loadModel } from '@accel/core';
import { needlePath } from '@accel/needle';
import { snapkv } from '@accel/snapkv';
import { stride } from './stride.js';

const NOISE =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n';
const PROMPT =
  'A special magic number is hidden within the following text. Make sure to memorize it. ' +
  `I will quiz you about the number afterwards.\n${NOISE.repeat(30)}` +
  `One of the special magic numbers for quiet-harbor is: 4819205.\n${NOISE.repeat(30)}` +
  'What is the special magic number for quiet-harbor mentioned in the provided text? ' +
  'The special magic number for quiet-harbor mentioned in the provided text is';

const model = await loadModel(needlePath);
const tokens = model.tokenizer.encode(PROMPT, { addSpecial: true });
// SnapKV spreads votes over 15 neighbours here because every digit is a token of its own in this model's vocabulary.
const published = snapkv({ budget: { tokens: 256 }, pool: { kind: 'max', size: 15 } });
for (const part of [stride({ every: 1 }), stride({ every: 8 }), published]) {
  const sequence = model.sequence({ policy: compose(part) });
  await sequence.append(tokens);
  const { kv, layers } = sequence.receipt();
  let answer = '';
  for await (const token of sequence.generate({ maxTokens: 12, stop: ['.'] })) answer += token.text;
  const options = JSON.stringify(part.options);
  console.log(`${part.id} ${options}`);
  console.log(
    `  ${layers[0].rowsKept[0]} of ${tokens.length} rows, ${Math.round(kv.measuredBytes / 1024)} KiB, answer:${answer}\n`,
  );
  sequence.dispose();
}
model.dispose();

// In TypeScript this line does not compile; in JavaScript it is refused when it runs, with the same reason.
try {
  compose(stride(), snapkv());
  console.log('Two selections were accepted: something is wrong.');
  process.exitCode = 1;
} catch (error) {
  if (!AccelError.isInstance(error)) throw error;
  console.log(`${error.code}: ${error.message}`);
}
