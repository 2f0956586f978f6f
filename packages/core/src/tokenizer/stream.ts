import type { TokenStream } from './tokenizer.js';

/** Decodes a list of ids. */
export type Decode = (ids: readonly number[]) => string;

/** What a decoder gives for bytes that are no character, or not yet. */
const INCOMPLETE = '\uFFFD';
/**
 * A character takes at most four bytes and so at most four tokens. If the end still does not decode after more, the
 * model has written bytes that are no text.
 */
const MOST_PENDING = 8;

/**
 * Decodes token by token with a decoder for whole lists.
 *
 * A token's text depends on its neighbours in two ways: bytes of a character may be spread over tokens, and
 * SentencePiece decoders strip the space at the very beginning. So the tokens since the last complete text are decoded
 * together, behind an anchor: a token of plain text whose own text is cut off again.
 */
export class IncrementalDecoder implements TokenStream {
  readonly #decode: Decode;
  readonly #anchor: number | undefined;
  readonly #anchorLength: number;
  /** The window is at the very beginning of the text. */
  #first: boolean;
  #window: number[] = [];
  /** Characters of the window's text that were given out. */
  #given = 0;
  /** Tokens since the end of the window's text was last complete. */
  #pending = 0;

  /** @param anchor see {@link findAnchor}; without one, all tokens stay in the window */
  constructor(decode: Decode, anchor: number | undefined, continues: boolean) {
    this.#decode = decode;
    this.#anchor = anchor;
    this.#anchorLength = anchor === undefined ? 0 : decode([anchor]).length;
    this.#first = !continues || anchor === undefined;
  }

  push(id: number): string {
    this.#window.push(id);
    const text = this.#text();
    let certain = text.length;
    while (certain > this.#given && text[certain - 1] === INCOMPLETE) certain--;
    this.#pending = certain === text.length ? 0 : this.#pending + 1;
    if (this.#pending > MOST_PENDING) certain = text.length;
    const fresh = text.slice(this.#given, certain);
    this.#given = Math.max(this.#given, certain);
    if (certain === text.length && text.length > 0) this.#restart();
    return fresh;
  }

  flush(): string {
    const rest = this.#text().slice(this.#given);
    this.#restart();
    return rest;
  }

  #text(): string {
    if (this.#window.length === 0) return '';
    if (this.#first || this.#anchor === undefined) return this.#decode(this.#window);
    return this.#decode([this.#anchor, ...this.#window]).slice(this.#anchorLength);
  }

  #restart(): void {
    this.#pending = 0;
    if (this.#anchor === undefined) {
      this.#given = this.#text().length;
      return;
    }
    this.#window = [];
    this.#given = 0;
    this.#first = false;
  }
}

/** Tokens looked at before giving up; plain letters are among the first of every vocabulary known. */
const MOST_TRIED = 2000;

/**
 * A token whose text is plain and does not depend on what is before or after it.
 * @param allowed tokens that may be taken
 * @returns its id, or undefined if there is none
 */
export function findAnchor(
  decode: Decode,
  allowed: (id: number) => boolean,
  vocabSize: number,
): number | undefined {
  for (let id = 0; id < Math.min(vocabSize, MOST_TRIED); id++) {
    if (!allowed(id)) continue;
    const text = decode([id]);
    if (/^[!-~]+$/.test(text) && decode([id, id]) === text + text) return id;
  }
  return undefined;
}
