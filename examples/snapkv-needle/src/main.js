// A number hidden in 4K tokens: asked for with the whole cache, then with 256 rows of it.
import { compose, full, loadModel } from '@accel/core';
import { needlePath } from '@accel/needle';
import { snapkv } from '@accel/snapkv';
import { haystack } from './haystack.js';

const model = await loadModel(needlePath);
const prompt = haystack((text) => model.tokenizer.encode(text).length, {
  key: 'quiet-harbor',
  value: '4819205',
  depth: 0.4,
  tokens: 4000,
});

/** Prefills, answers, and says what the cache held. */
async function ask(name, policy) {
  const sequence = model.sequence({ policy, strict: true });
  try {
    await sequence.append(model.tokenizer.encode(prompt, { addSpecial: true }));
    // Taken before decoding, so it shows what is left of the prompt.
    const { kv, layers, tokens, seconds } = sequence.receipt();
    let answer = '';
    for await (const token of sequence.generate({ maxTokens: 16 })) answer += token.text;
    const rows = layers.map(({ rowsKept }) => rowsKept.join('+')).join(' ');
    console.log(`${name}:${answer}`);
    console.log(`  ${tokens.prefill} tokens read in ${seconds.prefill.toFixed(2)} s`);
    console.log(`  rows of each layer's two heads: ${rows}`);
    console.log(
      `  cache ${(kv.measuredBytes / 2 ** 20).toFixed(2)} MiB measured, ` +
        `${(kv.arithmeticBytes / 2 ** 20).toFixed(2)} by arithmetic\n`,
    );
    return { answer, bytes: kv.measuredBytes };
  } finally {
    sequence.dispose();
  }
}

const before = await ask('Full cache', full);
// Votes are spread over 15 neighbours: in this model's vocabulary every digit is a token of its own, and the last
// queries of the prompt look at the first digit only. With the usual 5 or 7 the number's end would be evicted.
const part = snapkv({ budget: { tokens: 256 }, pool: { kind: 'max', size: 15 } });
const after = await ask('SnapKV, 256 rows', compose(part));
model.dispose();

console.log(`The cache is ${(before.bytes / after.bytes).toFixed(1)} times smaller.`);
if (!before.answer.includes('4819205') || !after.answer.includes('4819205')) {
  console.log('The needle was not found: something is wrong.');
  process.exitCode = 1;
}
