// One measurement of llama.cpp through node-llama-cpp; prints one JSON line. Flash attention on and off are both
// tried and the faster one counts.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { DECODE_TOKENS, tokens } from './tokens.mjs';

const [, , peerDir, threads, lengths, modelPath] = process.argv;
const entry = createRequire(join(peerDir, 'package.json')).resolve('node-llama-cpp');
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href);
const llama = await getLlama({
  gpu: false,
  build: 'never',
  skipDownload: true,
  logLevel: LlamaLogLevel.error,
  maxThreads: Number(threads),
});
const model = await llama.loadModel({ modelPath });
const result = { prefillSeconds: {}, decodeTokensPerSecond: {} };
for (const flashAttention of [false, true]) {
  const context = await model.createContext({
    contextSize: 16384,
    threads: Number(threads),
    batchSize: 512,
    flashAttention,
  });
  const sequence = context.getSequence();
  await sequence.evaluateWithoutGeneratingNewTokens(tokens(256, 4096));
  for (const length of lengths.split(',').map(Number)) {
    await sequence.clearHistory();
    const started = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens(length, 4096));
    const filled = performance.now();
    let count = 0;
    // Sampling at a tiny temperature never yields an end token early often enough to matter; ends are skipped.
    for await (const _ of sequence.evaluate([7], { temperature: 0, yieldEogToken: true }))
      if (++count >= DECODE_TOKENS) break;
    const done = performance.now();
    const prefill = (filled - started) / 1000;
    const decode = count / ((done - filled) / 1000);
    result.prefillSeconds[length] = Math.min(result.prefillSeconds[length] ?? Infinity, prefill);
    result.decodeTokensPerSecond[length] = Math.max(
      result.decodeTokensPerSecond[length] ?? 0,
      decode,
    );
  }
  await context.dispose();
}
console.log(JSON.stringify(result));
process.exit(0);
