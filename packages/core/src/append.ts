import { AccelError, type Tensor } from '@accel/kernels';
import { Batch, type BatchItem } from './engine/batch.js';
import { settleBlocks } from './engine/block-attention.js';
import { endPrompt, settleLayer } from './engine/end-layer.js';
import { forwardPass, passInputs } from './engine/forward.js';
import type { SequenceState } from './engine/state.js';
import type { Model } from './model.js';
import { assertStrict } from './receipt/strict.js';
import type { Sequence } from './sequence.js';

/** Options of {@link Sequence.append} and {@link appendBatch}. */
export interface AppendOptions {
  /** Keep the logits of the last n positions for {@link Sequence.logits}. Default 1. */
  logits?: number;
  /** Stops between layers; the sequences are then as before. */
  signal?: AbortSignal;
  /** Called after each layer. */
  onProgress?: (progress: { layer: number; layers: number; tokens: number }) => void;
}

/** New tokens for one sequence of a batch. */
export interface AppendItem {
  readonly sequence: Sequence;
  readonly tokens: ArrayLike<number>;
}

/**
 * Prefill of several sequences of one model, packed: lengths and policies may differ, and each sequence gets what it
 * would get alone. All or nothing: on failure every sequence is as it was before.
 */
export async function appendBatch(
  items: readonly AppendItem[],
  options: AppendOptions = {},
): Promise<void> {
  const first = items[0];
  if (first === undefined) return;
  const { model } = first.sequence;
  const { logits = 1, signal } = options;
  if (!Number.isInteger(logits) || logits < 1) {
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `logits is ${String(logits)}; give how many last positions to keep, at least 1.`,
    );
  }
  const inputs = items.map((item) => prepare(item, model));
  const release = occupyAll(items, 'append');
  try {
    await model.runtime.lock.run(() => run(model, items, inputs, logits, options, signal));
  } finally {
    release();
  }
  for (const { sequence } of items) if (sequence.strict) assertStrict(sequence.receipt());
}

async function run(
  model: Model,
  items: readonly AppendItem[],
  inputs: readonly Int32Array[],
  logits: number,
  options: AppendOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { runtime } = model;
  throwIfAborted(signal);
  const backups = items.map(({ sequence }) => sequence.state.fork());
  try {
    const batchItems = items.map(({ sequence }, i): BatchItem => {
      const tokens = inputs[i] as Int32Array;
      return { state: sequence.state, tokens, logits: Math.min(logits, tokens.length) };
    });
    const started = performance.now();
    for (const { state, tokens } of batchItems) startTurn(state, tokens.length);
    const batch = new Batch(runtime, batchItems, 'prefill');
    const all = await drive(batch, options);
    const seconds = (performance.now() - started) / 1000;
    let row = 0;
    for (const [i, { sequence }] of items.entries()) {
      const item = batchItems[i] as BatchItem;
      sequence.setLogits(all.slice(row, row + item.logits));
      row += item.logits;
      sequence.pending = undefined;
      sequence.state.turn += 1;
      sequence.counters.prefillTokens += item.tokens.length;
      sequence.counters.prefillSeconds += (seconds * item.tokens.length) / batch.rows;
    }
    all.dispose();
  } catch (error) {
    await runtime.stream.synchronize().catch(() => undefined);
    for (const [i, { sequence }] of items.entries()) {
      sequence.state.dispose();
      sequence.state = backups[i] as SequenceState;
    }
    throw error;
  }
  for (const backup of backups) backup.dispose();
}

/** Enqueues a prefill layer by layer. One layer is always waiting behind the one that runs: the device never idles. */
async function drive(batch: Batch, options: AppendOptions): Promise<Tensor> {
  const { stream, spec } = batch.runtime;
  const pass = forwardPass(batch, passInputs(batch));
  let running: { layer: number; done: Promise<void> } | undefined;
  const finish = async (): Promise<void> => {
    if (running === undefined) return;
    const { layer, done } = running;
    running = undefined;
    await done;
    throwIfAborted(options.signal);
    await settleLayer(batch, layer);
    options.onProgress?.({ layer, layers: spec.layers, tokens: batch.rows });
  };
  for (;;) {
    const step = pass.next();
    if (step.done === true) {
      await finish();
      endPrompt(batch);
      await stream.synchronize();
      for (const { state } of batch.items) {
        state.cuts.close();
        await settleBlocks(state);
      }
      return step.value;
    }
    const done = stream.synchronize();
    done.catch(() => undefined); // reported when it is awaited
    await finish();
    running = { layer: step.value, done };
  }
}

/** Lets the selector make room and checks that the turn fits the model's window. */
function startTurn(state: SequenceState, tokens: number): void {
  const { selector, runtime, seen } = state;
  selector?.turnStart?.({ turn: state.turn, tokens, kv: state.kv, seen });
  const rows = state.kv.rows(0, 0);
  const span = selector?.span?.({ phase: 'prefill', rows, tokens, seen }) ?? seen + tokens;
  const window = runtime.spec.contextLength;
  if (span <= window) return;
  throw new AccelError(
    'ERR_ACCEL_PROMPT_TOO_LONG',
    `${String(tokens)} tokens after ${String(seen)} need ${String(span)} positions, but ${runtime.spec.name} was made for ` +
      `${String(window)}. Shorten the prompt, raise contextLength of loadModel if you know that the model can do more, or use a policy with positions inside the cache (StreamingLLM with banded prefill).`,
  );
}

function prepare({ sequence, tokens }: AppendItem, model: Model): Int32Array {
  sequence.assertIdle('append');
  if (sequence.model !== model) {
    throw new AccelError(
      'ERR_ACCEL_BATCH',
      'The sequences of a batch belong to different models. Make one batch for each model.',
    );
  }
  const { pending } = sequence;
  const ids = Int32Array.from(tokens);
  const all = pending === undefined ? ids : Int32Array.from([pending, ...ids]);
  checkTokens(tokens, model.spec.vocabSize, 'append');
  return all;
}

/** @internal Refuses no tokens, and ids that the model does not have. */
export function checkTokens(tokens: ArrayLike<number>, vocab: number, action: string): void {
  if (tokens.length === 0) {
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `${action}() got no tokens. Give at least one token id, for example the beginning-of-text token.`,
    );
  }
  for (let i = 0; i < tokens.length; i++) {
    const id = tokens[i] as number;
    if (Number.isInteger(id) && id >= 0 && id < vocab) continue;
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `Token ${String(i)} is ${String(id)}; ids of this model are whole numbers from 0 to ${String(vocab - 1)}.`,
    );
  }
}

/** @internal Marks all sequences as in use; a sequence that occurs twice or is busy frees the others again. */
export function occupyAll(
  items: readonly { readonly sequence: Sequence }[],
  action: string,
): () => void {
  const releases: (() => void)[] = [];
  const release = (): void => {
    for (const free of releases) free();
  };
  try {
    for (const { sequence } of items) releases.push(sequence.occupy(action));
  } catch (error) {
    release();
    throw error;
  }
  return release;
}

/** @internal */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new AccelError('ERR_ACCEL_ABORTED', 'The work was aborted by its AbortSignal.', {
    cause: signal.reason,
  });
}
