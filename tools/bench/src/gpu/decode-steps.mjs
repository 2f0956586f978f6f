// Decode steps as a program sees them: tokens drawn through the public iterator, a step replayed as a graph.
import { generateBatch } from '@accel/core';
import { LLAMA } from './shapes.mjs';
import { tokens } from '../tokens.mjs';

export const DECODE_STEPS = 64;
/** Steps before the clock starts: kernels load, the step is recorded as a graph. */
const WARM_STEPS = 8;

/** A prompt and some steps, so that kernels are loaded and products tuned. */
export async function warmUp(model) {
  const sequence = model.sequence();
  await sequence.append(tokens(4096, LLAMA.vocab));
  await steps([sequence], 24);
  sequence.dispose();
}

/** Milliseconds of decode steps after the first few, and kernels of one of them. */
export async function steps(sequences, count) {
  const { stream } = sequences[0].model;
  let seen = 0;
  let started;
  let before;
  for await (const event of generateBatch(sequences, {
    maxTokens: WARM_STEPS + count,
    ignoreEos: true,
  })) {
    if (event.sequence !== sequences.length - 1) continue;
    seen += 1;
    if (seen !== WARM_STEPS) continue;
    started = performance.now();
    before = stream.kernels();
  }
  const elapsed = performance.now() - started;
  const after = stream.kernels();
  const kernels = Object.fromEntries(
    Object.keys(after)
      .map((name) => [name, (after[name] - (before[name] ?? 0)) / count])
      .filter(([, runs]) => runs > 0)
      .map(([name, runs]) => [name, Number(runs.toFixed(2))]),
  );
  return { ms: elapsed / count, kernels };
}
