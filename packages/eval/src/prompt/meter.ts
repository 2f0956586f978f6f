import type { Tokenizer } from '@accel/core';
import type { PromptMeter } from '../benchmark/types.js';

/**
 * Measures and encodes with a model's tokenizer. It remembers the newest text: generators measure a prompt last before
 * they hand it out, so encoding it costs nothing more, and at 128K tokens that is most of a second.
 */
export class TokenMeter implements PromptMeter {
  readonly #tokenizer: Tokenizer;
  readonly #wrap: (text: string) => string;
  /** Special tokens that the tokenizer puts in front of a raw prompt; undefined where it does more than that. */
  readonly #front: readonly number[] | undefined;
  #last: { text: string; ids: Int32Array } | undefined;

  /** @param wrap the chat template around what the user says; the text itself for raw prompts */
  constructor(tokenizer: Tokenizer, wrap: (text: string) => string) {
    this.#tokenizer = tokenizer;
    this.#wrap = wrap;
    this.#front = specialsInFront(tokenizer);
  }

  countTokens(text: string): number {
    return this.encode(text).length;
  }

  encode(text: string): Int32Array {
    if (this.#last?.text === text) return this.#last.ids;
    const ids = this.#tokenizer.encode(text, { addSpecial: false });
    this.#last = { text, ids };
    return ids;
  }

  /** As a raw prompt: with the tokenizer's own special tokens. */
  encodeRaw(text: string): Int32Array {
    if (this.#front === undefined) return this.#tokenizer.encode(text, { addSpecial: true });
    return Int32Array.from([...this.#front, ...this.encode(text)]);
  }

  decode(ids: ArrayLike<number>): string {
    return this.#tokenizer.decode(ids, { skipSpecial: true });
  }

  wrap(text: string): string {
    return this.#wrap(text);
  }
}

function specialsInFront(tokenizer: Tokenizer): readonly number[] | undefined {
  const plain = tokenizer.encode('a', { addSpecial: false });
  const whole = tokenizer.encode('a', { addSpecial: true });
  const front = Array.from(whole.subarray(0, whole.length - plain.length));
  const rest = whole.subarray(front.length);
  return rest.every((id, i) => id === plain[i]) ? front : undefined;
}
