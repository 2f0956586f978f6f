import { AccelError, Tensor } from '@accel/kernels';
import { occupyAll, throwIfAborted } from './append.js';
import { Sampler, type SamplingOptions } from './engine/sampler.js';
import { StopMatcher } from './engine/stop.js';
import { feed, orFail, room } from './decode.js';
import type { Model } from './model.js';
import { noTokens, type Sequence, type SequenceOptions } from './sequence.js';
import type { TokenStream } from './tokenizer/tokenizer.js';

/** Options of {@link Sequence.generate}. */
export interface GenerateOptions extends SamplingOptions {
  /** At most this many tokens. Default 256. The model's context length ends a generation too. */
  maxTokens?: number;
  /** Texts that end the generation; they are not part of the output. Default none. */
  stop?: readonly string[];
  /** Token ids that end the generation, besides the model's end-of-text ids. Default none. */
  stopTokens?: readonly number[];
  /** Go on after end-of-text ids. Default false. */
  ignoreEos?: boolean;
  /** Ends the generation with `ERR_ACCEL_ABORTED` before the next token. */
  signal?: AbortSignal;
}

/** One drawn token. */
export interface TokenEvent {
  readonly id: number;
  /** Text that became certain with this token; '' inside a multi-byte character and for end-of-text. */
  readonly text: string;
  /** 0 for the first token of this call. */
  readonly index: number;
  /** Present on the last event: a stop string or stop token, an end-of-text id, or no more room. */
  readonly finish?: 'stop' | 'eos' | 'length';
}

/** A token of one sequence of a batch. */
export interface BatchTokenEvent extends TokenEvent {
  /** Index in the list given to {@link generateBatch}. */
  readonly sequence: number;
}

/**
 * Generates on several sequences of one model together, one packed step at a time; each sequence draws what it would
 * draw alone with `seed + index`. Policies may differ. Events come in step order, then in list order.
 */
export async function* generateBatch(
  sequences: readonly Sequence[],
  options: GenerateOptions = {},
): AsyncGenerator<BatchTokenEvent, void, undefined> {
  const model = sequences[0]?.model;
  if (model === undefined) return;
  if (sequences.some((sequence) => sequence.model !== model)) {
    throw new AccelError(
      'ERR_ACCEL_BATCH',
      'The sequences of a batch belong to different models. Make one batch for each model.',
    );
  }
  const { maxTokens = 256, signal } = options;
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `maxTokens is ${String(maxTokens)}; give a whole number of at least 1.`,
    );
  }
  const release = occupyAll(
    sequences.map((sequence) => ({ sequence })),
    'generate',
  );
  let runs: Run[] = [];
  try {
    runs = sequences.map((sequence, index) => new Run(sequence, index, options, maxTokens));
    throwIfAborted(signal);
    await feed(
      model,
      sequences.filter((sequence) => sequence.pending !== undefined),
    );
    let active = runs;
    using drawn = Tensor.empty(model.device, 'int32', [runs.length]);
    while (active.length > 0) {
      throwIfAborted(signal);
      const drawing = draw(model, active, drawn);
      // On a GPU the next step starts before its tokens have been read: it finds them on the device.
      const early = model.runtime.runsAhead && active.every((run) => run.wantsMore);
      if (early) await feed(model, active.map(sequenceOf), drawing.ids);
      const ids = await drawing.read();
      const events = active.map((run, i) => run.accept(ids[i] as number, early));
      active = active.filter((run) => !run.finished);
      if (!early) {
        throwIfAborted(signal);
        await feed(model, active.map(sequenceOf));
      }
      yield* events;
    }
  } finally {
    for (const run of runs) run.dispose();
    release();
  }
}

/**
 * Prompt in, tokens out: makes a sequence, prefills it, generates, disposes it.
 * @param prompt text (encoded with the tokenizer's special tokens in front, unless it begins with them) or token ids
 */
