import { AccelError, type Tensor } from '@accel/kernels';
import { checkTokens, occupyAll, throwIfAborted, type AppendItem } from './append.js';
import { feed, orFail, room } from './decode.js';
import { noTokens, type Sequence } from './sequence.js';

/** Options of {@link Sequence.score} and {@link scoreBatch}. */
export interface ScoreOptions {
  /** Ends the scoring with `ERR_ACCEL_ABORTED` before the next token. */
  signal?: AbortSignal;
}

/**
 * How likely a model finds given tokens, one after another, on the caches as they are: teacher forcing. The tokens go
 * through the model one a step, exactly as if it had drawn them, so that methods which act while decoding act here too.
 * Sequences of one model are packed; lengths and policies may differ.
 *
 * @returns for each item the natural logarithms of its tokens' probabilities, at most 0
 * @throws AccelError `ERR_ACCEL_ARGUMENT`, `ERR_ACCEL_BATCH`, `ERR_ACCEL_PROMPT_TOO_LONG`, `ERR_ACCEL_ABORTED`
 */
export async function scoreBatch(
  items: readonly AppendItem[],
  options: ScoreOptions = {},
): Promise<Float64Array[]> {
  const model = items[0]?.sequence.model;
  if (model === undefined) return [];
  const runs = items.map(({ sequence, tokens }) => {
    if (sequence.model !== model) {
      throw new AccelError(
        'ERR_ACCEL_BATCH',
        'The sequences of a batch belong to different models. Make one batch for each model.',
      );
    }
    return { sequence, tokens, scores: prepare(sequence, tokens) };
  });
  const release = occupyAll(items, 'score');
  try {
    await feed(
      model,
      runs.map(sequenceOf).filter(({ pending }) => pending !== undefined),
    );
    let active = runs;
    for (let step = 0; active.length > 0; step++) {
      throwIfAborted(options.signal);
      const started = performance.now();
      const sequences = active.map(sequenceOf);
      const logits = await orFail(readLogits(sequences), sequences);
      const seconds = (performance.now() - started) / 1000;
      for (const [i, { sequence, tokens, scores }] of active.entries()) {
        const token = tokens[step] as number;
        scores[step] = logProbability(logits[i] as Float32Array, token);
        sequence.pending = token;
        sequence.counters.decodeSeconds += seconds / active.length;
      }
      // The last token stays with its sequence, as the last one that a generation draws.
      active = active.filter(({ tokens }) => step + 1 < tokens.length);
      await feed(model, active.map(sequenceOf));
    }
    return runs.map(({ scores }) => scores);
  } finally {
    release();
  }
}

const sequenceOf = ({ sequence }: AppendItem): Sequence => sequence;

function prepare(sequence: Sequence, tokens: ArrayLike<number>): Float64Array {
  sequence.assertIdle('score');
  if (sequence.length === 0) throw noTokens('score');
  checkTokens(tokens, sequence.model.spec.vocabSize, 'score');
  if (room(sequence, tokens.length) < tokens.length) {
    throw new AccelError(
      'ERR_ACCEL_PROMPT_TOO_LONG',
      `${String(tokens.length)} tokens after ${String(sequence.length)} do not fit the ${String(sequence.model.spec.contextLength)} positions of ${sequence.model.spec.name}. Score fewer tokens or use a shorter prompt.`,
    );
  }
  return new Float64Array(tokens.length);
}

/** Logits after the newest token of each sequence, read together. */
async function readLogits(sequences: readonly Sequence[]): Promise<Float32Array[]> {
  return Promise.all(
    sequences.map(async ({ lastLogits, model }) => {
      const all = lastLogits as Tensor;
      const values = (await all.read(model.stream)) as Float32Array;
      return values.subarray(values.length - model.spec.vocabSize);
    }),
  );
}

/** `log softmax(logits)[token]`, summed in float64 with the largest logit taken out. */
function logProbability(logits: Float32Array, token: number): number {
  let most = -Infinity;
  for (const logit of logits) if (logit > most) most = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  return (logits[token] as number) - most - Math.log(sum);
}
