import { AccelError, type Tensor } from '@accel/kernels';
import { appendBatch, type AppendOptions } from './append.js';
import { PolicyParts } from './engine/parts.js';
import { SequenceState } from './engine/state.js';
import { generateBatch, type GenerateOptions, type TokenEvent } from './generate.js';
import type { Model } from './model.js';
import type { Policy } from './policy/compose.js';
import { full } from './policy/compose.js';
import { buildReceipt } from './engine/receipt.js';
import { CacheView } from './engine/view.js';
import type { Receipt } from './receipt/receipt.js';
import { saveSequence, type SaveOptions } from './saved/save.js';
import { scoreBatch, type ScoreOptions } from './score.js';

/** Options of {@link Model.sequence}. */
export interface SequenceOptions {
  /** What is done to this sequence's cache. Default {@link full}: nothing, exact attention. */
  policy?: Policy;
  /** Throw when a configured part never acted or a fallback ran. Default false. */
  strict?: boolean;
}

/** Work counters of a sequence. */
export interface Counters {
  prefillTokens: number;
  decodeTokens: number;
  prefillSeconds: number;
  decodeSeconds: number;
}

/**
 * One stream of tokens and the cache that belongs to it. Three numbers stay apart: {@link length} (positions seen),
 * the rows that {@link view} shows (stored), and the model's context length.
 *
 * A sequence does one thing at a time; different sequences of a model may be used concurrently.
 */
export class Sequence implements Disposable {
  readonly model: Model;
  readonly policy: Policy;
  readonly strict: boolean;
  /** @internal */ state: SequenceState;
  /** @internal float32 `[n, vocab]` after the newest token. */ lastLogits: Tensor | undefined;
  /** @internal A token that was drawn but has not gone through the model yet. */ pending:
    number | undefined;
  /** @internal */ readonly counters: Counters;
  /** @internal What had run, and how many tokens were decoded, before this sequence or fork was made. */
  readonly before: { readonly kernels: Readonly<Record<string, number>>; readonly decoded: number };
  #busy: string | undefined;
  #failure: unknown;
  #disposed = false;

  /** @internal Use {@link Model.sequence}. */
  constructor(model: Model, options: SequenceOptions, state?: SequenceState, counters?: Counters) {
    this.model = model;
    this.policy = options.policy ?? full;
    this.strict = options.strict ?? false;
    this.state = state ?? SequenceState.create(model.runtime, new PolicyParts(this.policy));
    this.counters = counters ?? {
      prefillTokens: 0,
      decodeTokens: 0,
      prefillSeconds: 0,
      decodeSeconds: 0,
    };
    this.before = { kernels: model.stream.kernels(), decoded: this.counters.decodeTokens };
  }

  /** Positions seen, tokens drawn by {@link generate} included. */
  get length(): number {
    return this.state.seen + (this.pending === undefined ? 0 : 1);
  }

  /** Calls of {@link append} so far. */
  get turns(): number {
    return this.state.turn;
  }

  /**
   * Runs tokens through the model (prefill), as the first prompt or as a later turn on the cache as it is. If it
   * fails or is aborted the sequence is as it was before.
   * @throws AccelError `ERR_ACCEL_PROMPT_TOO_LONG`, `ERR_ACCEL_ARGUMENT`, `ERR_ACCEL_OUT_OF_MEMORY`, `ERR_ACCEL_ABORTED`
   */
  append(tokens: ArrayLike<number>, options: AppendOptions = {}): Promise<void> {
    return appendBatch([{ sequence: this, tokens }], options);
  }

  /** Draws tokens one by one, starting after the newest token. Ends by itself; leaving the loop early is fine. */
  async *generate(options: GenerateOptions = {}): AsyncGenerator<TokenEvent, void, undefined> {
    for await (const { sequence: _, ...event } of generateBatch([this], options)) yield event;
  }

