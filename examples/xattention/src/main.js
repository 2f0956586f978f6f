// A number hidden in 12K tokens: read with all of the prompt's attention, then with the blocks that XAttention chooses.
import { compose, full, loadModel } from '@accel/core';
import { needlePath } from '@accel/needle';
import { xattention } from '@accel/xattention';
import { haystack } from './haystack.js';

const model = await loadModel(needlePath);
const prompt = haystack((text) => model.tokenizer.encode(text).length, {
  key: 'quiet-harbor',
  value: '4819205',
  depth: 0.4,
  tokens: 12000,
});
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const mean = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;

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
    for (const [layer, { sparseTokens, density, figures }] of (prefill?.layers ?? []).entries()) {
      // Of the last layer only the last token is wanted: there is nothing to choose.
      if (sparseTokens === 0) continue;
      console.log(
        `  layer ${layer}: ${percent(mean(density))} of the blocks, ` +
          `${percent(mean(figures.recall))} of the attention by its own estimate`,
      );
    }
    console.log();
    return { answer, density: (prefill?.layers ?? []).flatMap((layer) => layer.density) };
  } finally {
    sequence.dispose();
  }
}

const before = await ask('Dense', full);
const after = await ask('XAttention', compose(xattention({ stride: 8, threshold: 0.9 })));
model.dispose();

if (!before.answer.includes('4819205') || !after.answer.includes('4819205')) {
  console.log('The needle was not found: something is wrong.');
  process.exitCode = 1;
}
if (!(mean(after.density) < 1)) {
  console.log('All blocks were computed: something is wrong.');
  process.exitCode = 1;
}
