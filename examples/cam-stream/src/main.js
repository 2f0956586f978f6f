// 4,000 tokens drawn with 256 rows a head: StreamingLLM and H2O, alone and with CaM. CaM needs no memory of its own, and
// its gates depend on a seed and on positions alone, so a run can be repeated.
import { cam } from '@accel/cam';
import { compose, loadModel } from '@accel/core';
import { h2o } from '@accel/h2o';
import { needlePath } from '@accel/needle';
import { streamingllm } from '@accel/streamingllm';

const CHATTER =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n';
const STEPS = 4000;

const model = await loadModel(needlePath);
const prompt = model.tokenizer.encode(CHATTER.repeat(20), { addSpecial: true });

/** Draws tokens and says what the cache did meanwhile. */
async function stream(name, policy) {
  const sequence = model.sequence({ policy });
  try {
    await sequence.append(prompt);
    const ids = [];
    const bytes = new Set();
    const options = { maxTokens: STEPS, ignoreEos: true, temperature: 0.8, seed: 1 };
    for await (const { id, index } of sequence.generate(options)) {
      ids.push(id);
      if (index % 250 === 249) bytes.add(model.pool.usedBytes);
    }
    const { parts, layers, tokens, seconds } = sequence.receipt();
    const merges = parts.find(({ slot }) => slot === 'merge')?.acted ?? 0;
    const least = Math.min(...bytes) / 1024;
    const most = Math.max(...bytes) / 1024;
    console.log(
      `${name.padEnd(18)} ${layers[0].rowsKept[0]} rows, ${least} to ${most} KiB, ` +
        `${(tokens.decode / seconds.decode).toFixed(0)} tokens/s, ${merges} rows offered for merging`,
    );
    return { ids, merges, least, most };
  } finally {
    sequence.dispose();
  }
}

const window = () => streamingllm({ sink: 1, recent: 255 });
const heavy = () => h2o({ budget: { tokens: 256 } });
const alone = await stream('StreamingLLM', compose(window()));
const merged = await stream('StreamingLLM + CaM', compose(window(), cam()));
await stream('H2O', compose(heavy()));
const mergedHeavy = await stream('H2O + CaM', compose(heavy(), cam()));
const again = await stream('… once more', compose(heavy(), cam()));
model.dispose();

const same = merged.ids.findIndex((id, i) => id !== alone.ids[i]);
console.log(
  `\nCaM changed the stream from token ${same} on; the same seed gave the same ${STEPS} tokens.`,
);
const repeated = mergedHeavy.ids.every((id, i) => id === again.ids[i]);
const steady = [merged, mergedHeavy].every(({ least, most }) => most < 1.1 * least);
if (same < 0 || !repeated || !steady || merged.merges === 0) {
  console.log('That is not what was expected: something is wrong.');
  process.exitCode = 1;
}