  /**
   * How likely the model finds given tokens after the newest one: teacher forcing, one decode step a token, see
   * {@link scoreBatch}. The tokens then belong to the sequence.
   * @returns the natural logarithms of their probabilities
   */
  async score(tokens: ArrayLike<number>, options: ScoreOptions = {}): Promise<Float64Array> {
    const [scores] = await scoreBatch([{ sequence: this, tokens }], options);
    return scores as Float64Array;
  }

  /** Logits after the newest token (or after the last n, see {@link AppendOptions.logits}), `n · vocab` numbers. */
  async logits(): Promise<Float32Array> {
    this.assertUsable('logits');
    if (this.lastLogits === undefined) throw noTokens('read logits');
    return (await this.lastLogits.read(this.model.stream)) as Float32Array;
  }

  /** A copy that goes its own way from here. Cache pages are shared until one of the two writes to them. */
  fork(): Sequence {
    this.assertIdle('fork');
    const copy = new Sequence(
      this.model,
      { policy: this.policy, strict: this.strict },
      this.state.fork(),
      { ...this.counters },
    );
    const logits = this.lastLogits;
    if (logits !== undefined) copy.lastLogits = logits.view(logits.shape);
    copy.pending = this.pending;
    return copy;
  }

  /**
   * Writes the sequence to a file, compressed as it is: rows as they are stored, what its policy remembers, the newest
   * logits. {@link Model.restore} goes on from there, also on another kind of device. The file appears under its name when it
   * is complete, over one that is there. Until then the sequence is busy.
   * @throws AccelError `ERR_ACCEL_FILE`, `ERR_ACCEL_ABORTED`; `ERR_ACCEL_POLICY` when a part cannot be saved,
   *   `ERR_ACCEL_ARGUMENT` when there are no tokens yet
   */
  async save(path: string, options: SaveOptions = {}): Promise<void> {
    const release = this.occupy('save');
    try {
      await saveSequence(this, path, options);
    } finally {
      release();
    }
  }

  /** What was done to this sequence so far. */
  receipt(): Receipt {
    this.assertUsable('receipt');
    return buildReceipt(this);
  }

  /** The rows that the cache holds, per layer and head. */
  view(): CacheView {
    this.assertUsable('view');
    return new CacheView(this);
  }

  /** @internal */
  assertUsable(action: string): void {
    if (this.#disposed) {
      throw new AccelError(
        'ERR_ACCEL_DISPOSED',
        `Cannot ${action}: the sequence was disposed. Create a new one with model.sequence().`,
      );
    }
    if (this.#failure === undefined) return;
    throw new AccelError(
      'ERR_ACCEL_SEQUENCE_FAILED',
      `Cannot ${action}: an earlier decode step failed half-way and the cache is incomplete. Dispose the sequence and start a new one, or go on from a fork() taken before.`,
      { cause: this.#failure },
    );
  }

  /** @internal A decode step failed after part of the layers had changed. */
  fail(cause: unknown): void {
    this.#failure ??= cause;
  }

  /** @internal */
  assertIdle(action: string): void {
    this.assertUsable(action);
    if (this.#busy === undefined) return;
    throw new AccelError(
      'ERR_ACCEL_BUSY',
      `Cannot ${action} while ${this.#busy} is running on the same sequence. Await it first, or work on a fork().`,
    );
  }

  /** @internal Marks the sequence as in use until the returned function is called. */
  occupy(action: string): () => void {
    this.assertIdle(action);
    this.#busy = action;
    return () => {
      this.#busy = undefined;
    };
  }

  /** @internal */
  setLogits(logits: Tensor | undefined): void {
    this.lastLogits?.dispose();
    this.lastLogits = logits;
  }

  /** Returns the cache pages to the pool. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.setLogits(undefined);
    this.state.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** @internal */
export function noTokens(action: string): AccelError {
  return new AccelError(
    'ERR_ACCEL_ARGUMENT',
    `Cannot ${action}: the sequence has no tokens yet. Call append() first.`,
  );
}
