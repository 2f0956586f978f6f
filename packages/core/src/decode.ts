import { AccelError, ops, Tensor } from '@accel/kernels';
import { Batch } from './engine/batch.js';
import { forwardPass, passInputs } from './engine/forward.js';
import type { Model } from './model.js';
import type { Sequence } from './sequence.js';

/** @internal How many tokens, up to `most`, can be drawn before the model's window is full. */
export function room(sequence: Sequence, most: number): number {
  const { state, model } = sequence;
  const { selector, seen } = state;
  const window = model.spec.contextLength;
  const rows = state.kv.rows(0, 0);
  const waiting = sequence.length - seen;
  const fits = (drawn: number): boolean => {
    // The last token drawn does not go through the model, so it needs no position.
    const tokens = waiting + drawn - 1;
    return (selector?.span?.({ phase: 'decode', rows, tokens, seen }) ?? seen + tokens) <= window;
  };
  if (!fits(1)) {
    throw new AccelError(
      'ERR_ACCEL_PROMPT_TOO_LONG',
      `The sequence already fills the ${String(window)} positions of ${model.spec.name}. Start a new sequence with a shorter prompt.`,
    );
  }
  if (fits(most)) return most;
  let [good, bad] = [1, most];
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2);
    if (fits(middle)) good = middle;
    else bad = middle;
  }
  return good;
}

/**
 * @internal Feeds the newest token of each sequence; only enqueues, the device works on while the caller goes on.
 * @param drawn the tokens, when they are on the device only
 */
export async function feed(
  model: Model,
  sequences: readonly Sequence[],
  drawn?: Tensor,
): Promise<void> {
  if (sequences.length === 0) return;
  const { runtime } = model;
  await runtime.lock.run(() => {
    const items = sequences.map((sequence) => ({
      state: sequence.state,
      tokens: Int32Array.of(sequence.pending ?? 0),
      logits: 1,
    }));
    using logits = enqueue(new Batch(runtime, items, 'decode', drawn), sequences);
    for (const [i, sequence] of sequences.entries()) {
      const own = Tensor.empty(runtime.device, 'float32', [1, runtime.spec.vocabSize]);
      ops.gatherRows(runtime.stream, own, logits, Int32Array.of(i));
      sequence.pending = undefined;
      sequence.counters.decodeTokens += 1;
      sequence.setLogits(own);
    }
  });
}

/**
 * Enqueues a whole decode step, as a graph where the device has graphs. If that fails half-way (out of pages, say),
 * the caches are uneven: give up on them.
 */
function enqueue(batch: Batch, sequences: readonly Sequence[]): Tensor {
  try {
    const pass = forwardPass(batch, passInputs(batch));
    let next = pass.next();
    batch.runtime.stream.graph(() => {
      while (next.done !== true) next = pass.next();
    });
    return next.value as Tensor;
  } catch (error) {
    for (const sequence of sequences) sequence.fail(error);
    throw error;
  }
}

/** @internal Waits; if that fails, the sequences are given up. */
export async function orFail<T>(reading: Promise<T>, sequences: readonly Sequence[]): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    for (const sequence of sequences) sequence.fail(error);
    throw error;
  }
}
