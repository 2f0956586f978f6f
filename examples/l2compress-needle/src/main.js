// A number hidden in 4K tokens: asked for with the whole cache, and with rows chosen by the norms of their keys.
import { compose, full, loadModel } from '@accel/core';
import { l2compress } from '@accel/l2compress';
import { needlePath } from '@accel/needle';
import { haystack } from './haystack.js';

const VALUE = '4819205';
const model = await loadModel(needlePath);
const prompt = haystack((text) => model.tokenizer.encode(text).length, {
  key: 'quiet-harbor',
  value: VALUE,
  depth: 0.4,
  tokens: 4000,
});

/** Prefills, answers, and says what the cache held. */
async function ask(name, policy) {
  const sequence = model.sequence({ policy, strict: true });
  try {
    await sequence.append(model.tokenizer.encode(prompt, { addSpecial: true }));
    // Taken before decoding, so it shows what is left of the prompt.
    const { kv, layers } = sequence.receipt();
    let answer = '';
    for await (const token of sequence.generate({ maxTokens: 16 })) answer += token.text;
    console.log(`${name}:${answer}`);
    console.log(`  rows of each layer: ${layers.map(({ rowsKept }) => rowsKept[0]).join(' ')}`);
    console.log(`  cache ${(kv.measuredBytes / 2 ** 20).toFixed(2)} MiB\n`);
    return { found: answer.includes(VALUE), bytes: kv.measuredBytes };
  } finally {
    sequence.dispose();
  }
}

const before = await ask('Full cache', full);
// Norms say nothing about the layers in which this model looks things up; a layer found out by leaving each out in turn.
// The authors do the same for Llama 2: their needle scripts skip layer 12.
const spared = l2compress({ budget: { keep: 0.5 }, skipLayers: [0, 1, 3, 4] });
const after = await ask(
  'L2Compress, half of the rows, layers 0, 1, 3 and 4 spared',
  compose(spared),
);
const plain = l2compress({ budget: { keep: 0.5 } });
await ask('L2Compress, half of the rows, layers 0 and 1 spared', compose(plain));
model.dispose();

console.log(`The second cache is ${(before.bytes / after.bytes).toFixed(2)} times smaller.`);
if (!before.found || !after.found) {
  console.log('The needle was not found: something is wrong.');
  process.exitCode = 1;
}
