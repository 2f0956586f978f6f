// What a policy adds to the time of a prompt.
import { full } from '@accel/core';
import { LLAMA } from './shapes.mjs';
import { median } from './timing.mjs';
import { tokens } from '../tokens.mjs';

/** Prompts that are timed, each beside a plain one. */
const ROUNDS = 7;

/**
 * A prompt under a policy and under none, in turn.
 * @param attentionUs attention of one layer, when what is added should be given as a part of it
 */
export async function promptOverhead(run, group, model, name, policy, length, attentionUs) {
  const prompt = tokens(length, LLAMA.vocab);
  const once = async (own) => {
    const sequence = model.sequence({ policy: own });
    const started = performance.now();
    await sequence.append(prompt);
    const ms = performance.now() - started;
    return { ms, sequence };
  };
  (await once(policy)).sequence.dispose(); // kernels load
  const [plain, own] = [[], []];
  let kept;
  for (let round = 0; round < ROUNDS; round++) {
    const dense = await once(full);
    plain.push(dense.ms);
    dense.sequence.dispose();
    const evicted = await once(policy);
    own.push(evicted.ms);
    kept = evicted.sequence.receipt().layers.flatMap(({ rowsKept }) => rowsKept);
    evicted.sequence.dispose();
  }
  const addedMs = median(own.map((ms, round) => ms - plain[round]));
  run.emit({
    group,
    name,
    length,
    prefillMs: median(own),
    plainMs: median(plain),
    addedMs,
    overhead: addedMs / median(plain),
    // What it adds to a prompt as a part of what all layers' attention takes.
    ...(attentionUs !== undefined && {
      ofAttention: (1000 * addedMs) / (run.layers * attentionUs),
    }),
    rows: kept.reduce((sum, rows) => sum + rows, 0) / kept.length,
  });
}