export async function* generate(
  model: Model,
  prompt: string | ArrayLike<number>,
  options: GenerateOptions & SequenceOptions = {},
): AsyncGenerator<TokenEvent, void, undefined> {
  using sequence = model.sequence(options);
  const tokens = typeof prompt === 'string' ? model.tokenizer.encode(prompt) : prompt;
  await sequence.append(tokens, options.signal === undefined ? {} : { signal: options.signal });
  yield* sequence.generate(options);
}

const sequenceOf = ({ sequence }: Run): Sequence => sequence;

/** One sequence's share of a batch generation. */
class Run implements Disposable {
  readonly sequence: Sequence;
  readonly sampler: Sampler;
  finished = false;
  readonly #index: number;
  readonly #limit: number;
  readonly #ends: ReadonlySet<number>;
  readonly #stopTokens: ReadonlySet<number>;
  readonly #text: TokenStream | undefined;
  readonly #stops: StopMatcher;
  #count = 0;

  constructor(sequence: Sequence, index: number, options: GenerateOptions, maxTokens: number) {
    const { model } = sequence;
    if (sequence.length === 0) throw noTokens('generate');
    this.sequence = sequence;
    this.#index = index;
    this.#limit = room(sequence, maxTokens);
    this.#ends = new Set(options.ignoreEos === true ? [] : model.spec.eosTokenIds);
    this.#stopTokens = new Set(options.stopTokens ?? []);
    this.#text = model.hasTokenizer ? model.tokenizer.stream() : undefined;
    this.#stops = new StopMatcher(options.stop ?? []);
    this.sampler = new Sampler(model.device, { ...options, seed: (options.seed ?? 0) + index });
  }

  /** The token that is being drawn is not the last one that has room. */
  get wantsMore(): boolean {
    return this.#count + 1 < this.#limit;
  }

  /**
   * Takes a drawn token: decides whether it is the last and what text it completes.
   * @param fed it has already gone through the model
   */
  accept(id: number, fed: boolean): BatchTokenEvent {
    const index = this.#count++;
    if (!fed) this.sequence.pending = id;
    const ended = this.#ends.has(id) ? 'eos' : this.#stopTokens.has(id) ? 'stop' : undefined;
    const shown =
      ended === undefined
        ? this.#stops.push(this.#text?.push(id) ?? '')
        : { text: '', stopped: false };
    const finish =
      ended ?? (shown.stopped ? 'stop' : this.#count >= this.#limit ? 'length' : undefined);
    if (finish === undefined) return { sequence: this.#index, id, index, text: shown.text };
    this.finished = true;
    const rest = shown.stopped ? '' : this.#flush();
    return { sequence: this.#index, id, index, text: shown.text + rest, finish };
  }

  #flush(): string {
    const last = this.#stops.push(this.#text?.flush() ?? '');
    return last.text + (last.stopped ? '' : this.#stops.flush());
  }

  dispose(): void {
    this.sampler.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Tokens on their way from the device. */
interface Drawing {
  /** int32 `[runs]`; valid until the next draw. */
  readonly ids: Tensor;
  /** Waits for the ids: the one read of a decode step. */
  read(): Promise<Int32Array>;
}

/** Draws one token for every run into the front of `drawn` and starts to read them. */
function draw(model: Model, runs: readonly Run[], drawn: Tensor): Drawing {
  const { stream } = model;
  const started = performance.now();
  const ids = runs.length === drawn.size ? drawn : drawn.slice(0, runs.length);
  for (const [i, run] of runs.entries()) {
    run.sequence.assertUsable('generate');
    const logits = run.sequence.lastLogits as Tensor;
    const rows = logits.shape[0] ?? 1;
    using slot = ids.slice(i, i + 1);
    if (rows === 1) {
      run.sampler.enqueue(stream, slot, logits);
    } else {
      using last = logits.slice(rows - 1, rows);
      run.sampler.enqueue(stream, slot, last);
    }
  }
  const reading = ids.read(stream);
  reading.catch(() => undefined); // reported by read()
  return {
    ids,
    read: async () => {
      const tokens = (await orFail(reading, runs.map(sequenceOf))) as Int32Array;
      const seconds = (performance.now() - started) / 1000;
      for (const { sequence } of runs) sequence.counters.decodeSeconds += seconds / runs.length;
      return tokens;
    },
  };
}
