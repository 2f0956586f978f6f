// One measurement of @accel/core; prints one JSON line.
import { loadModel } from '@accel/core';
import { DECODE_TOKENS, tokens } from './tokens.mjs';

const [, , , , lengths, path, dtype] = process.argv;
const model = await loadModel(path, { dtype });
const result = { prefillSeconds: {}, decodeTokensPerSecond: {} };
const warm = model.sequence();
await warm.append(tokens(256, model.spec.vocabSize));
warm.dispose();
for (const length of lengths.split(',').map(Number)) {
  const sequence = model.sequence();
  const started = performance.now();
  await sequence.append(tokens(length, model.spec.vocabSize));
  const filled = performance.now();
  let count = 0;
  for await (const _ of sequence.generate({ maxTokens: DECODE_TOKENS + 1, ignoreEos: true }))
    count++;
  const done = performance.now();
  result.prefillSeconds[length] = (filled - started) / 1000;
  result.decodeTokensPerSecond[length] = (count - 1) / ((done - filled) / 1000);
  sequence.dispose();
}
console.log(JSON.stringify(result));
process.exit(0);
