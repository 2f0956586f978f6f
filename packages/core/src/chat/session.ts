import { AccelError } from '@accel/kernels';
import { isGiven } from '../config/hf-config.js';
import type { GenerateOptions, TokenEvent } from '../generate.js';
import type { Model } from '../model.js';
import type { Sequence, SequenceOptions } from '../sequence.js';
import type { ChatOptions } from '../tokenizer/chat-template.js';
import type { ChatMessage } from '../tokenizer/messages.js';
import { answerOptions } from './chat.js';
import { type Cached, continuation } from './continuation.js';
import type { ChatPrompt } from './prompt.js';

/** Options of {@link Model.session}. */
export interface ChatSessionOptions
  extends Omit<ChatOptions, 'addGenerationPrompt'>, SequenceOptions {
  /** The system message. Default none: what the template writes by itself. */
  readonly system?: string;
  /** Messages to begin with, after the system message. Default none. */
  readonly messages?: readonly ChatMessage[];
}

/** How the prompt of a turn went into the sequence. */
export interface ChatTurn extends ChatPrompt {
  /** Tokens that were in the cache already. */
  readonly reused: number;
  /**
   * What the turn was put behind: `'answer'`, all that was there; `'question'`, the prompt of the turn before, because
   * the template writes that turn's answer otherwise than the model did; `'nothing'`, a new sequence.
   */
  readonly after: 'answer' | 'question' | 'nothing';
}

/** A sequence, and the tokens that went into it. */
interface Kept extends Cached {
  readonly sequence: Sequence;
}

/**
 * A conversation on one sequence: a turn feeds what is new and finds the rest in the cache, compressed or not.
 *
 * Every turn renders the whole conversation and compares it with what the sequence has seen. Where a template writes
 * an answer of the past in another way than the model did (Qwen3 leaves out its thoughts, Llama 3 white space around
 * it), the turn goes back to a fork that was taken before that answer, and only answer and new message are fed. If
 * older text has changed, the conversation is fed into a new sequence. {@link ChatSession.turn} says which it was. The
 * fork shares its pages with the sequence; a policy that rewrites its cache while decoding keeps up to twice the pages.
 *
 * @example
 * using session = model.session({ system: 'Be brief.', policy });
 * for await (const { text } of session.send('Who wrote Moby-Dick?')) process.stdout.write(text);
 * for await (const { text } of session.send('When?')) process.stdout.write(text);
 */
export class ChatSession implements Disposable {
  readonly model: Model;
  readonly #options: ChatSessionOptions;
  #messages: readonly ChatMessage[];
  /** After the newest answer, and before it. */
  #answer: Kept | undefined;
  #question: Kept | undefined;
  #turn: ChatTurn | undefined;
  #busy = false;
  #disposed = false;

  /** @internal Use {@link Model.session}. */
  constructor(model: Model, options: ChatSessionOptions) {
    this.model = model;
    this.#options = options;
    const { system, messages = [] } = options;
    this.#messages =
      system === undefined ? messages : [{ role: 'system', content: system }, ...messages];
  }

  /** The conversation so far, answers included. */
  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  /** The newest turn's prompt, and how much of it was in the cache; undefined before the first. */
  get turn(): ChatTurn | undefined {
    return this.#turn;
  }

  /** The sequence of the newest turn, for its receipt and cache; it may be another one after the next turn. */
  get sequence(): Sequence | undefined {
    return this.#answer?.sequence;
  }

