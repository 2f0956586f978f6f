import { AccelError } from '@accel/kernels';
import { ChatTemplate } from '../tokenizer/chat-template.js';
import { HfTokenizer } from '../tokenizer/hf-tokenizer.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { byteLevelModel } from './byte-level.js';
import type { Metadata } from './metadata.js';
import { sentencePieceModel } from './sentence-piece.js';
import type { TokenizerModel } from './tokenizer-model.js';
import { TokenType, type Vocabulary } from './vocabulary.js';

/** By `tokenizer.ggml.model`. */
const models: Readonly<
  Record<string, (file: string, metadata: Metadata, vocabulary: Vocabulary) => TokenizerModel>
> = { gpt2: byteLevelModel, llama: sentencePieceModel };

/**
 * The tokenizer that the metadata describe, as a tokenizer.json for the same implementation that model folders get
 * (docs/adr/0005-tokenizers.md).
 * @throws AccelError `ERR_ACCEL_TOKENIZER`, `ERR_ACCEL_CONFIG`
 */
export function buildTokenizer(
  file: string,
  metadata: Metadata,
  vocabulary: Vocabulary,
): Tokenizer {
  const specialTokens = specialTexts(vocabulary);
  const template = readTemplates(metadata);
  return new HfTokenizer(
    file,
    tokenizerJson(file, metadata, vocabulary),
    { config: {}, specialTokens, template },
    template === undefined ? undefined : new ChatTemplate(template, specialTokens),
  );
}

function tokenizerJson(file: string, metadata: Metadata, vocabulary: Vocabulary): object {
  const kind = metadata.text('tokenizer.ggml.model') ?? '(none)';
  const make = Object.hasOwn(models, kind) ? models[kind] : undefined;
  if (make === undefined) {
    throw new AccelError(
      'ERR_ACCEL_TOKENIZER',
      `${file}: tokenizer.ggml.model is ${JSON.stringify(kind.slice(0, 40))}; supported are gpt2 (byte-level BPE) and llama (SentencePiece BPE). Load the model from its Hugging Face folder instead.`,
    );
  }
  const { addBos, prefix, ...parts } = make(file, metadata, vocabulary);
  const known = (text: string): boolean => vocabulary.tokens.some((token) => token.text === text);
  const { bos_token: bos, eos_token: eos } = specialTexts(vocabulary);
  const wantsBos = metadata.boolean('tokenizer.ggml.add_bos_token') ?? addBos;
  const wantsEos = metadata.boolean('tokenizer.ggml.add_eos_token') ?? false;
  const before = [
    ...(wantsBos && bos !== undefined ? [bos] : []),
    ...(prefix.every(known) ? prefix : []),
  ];
  const after = wantsEos && eos !== undefined ? [eos] : [];
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    ...parts,
    post_processor: surround(before, after, vocabulary),
  };
}

/** Tokens that are recognised in a text before anything else happens to it. */
function addedTokens({ tokens }: Vocabulary): object[] {
  const added: number[] = [TokenType.control, TokenType.userDefined, TokenType.unknown];
  return tokens
    .filter(({ type }) => added.includes(type))
    .map(({ id, text, type }) => ({
      id,
      content: text,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: type !== TokenType.userDefined,
    }));
}

/** Puts special tokens around a text; null where there are none. */
function surround(
  before: readonly string[],
  after: readonly string[],
  { tokens }: Vocabulary,
): object | null {
  if (before.length + after.length === 0) return null;
  const place = (text: string): object => ({ SpecialToken: { id: text, type_id: 0 } });
  const used = tokens.filter(({ text }) => before.includes(text) || after.includes(text));
  return {
    type: 'TemplateProcessing',
    single: [...before.map(place), { Sequence: { id: 'A', type_id: 0 } }, ...after.map(place)],
    pair: [],
    special_tokens: Object.fromEntries(
      used.map(({ id, text }) => [text, { id: text, ids: [id], tokens: [text] }]),
    ),
  };
}

/** Texts of the special tokens under the names that tokenizer_config.json and chat templates use. */
function specialTexts({ tokens, special }: Vocabulary): Record<string, string> {
  const texts: Record<string, string> = {};
  const roles = {
    bos_token: special.bos,
    eos_token: special.eos,
    unk_token: special.unknown,
    pad_token: special.padding,
  };
  for (const [name, id] of Object.entries(roles)) {
    const text = tokens.find((token) => token.id === id)?.text;
    if (id !== undefined && text !== undefined) texts[name] = text;
  }
  return texts;
}

/** The chat templates by name; the usual one is called `default`. */
function readTemplates(metadata: Metadata): Record<string, string> | undefined {
  const prefix = 'tokenizer.chat_template.';
  const named = metadata.keys
    .filter((key) => key.startsWith(prefix))
    .map((key) => [key.slice(prefix.length), metadata.text(key) ?? '']);
  const usual = metadata.text('tokenizer.chat_template');
  const all = [...(usual === undefined ? [] : [['default', usual]]), ...named];
  return all.length === 0 ? undefined : (Object.fromEntries(all) as Record<string, string>);
}
