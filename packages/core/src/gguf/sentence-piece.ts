import { AccelError } from '@accel/kernels';
import type { Metadata } from './metadata.js';
import type { TokenizerModel } from './tokenizer-model.js';
import { TokenType, type Vocabulary, type VocabularyToken } from './vocabulary.js';

/** SentencePiece writes a space as this sign. */
const SPACE = '\u2581';
/** Characters of a piece; SentencePiece's own limit is 16. */
const MAX_PIECE = 256;

/**
 * `tokenizer.ggml.model` = `llama`: SentencePiece's BPE, in which the neighbours are merged that make the piece of the
 * highest score. As in llama.cpp and SentencePiece, each stretch of text between special tokens begins with a space.
 */
export function sentencePieceModel(
  file: string,
  metadata: Metadata,
  { size, tokens, special }: Vocabulary,
): TokenizerModel {
  refuseChatglm3(file, metadata);
  const prepend = metadata.boolean('tokenizer.ggml.add_space_prefix') ?? true;
  const pieces = tokens.filter(
    ({ type }) => type !== TokenType.control && type !== TokenType.userDefined,
  );
  const unknown = pieces.find(
    ({ id, type }) => id === special.unknown || type === TokenType.unknown,
  );
  const bytes = pieces.filter(({ type, text }) => type === TokenType.byte || isByte(text));
  return {
    normalizer: {
      type: 'Sequence',
      normalizers: [
        ...(prepend ? [{ type: 'Prepend', prepend: SPACE }] : []),
        { type: 'Replace', pattern: { String: ' ' }, content: SPACE },
      ],
    },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prepend ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown?.text ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: bytes.length === 256,
      ignore_merges: false,
      vocab: Object.fromEntries(pieces.map(({ text, id }) => [text, id])),
      merges: mergesOf(file, pieces, readScores(metadata, size)),
    },
    addBos: true,
    prefix: [],
  };
}

/** Its texts begin with `[gMASK]sop`, which the file does not say and nothing here could check. */
function refuseChatglm3(file: string, metadata: Metadata): void {
  if (metadata.text('tokenizer.ggml.pre') !== 'chatglm-spm') return;
  throw new AccelError(
    'ERR_ACCEL_TOKENIZER',
    `${file}: tokenizer.ggml.pre is "chatglm-spm", the tokenizer of ChatGLM3, which is not supported. Load the model from its Hugging Face folder instead.`,
  );
}

function isByte(text: string): boolean {
  return /^<0x[0-9A-F]{2}>$/.test(text);
}

function readScores(metadata: Metadata, count: number): readonly number[] {
  const key = 'tokenizer.ggml.scores';
  const scores = metadata.numbers(key);
  if (scores !== undefined && scores.length >= count) return scores;
  throw metadata.error(
    key,
    `has ${scores?.length ?? 0} items for ${count} tokens. Convert the checkpoint to GGUF again.`,
  );
}

/**
 * Merges in the order in which the scores would make them: every split of every piece into two pieces, best piece first;
 * among equals the lower id. Transformers' converter does the same.
 */
function mergesOf(
  file: string,
  tokens: readonly VocabularyToken[],
  scores: readonly number[],
): (readonly [string, string])[] {
  const pieces = tokens.filter(({ type }) => type === TokenType.normal);
  const ids = new Map(pieces.map(({ text, id }) => [text, id]));
  const score = ({ id }: VocabularyToken): number => scores[id] ?? -Infinity;
  const ordered = [...pieces].sort((a, b) => score(b) - score(a) || a.id - b.id);
  return ordered.flatMap(({ id, text }) => {
    if (text.length > MAX_PIECE) {
      throw new AccelError(
        'ERR_ACCEL_TOKENIZER',
        `${file}: token ${id} has ${text.length} characters; pieces have at most ${MAX_PIECE}. The file is damaged: fetch it again.`,
      );
    }
    return splitsOf(text, ids);
  });
}

function splitsOf(piece: string, ids: ReadonlyMap<string, number>): (readonly [string, string])[] {
  const splits: { readonly pair: readonly [string, string]; readonly rank: [number, number] }[] =
    [];
  for (let at = 1; at < piece.length; at++) {
    const pair = [piece.slice(0, at), piece.slice(at)] as const;
    const [left, right] = [ids.get(pair[0]), ids.get(pair[1])];
    if (left !== undefined && right !== undefined) splits.push({ pair, rank: [left, right] });
  }
  splits.sort((a, b) => a.rank[0] - b.rank[0] || a.rank[1] - b.rank[1]);
  return splits.map(({ pair }) => pair);
}
