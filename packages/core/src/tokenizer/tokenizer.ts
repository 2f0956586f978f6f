import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AccelError } from '@accel/kernels';
import { ChatTemplate, type ChatOptions } from './chat-template.js';
import { HfTokenizer } from './hf-tokenizer.js';
import { readTokenizerFiles } from './files.js';
import type { ChatMessage } from './messages.js';

export type { ChatOptions } from './chat-template.js';
export type { ChatMessage, ChatTool, TextPart, ToolCall } from './messages.js';

/** Text to token ids and back. */
export interface Tokenizer {
  /** Ids that the tokenizer knows, special ones included; a model's vocabulary may be padded beyond it. */
  readonly vocabSize: number;
  readonly bosTokenId?: number;
  readonly eosTokenId?: number;
  /**
   * Token ids of a text. Special tokens written in the text are recognised, as the models' own tools do; do not pass
   * text of strangers where that matters.
   * @param options `addSpecial`: put the tokenizer's own special tokens around it, normally a beginning-of-text id in
   *   front. `'auto'`, the default, does so unless the text already begins with them, so a text that a chat template
   *   made does not get a second one; `true` does so always, `false` never.
   */
  encode(text: string, options?: { readonly addSpecial?: boolean | 'auto' }): Int32Array;
  /**
   * Text of token ids; ids without a token (padding of the vocabulary) give nothing.
   * @param options `skipSpecial`: leave special tokens out. Default false.
   */
  decode(ids: ArrayLike<number>, options?: { readonly skipSpecial?: boolean }): string;
  /** Whether {@link chat} works without a template of one's own. */
  readonly hasChatTemplate: boolean;
  /**
   * The text of a conversation in the model's own format, special tokens included. Encode it with `addSpecial: false`:
   * what a template does not write (some leave the beginning-of-text token out) was not there in training either.
   * @throws AccelError `ERR_ACCEL_TOKENIZER` without a template, or when the template refuses the messages
   */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): string;
  /** Decodes token by token. */
  stream(options?: TokenStreamOptions): TokenStream;
}

/** Options of {@link Tokenizer.stream}. */
export interface TokenStreamOptions {
  /** Leave special tokens out. Default true. */
  readonly skipSpecial?: boolean;
  /** The tokens continue a text, so a space in front of the first one stays. Default false: as `decode` of them. */
  readonly continues?: boolean;
}

/**
 * Decodes token by token: all texts together are what `decode` gives for all ids, and a character whose bytes come in
 * several tokens comes whole.
 */
export interface TokenStream {
  /** @returns text that became certain with this id, '' if none */
  push(id: number): string;
  /** The rest at the end of the tokens: a character that stayed incomplete, as U+FFFD. */
  flush(): string;
}

/**
 * Reads the tokenizer of a model folder: tokenizer.json, with tokenizer_config.json, special_tokens_map.json and
 * chat_template.jinja if they are there.
 * @throws AccelError `ERR_ACCEL_FILE`, `ERR_ACCEL_TOKENIZER`
 */
export async function loadTokenizer(path: string): Promise<Tokenizer> {
  const file = join(path, 'tokenizer.json');
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `Cannot read ${file}: ${(error as Error).message}. A model folder needs tokenizer.json; tokenizer.model alone is not enough, convert it with transformers' save_pretrained.`,
      { cause: error },
    );
  }
  const files = await readTokenizerFiles(path);
  const template =
    files.template === undefined
      ? undefined
      : new ChatTemplate(files.template, files.specialTokens);
  return new HfTokenizer(file, text, files, template);
}
