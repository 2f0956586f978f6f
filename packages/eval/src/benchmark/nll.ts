import { createHash } from 'node:crypto';
import type { NllConfig } from '../config/types.js';
import { argumentError } from '../errors.js';
import { readNllText } from '../nll/text.js';
import { windowsOf } from '../nll/windows.js';
import type { Benchmark, EvalTask } from './types.js';

/**
 * The likelihood of a text: of a window's last tokens, given the cache that a method made of the tokens before. A task
 * for each length of the window.
 *
 * @throws AccelError ERR_ACCEL_FILE when the text cannot be read
 */
export async function openNll(config: NllConfig): Promise<Benchmark> {
  const text = await readNllText(config.textPath);
  const { targetTokens, seed } = config;
  return {
    name: 'NLL',
    tasks: config.lengths.map(nllTask),
    fingerprint: createHash('sha256')
      .update(JSON.stringify([targetTokens, seed]))
      .update(text)
      .digest('hex')
      .slice(0, 16),
    samples: (task, meter) =>
      windowsOf(text, { task: task.id, length: task.length ?? 0, targetTokens, seed }, meter),
    score() {
      throw argumentError('A text has no answer to score: its score is the mean NLL of a token.');
    },
  };
}

function nllTask(length: number): EvalTask {
  return {
    id: `nll_${length}`,
    name: 'nll',
    length,
    maxNewTokens: 0,
    metric: { name: 'nll', better: 'lower', unit: 'nats' },
  };
}
