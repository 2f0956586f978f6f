// A number hidden in 4K tokens: asked for with the whole cache, with 256 rows a layer, and with a pyramid of as many.
import { compose, full, loadModel } from '@accel/core';
import { needlePath } from '@accel/needle';
import { pyramidkv, pyramidPlan } from '@accel/pyramidkv';
import { snapkv } from '@accel/snapkv';
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

/** Prefills, answers, and says what the cache held. */
async function ask(name, policy) {
  const sequence = model.sequence({ policy, strict: true });
  try {
    await sequence.append(ids);
    // Taken before decoding, so it shows what is left of the prompt.
    const { kv, layers } = sequence.receipt();
    const rows = layers.map(({ rowsKept }) => rowsKept[0]);
    let answer = '';
    for await (const token of sequence.generate({ maxTokens: 16 })) answer += token.text;
    console.log(`${name}:${answer}`);
    console.log(
      `  rows of each layer: ${rows.join(' ')}, ${rows.reduce((a, b) => a + b, 0)} in all`,
    );
    console.log(`  cache ${(kv.measuredBytes / 2 ** 20).toFixed(2)} MiB\n`);
    return { found: answer.includes(VALUE), rows };
  } finally {
    sequence.dispose();
  }
}

const budget = { tokens: 256 };
const window = 32;
// The pool is wide because every digit is a token of this model and only the first one is looked at by the last queries.
const votes = snapkv({ budget, observe: window, pool: { kind: 'max', size: 15 } });
const whole = await ask('Full cache', full);
const level = await ask('SnapKV, 256 rows', compose(votes));
const pyramid = await ask('SnapKV + PyramidKV, 256 rows on average', compose(votes, pyramidkv()));

const plan = pyramidPlan(model.spec, { budget, window, rows: ids.length });
console.log('The allocation as a document, which says how it came about:');
console.log(
  `  ${plan.provenance}; ${plan.total} rows over ${plan.layers} layers of ${plan.kvHeads} heads`,
);
model.dispose();

const agrees = plan.values.every(([rows], layer) => rows === pyramid.rows[layer]);
if (!agrees || !whole.found || !level.found || !pyramid.found) {
  console.log(
    'The needle was not found, or the cache is not what the plan says: something is wrong.',
  );
  process.exitCode = 1;
}
