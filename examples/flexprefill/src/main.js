// A number hidden in 12K tokens: asked for with dense attention, then with the blocks that FlexPrefill chooses.
import { compose, full, loadModel } from '@accel/core';
import { flexprefill } from '@accel/flexprefill';
import { needlePath } from '@accel/needle';
import { haystack } from './haystack.js';

const model = await loadModel(needlePath);
const prompt = haystack((text) => model.tokenizer.encode(text).length, {
  key: 'quiet-harbor',
  value: '4819205',
  depth: 0.4,
  tokens: 12_000,
});

/** Prefills, answers, and says what was computed. */
async function ask(name, policy) {
  const sequence = model.sequence({ policy, strict: true });
  try {
    await sequence.append(model.tokenizer.encode(prompt, { addSpecial: true }));
    const { prefill, tokens, seconds } = sequence.receipt();
    let answer = '';
    for await (const token of sequence.generate({ maxTokens: 16 })) answer += token.text;
    console.log(`${name}:${answer}`);
    console.log(`  ${tokens.prefill} tokens read in ${seconds.prefill.toFixed(2)} s`);
    if (prefill !== undefined) console.dir(prefill, { depth: 3 });
    return answer;
  } finally {
    sequence.dispose();
  }
}

const answers = [
  await ask('Dense attention', full),
  await ask('FlexPrefill', compose(flexprefill({ gamma: 0.95 }))),
];
model.dispose();

if (answers.some((answer) => !answer.includes('4819205'))) {
  console.log('The needle was not found: something is wrong.');
  process.exitCode = 1;
}
