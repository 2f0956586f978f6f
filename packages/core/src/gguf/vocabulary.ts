import { AccelError } from '@accel/kernels';
import type { Metadata } from './metadata.js';

/** What a token is for (`tokenizer.ggml.token_type`, SentencePiece's numbers). */
export const TokenType = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

/** One token of the vocabulary. */
export interface VocabularyToken {
  readonly id: number;
  readonly text: string;
  /** A value of {@link TokenType}. */
  readonly type: number;
}

/** Tokens that a file names by role. Undefined where it names none. */
interface SpecialIds {
  readonly bos: number | undefined;
  readonly eos: number | undefined;
  readonly unknown: number | undefined;
  readonly padding: number | undefined;
}

/** The tokenizer's part of the metadata: `tokenizer.ggml.*`. */
export interface Vocabulary {
  /** Entries of the list, unused ones too. */
  readonly size: number;
  /** In the order of their ids. Unused entries, which pad the vocabulary, are left out. */
  readonly tokens: readonly VocabularyToken[];
  readonly special: SpecialIds;
  /** Every id that ends a generation. */
  readonly eosTokenIds: readonly number[];
}

/**
 * Tokens that end a turn or a text. Files name one or two of those that a model uses, so control tokens of these texts
 * count too, as in llama.cpp; transformers lists them in generation_config.json.
 */
const ENDS = new Set([
  '<|eot_id|>',
  '<|eom_id|>',
  '<|end_of_text|>',
  '<|im_end|>',
  '<|endoftext|>',
  '<|end|>',
  // GLM-4: the next speaker's mark ends a turn.
  '<|user|>',
  '<|observation|>',
]);

/**
 * Reads the tokens.
 * @returns undefined for a file without a vocabulary, whose model works with token ids only
 * @throws AccelError `ERR_ACCEL_TOKENIZER`, `ERR_ACCEL_CONFIG`
 */
export function readVocabulary(file: string, metadata: Metadata): Vocabulary | undefined {
  const texts = metadata.texts('tokenizer.ggml.tokens');
  if (texts === undefined) return undefined;
  const types = metadata.numbers('tokenizer.ggml.token_type');
  if (types !== undefined && types.length !== texts.length) {
    throw metadata.error(
      'tokenizer.ggml.token_type',
      `has ${types.length} items for ${texts.length} tokens. Convert the checkpoint to GGUF again.`,
    );
  }
  const idOf = (role: string): number | undefined => {
    const id = metadata.number(`tokenizer.ggml.${role}_token_id`);
    // Converters write 2^32 - 1 and the like for a role that the model does not have.
    return id !== undefined && Number.isInteger(id) && id >= 0 && id < texts.length
      ? id
      : undefined;
  };
  const special = {
    bos: idOf('bos'),
    eos: idOf('eos'),
    unknown: idOf('unknown'),
    padding: idOf('padding'),
  };
  const ends = [special.eos, idOf('eot'), idOf('eom')];
  const roles = new Set([...Object.values(special), ...ends]);
  const tokens = texts
    .map((text, id) => ({
      id,
      text,
      type: types?.[id] ?? (roles.has(id) ? TokenType.control : TokenType.normal),
    }))
    .filter(({ text, type }) => type !== TokenType.unused && text !== '');
  refuseTwins(file, tokens);
  for (const { id, text, type } of tokens) {
    if (type === TokenType.control && ENDS.has(text)) ends.push(id);
  }
  return {
    size: texts.length,
    tokens,
    special,
    eosTokenIds: [...new Set(ends.filter((id) => id !== undefined))],
  };
}

function refuseTwins(file: string, tokens: readonly VocabularyToken[]): void {
  const ids = new Map<string, number>();
  for (const { id, text } of tokens) {
    const other = ids.get(text);
    if (other !== undefined) {
      throw new AccelError(
        'ERR_ACCEL_TOKENIZER',
        `${file}: tokens ${other} and ${id} have the same text ${JSON.stringify(text.slice(0, 40))}. The file is damaged or was converted wrongly: fetch it again.`,
      );
    }
    ids.set(text, id);
  }
}
