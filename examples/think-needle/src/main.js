// A number hidden in 4K tokens: asked for with the whole cache, with ThinK's thinner keys, and both with SnapKV's rows.
import { compose, full, loadModel } from '@accel/core';
import { needlePath } from '@accel/needle';
import { snapkv } from '@accel/snapkv';
import { think } from '@accel/think';
import { haystack } from './haystack.js';

const VALUE = '4819205';
const model = await loadModel(needlePath);
const prompt = haystack((text) => model.tokenizer.encode(text).length, {
  key: 'quiet-harbor',
  value: VALUE,
  depth: 0.4,
  tokens: 4000,
});
const ids = model.tokenizer.encode(prompt, { addSpecial: true });

/** Prefills, answers, and says what the cache took. */
async function ask(name, policy) {
  const sequence = model.sequence({ policy, strict: true });
  try {
    await sequence.append(ids);
    // Taken before decoding, so it shows what is left of the prompt.
    const { kv, layers } = sequence.receipt();
    const [{ rowsKept, encodedKeys = [0] }] = layers;
    let answer = '';
    for await (const token of sequence.generate({ maxTokens: 16 })) answer += token.text;
    const share = kv.measuredBytes / kv.fullBytes;
    console.log(`${name}:${answer}`);
    console.log(`  ${rowsKept[0]} rows a head, the keys of ${encodedKeys[0]} of them thinner`);
    console.log(
      `  cache ${(kv.measuredBytes / 2 ** 20).toFixed(2)} MiB, ${(100 * share).toFixed(1)} % of the full one\n`,
    );
    return { found: answer.includes(VALUE), share };
  } finally {
    sequence.dispose();
  }
}

// The pool is wide because every digit is a token of this model and only the first one is looked at by the last queries.
const votes = snapkv({ budget: { tokens: 512 }, pool: { kind: 'max', size: 15 } });
const thinner = think({ ratio: 0.4 });
const whole = await ask('Full cache', full);
const thin = await ask('ThinK', compose(thinner));
const few = await ask('SnapKV, 512 rows', compose(votes));
const both = await ask('SnapKV and ThinK', compose(votes, thinner));
model.dispose();

const all = [whole, thin, few, both];
if (!all.every(({ found }) => found) || thin.share > 0.82 || both.share > 0.85 * few.share) {
  console.log('That is not what was expected: something is wrong.');
  process.exitCode = 1;
}
