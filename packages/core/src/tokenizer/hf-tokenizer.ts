import { AccelError } from '@accel/kernels';
import { ChatTemplate, type ChatOptions } from './chat-template.js';
import type { TokenizerFiles } from './files.js';
import { createLibraryTokenizer, type LibraryTokenizer } from './library.js';
import type { ChatMessage } from './messages.js';
import { type Decode, findAnchor, IncrementalDecoder } from './stream.js';
import type { Tokenizer, TokenStream, TokenStreamOptions } from './tokenizer.js';

/** SentencePiece's token for one byte, which is decoded together with the byte tokens beside it. */
const BYTE_TOKEN = /^<0x[0-9A-Fa-f]{2}>$/;

/** A tokenizer.json, run by Hugging Face's JavaScript implementation. */
export class HfTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosTokenId?: number;
  readonly eosTokenId?: number;
  readonly hasChatTemplate: boolean;
  readonly #file: string;
  readonly #inner: LibraryTokenizer;
  readonly #template: ChatTemplate;
  /** Ids that the tokenizer puts around a text; undefined until they are looked up. */
  #special: Int32Array | undefined;
  #anchor: number | undefined | null = null;

  /**
   * @param file path for messages
   * @param json text of tokenizer.json, or its contents
   */
  constructor(
    file: string,
    json: string | object,
    files: TokenizerFiles,
    template: ChatTemplate | undefined,
  ) {
    this.#file = file;
    this.hasChatTemplate = template !== undefined;
    this.#template = template ?? new ChatTemplate({}, files.specialTokens);
    try {
      const contents = typeof json === 'string' ? (JSON.parse(json) as object) : json;
      this.#inner = createLibraryTokenizer(contents, files.config);
    } catch (error) {
      throw new AccelError(
        'ERR_ACCEL_TOKENIZER',
        `${file} is not a tokenizer that can be used: ${(error as Error).message}. Fetch the file again.`,
        { cause: error },
      );
    }
    this.vocabSize = countIds(this.#inner);
    const { bos_token: bos, eos_token: eos } = files.specialTokens;
    const bosId = bos === undefined ? undefined : this.#inner.token_to_id(bos);
    const eosId = eos === undefined ? undefined : this.#inner.token_to_id(eos);
    if (bosId !== undefined) this.bosTokenId = bosId;
    if (eosId !== undefined) this.eosTokenId = eosId;
  }

  encode(text: string, options: { readonly addSpecial?: boolean | 'auto' } = {}): Int32Array {
    const { addSpecial = 'auto' } = options;
    const ids = this.#encode(text, addSpecial !== false);
    return addSpecial === 'auto' ? ids.slice(this.#doubled(ids)) : ids;
  }

  /** How many special tokens were put in front of a text that begins with the same ones. */
  #doubled(ids: Int32Array): number {
    // Of an empty text there are only those in front and, for a few tokenizers, those behind.
    this.#special ??= this.#encode('', true);
    let front = 0;
    while (front < this.#special.length && ids[front] === this.#special[front]) front++;
    return this.#special.slice(0, front).every((id, i) => ids[front + i] === id) ? front : 0;
  }

  #encode(text: string, special: boolean): Int32Array {
    const { ids, tokens } = this.#inner.encode(text, { add_special_tokens: special });
    const hole = ids.indexOf(undefined);
    if (hole < 0) return Int32Array.from(ids as number[]);
    throw new AccelError(
      'ERR_ACCEL_TOKENIZER',
      `${this.#file} has no token for ${JSON.stringify(tokens[hole])} and none for unknown text. Remove it from the text.`,
    );
  }

  decode(ids: ArrayLike<number>, options: { readonly skipSpecial?: boolean } = {}): string {
    const known: number[] = [];
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as number;
      if (!Number.isInteger(id) || id < 0) {
        throw new AccelError(
          'ERR_ACCEL_ARGUMENT',
          `Token ${i} is ${id}; token ids are whole numbers of at least 0.`,
        );
      }
      if (this.#inner.id_to_token(id) !== undefined) known.push(id);
    }
    if (known.length === 0) return '';
    return this.#inner.decode(known, {
      skip_special_tokens: options.skipSpecial ?? false,
      // English-only cosmetics of old models ("do n't" to "don't"), which would break decode(encode(text)) === text.
      clean_up_tokenization_spaces: false,
    });
  }

  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    return this.#template.render(messages, options);
  }

  stream(options: TokenStreamOptions = {}): TokenStream {
    const { skipSpecial = true, continues = false } = options;
    const decode: Decode = (ids) => this.decode(ids, { skipSpecial });
    if (this.#anchor === null) {
      const plain = (id: number): boolean => !BYTE_TOKEN.test(this.#inner.id_to_token(id) ?? '');
      this.#anchor = findAnchor(decode, plain, this.vocabSize);
    }
    return new IncrementalDecoder(decode, this.#anchor, continues);
  }
}

/** One more than the highest id; gaps in the numbering do occur. */
function countIds(inner: LibraryTokenizer): number {
  let count = 0;
  for (const id of inner.get_vocab().values()) count = Math.max(count, id + 1);
  return count;
}