  /**
   * Says something and streams the answer. What was drawn of it until the loop ends, early or by an error too, becomes
   * the assistant's message. A message without any answer leaves the conversation as it was.
   * @param message a user's text, or messages, for example the results of tools
   * @throws AccelError those of {@link Model.prompt} and {@link Sequence.append}; `ERR_ACCEL_BUSY` while an answer is
   *   still being streamed
   */
  async *send(
    message: string | ChatMessage | readonly ChatMessage[],
    options: GenerateOptions = {},
  ): AsyncGenerator<TokenEvent, void, undefined> {
    this.#assertIdle();
    this.#busy = true;
    try {
      const messages = [...this.#messages, ...asMessages(message)];
      const prompt = this.model.prompt(messages, this.#options);
      const kept = await this.#feed(prompt, options.signal);
      yield* this.#draw(kept, messages, answerOptions(options, prompt.stopIds));
    } finally {
      this.#busy = false;
    }
  }

  /** Brings a sequence to the end of the prompt and keeps a fork of it there. */
  async #feed(prompt: ChatPrompt, signal: AbortSignal | undefined): Promise<Kept> {
    const { tokenizer } = this.model;
    const places = [
      ['answer', this.#answer],
      ['question', this.#question],
    ] as const;
    for (const [after, kept] of places) {
      if (kept === undefined || !isWhole(kept)) continue;
      const rest = continuation(tokenizer, kept, prompt);
      if (rest === undefined) continue;
      await append(kept.sequence, rest, signal);
      this.#turn = { ...prompt, reused: kept.ids.length, after };
      return this.#keep({ ...kept, text: prompt.text, ids: [...kept.ids, ...rest] });
    }
    const sequence = this.model.sequence(this.#options);
    try {
      await append(sequence, prompt.ids, signal);
    } catch (error) {
      sequence.dispose();
      throw error;
    }
    this.#turn = { ...prompt, reused: 0, after: 'nothing' };
    return this.#keep({ sequence, text: prompt.text, ids: [...prompt.ids] });
  }

  #keep(kept: Kept): Kept {
    const { sequence } = kept;
    for (const { sequence: old } of [this.#answer, this.#question].filter(isGiven)) {
      if (old !== sequence) old.dispose();
    }
    this.#question = undefined;
    this.#answer = kept;
    if (this.#disposed) this.dispose();
    this.#question = { ...kept, sequence: sequence.fork() };
    return kept;
  }

  async *#draw(
    kept: Kept,
    messages: readonly ChatMessage[],
    options: GenerateOptions,
  ): AsyncGenerator<TokenEvent, void, undefined> {
    const drawn: TokenEvent[] = [];
    try {
      for await (const event of kept.sequence.generate(options)) {
        drawn.push(event);
        yield event;
      }
    } finally {
      if (drawn.length > 0) {
        const content = drawn.map(({ text }) => text).join('');
        this.#messages = [...messages, { role: 'assistant', content }];
        if (!this.#disposed) this.#answer = this.#extended(kept, drawn);
      }
    }
  }

  /** What the sequence holds after an answer. */
  #extended(kept: Kept, drawn: readonly TokenEvent[]): Kept {
    const ids = drawn.map(({ id }) => id);
    const stream = this.model.tokenizer.stream({ skipSpecial: false, continues: true });
    const text = ids.map((id) => stream.push(id)).join('') + stream.flush();
    return { ...kept, text: kept.text + text, ids: [...kept.ids, ...ids] };
  }

  #assertIdle(): void {
    if (this.#disposed) {
      throw new AccelError(
        'ERR_ACCEL_DISPOSED',
        'The session was disposed. Make a new one with model.session().',
      );
    }
    if (!this.#busy) return;
    throw new AccelError(
      'ERR_ACCEL_BUSY',
      'The session is still answering. Read the answer to its end, or leave its loop, before the next message.',
    );
  }

  /** Returns the cache pages to the pool. Idempotent. */
  dispose(): void {
    this.#disposed = true;
    this.#answer?.sequence.dispose();
    this.#question?.sequence.dispose();
    this.#answer = undefined;
    this.#question = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function asMessages(
  message: string | ChatMessage | readonly ChatMessage[],
): readonly ChatMessage[] {
  if (typeof message === 'string') return [{ role: 'user', content: message }];
  return 'role' in message ? [message] : message;
}

/** The sequence can go on, and holds the tokens that are known: after an error it may hold one more, or be broken. */
function isWhole({ sequence, ids }: Kept): boolean {
  try {
    sequence.assertUsable('continue');
  } catch {
    return false;
  }
  return sequence.length === ids.length;
}

/** A prompt that is there already has its logits, and needs nothing. */
async function append(
  sequence: Sequence,
  ids: Int32Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (ids.length > 0) await sequence.append(ids, signal === undefined ? {} : { signal });
}
