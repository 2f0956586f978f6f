import { TextDecoder } from 'node:util';
import * as library from '@huggingface/tokenizers';

// The package's type files import each other without file endings, which Node's module resolution does not follow, so
// its classes come without types. What is used of them is described here.

/** The part of `Tokenizer` of @huggingface/tokenizers that is used. */
export interface LibraryTokenizer {
  readonly decoder: object | null;
  /** An id is undefined where neither the vocabulary nor an unknown-token covers the text. */
  encode(
    text: string,
    options: { add_special_tokens: boolean },
  ): { ids: (number | undefined)[]; tokens: string[] };
  decode(
    ids: number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean },
  ): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_vocab(): Map<string, number>;
}

type Class<T> = new (...parameters: never[]) => T;
const { ByteFallbackDecoder, SequenceDecoder, Tokenizer } = library as unknown as {
  ByteFallbackDecoder: Class<{ text_decoder: TextDecoder }>;
  SequenceDecoder: Class<{ decoders: object[] }>;
  Tokenizer: new (json: object, config: object) => LibraryTokenizer;
};

/**
 * Makes the library's tokenizer from the contents of tokenizer.json and tokenizer_config.json.
 * @throws whatever the library throws about contents it does not understand
 */
export function createLibraryTokenizer(
  json: object,
  config: Readonly<Record<string, unknown>>,
): LibraryTokenizer {
  const tokenizer = new Tokenizer(json, plainTokens(config));
  if (tokenizer.decoder !== null) keepByteOrderMarks(tokenizer.decoder);
  return tokenizer;
}

/** The library expects texts where some files have `{ content }` objects. */
function plainTokens(config: Readonly<Record<string, unknown>>): object {
  const extra = config['additional_special_tokens'];
  if (!Array.isArray(extra)) return config;
  const texts = extra.map((token: unknown) =>
    typeof token === 'object' && token !== null && 'content' in token ? token.content : token,
  );
  return { ...config, additional_special_tokens: texts };
}

/**
 * The byte-fallback decoder of version 0.2.0 drops U+FEFF at the start of a run of byte tokens, where it would be a
 * byte order mark in a file. In the middle of a text it is a character like any other.
 */
function keepByteOrderMarks(decoder: object): void {
  if (decoder instanceof SequenceDecoder) decoder.decoders.forEach(keepByteOrderMarks);
  if (!(decoder instanceof ByteFallbackDecoder)) return;
  decoder.text_decoder = new TextDecoder('utf-8', { ignoreBOM: true });
}
