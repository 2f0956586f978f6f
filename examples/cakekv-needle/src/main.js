// A number hidden in 4K tokens: asked for with the whole cache, then with a quarter of it, shared out to the layers.
import { cakeBudget, cakekv } from '@accel/cakekv';
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
    const rows = layers.map(({ rowsKept }) => rowsKept[0]);
    console.log(`${name}:${answer}`);
    console.log(`  ${tokens.prefill} tokens read in ${seconds.prefill.toFixed(2)} s`);
    console.log(
      `  rows of each layer: ${rows.join(' ')}, on average ${Math.round(rows.reduce((a, b) => a + b, 0) / rows.length)}`,
    );
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
// In this model's vocabulary every digit is a token of its own, and the last queries of the prompt look at the first digit
// only. Averaged over the usual 5 neighbours, the number's end would be evicted; 21 are as wide as the number.
const options = { budget: { tokens: 1000 }, observe: 16 };
const cake = await ask('CakeKV, 1000 rows a layer', compose(...cakekv({ ...options, pool: 21 })));
// The shares go with the rows of other selectors, too.
const snap = snapkv({ ...options, pool: { kind: 'max', size: 21 } });
const both = await ask('SnapKV with CakeKV’s shares', compose(snap, cakeBudget({ observe: 16 })));
model.dispose();

console.log(`The cache is ${(before.bytes / cake.bytes).toFixed(1)} times smaller.`);
if (![before, cake, both].every(({ answer }) => answer.includes('4819205'))) {
  console.log('The needle was not found: something is wrong.');
  process.exitCode = 1;
}
