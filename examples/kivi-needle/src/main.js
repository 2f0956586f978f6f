// Two numbers hidden in 4K tokens. The prompt ends with a question about the first; the other one is asked for in a second
// turn, over a cache that is packed by then.
import { compose, full, loadModel } from '@accel/core';
import { kivi } from '@accel/kivi';
import { needlePath } from '@accel/needle';
import { haystack, question } from './haystack.js';

const FIRST = { key: 'quiet-harbor', value: '4819205', depth: 0.3 };
const SECOND = { key: 'silent-meadow', value: '7305518', depth: 0.7 };
const model = await loadModel(needlePath);
const text = haystack([FIRST, SECOND], 150);

/** Reads the text, answers both questions, and says what the cache took. */
async function ask(name, policy) {
  const sequence = model.sequence({ policy, strict: true });
  const answer = async (words) => {
    await sequence.append(model.tokenizer.encode(words, { addSpecial: sequence.length === 0 }));
    let said = '';
    for await (const token of sequence.generate({ maxTokens: 12, stop: ['.', '\n'] }))
      said += token.text;
    return said.trim();
  };
  try {
    const first = await answer(text + question(FIRST));
    const { kv } = sequence.receipt();
    const second = await answer(`.\n${question(SECOND)}`);
    const share = kv.measuredBytes / kv.fullBytes;
    console.log(`${name}: ${first}, then ${second}`);
    console.log(
      `  cache ${(kv.measuredBytes / 2 ** 20).toFixed(2)} MiB, ${(100 * share).toFixed(1)} % of the full one\n`,
    );
    return { first: first === FIRST.value, second: second === SECOND.value, share };
  } finally {
    sequence.dispose();
  }
}

const whole = await ask('Full cache', full);
const eight = await ask('KIVI, 8 bits', compose(kivi({ bits: 8 })));
const four = await ask('KIVI, 4 bits', compose(kivi({ bits: 4 })));
const two = await ask('KIVI, 2 bits', compose(kivi({ bits: 2 })));
model.dispose();

const all = [whole, eight, four, two];
if (!all.every(({ first, second }) => first && second) || four.share > 0.34 || two.share > 0.22) {
  console.log('That is not what was expected: something is wrong.');
  process.exitCode = 1;
}
