import { beforeAll, describe, expect, test } from 'vitest';
import { buildTokenizer } from '../../src/gguf/tokenizer.js';
import { readVocabulary } from '../../src/gguf/vocabulary.js';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { expectFailure, missing } from '../shared.js';
import { goldenNames, goldenOf, goldenStrings } from '../tokenizer/goldens.js';
import { metadataOf } from './build.js';
import { tokenizerMetadata } from './tokenizer-metadata.js';
import type { GgufValue } from './writer.js';

function build(values: Readonly<Record<string, GgufValue>>): Tokenizer {
  const metadata = metadataOf(values);
  const vocabulary = readVocabulary('test.gguf', metadata);
  if (vocabulary === undefined) throw new Error('no vocabulary');
  return buildTokenizer('test.gguf', metadata, vocabulary);
}

/**
 * GGUF does not say which of two ways a SentencePiece tokenizer has; llama.cpp's and SentencePiece's own puts a space in
 * front of every stretch of text, Metaspace in front of the first word only, and not when there is one.
 */
const METASPACE = ['mistral-v3', 'spm-metaspace'];

describe.skipIf(missing).each(goldenNames)('%s from GGUF metadata', (name) => {
  let tokenizer: Tokenizer;
  let special: string[];
  beforeAll(() => {
    const metadata = tokenizerMetadata(name);
    tokenizer = build(metadata);
    const { texts } = metadata['tokenizer.ggml.tokens'] as { texts: string[] };
    const { i32s } = metadata['tokenizer.ggml.token_type'] as { i32s: number[] };
    special = texts.filter((_, id) => i32s[id] === 3 || i32s[id] === 2);
  });

  test('gives the ids and texts of the Rust library', () => {
    const { cases, prefix_ids: prefix } = goldenOf(name);
    let compared = 0;
    for (const [i, text] of goldenStrings().entries()) {
      if (METASPACE.includes(name)) {
        if (text.startsWith(' ') || special.some((token) => text.includes(token))) continue;
      }
      const {
        ids,
        decoded = text,
        decoded_skip_special: skipped = decoded,
      } = cases[i] ?? {
        ids: [],
      };
      expect([...tokenizer.encode(text, { addSpecial: false })], text).toEqual(ids);
      expect([...tokenizer.encode(text, { addSpecial: true })], text).toEqual([...prefix, ...ids]);
      expect(tokenizer.decode(ids), text).toBe(decoded);
      expect(tokenizer.decode(ids, { skipSpecial: true }), text).toBe(skipped);
      compared++;
    }
    expect(compared).toBeGreaterThan(50);
  });
});

/** Characters and the pair "ab", as byte-level BPE. */
const small: Record<string, GgufValue> = {
  'tokenizer.ggml.model': { text: 'gpt2' },
  'tokenizer.ggml.pre': { text: 'gpt-2' },
  'tokenizer.ggml.tokens': { texts: ['a', 'b', 'ab', '<|im_end|>', '<x>', '[PAD5]', '<bos>'] },
  'tokenizer.ggml.token_type': { i32s: [1, 1, 1, 3, 4, 5, 3] },
  'tokenizer.ggml.merges': { texts: ['a b'] },
};

describe('special tokens', () => {
  const bos = { 'tokenizer.ggml.bos_token_id': { u32: 6 } };
  const eos = { 'tokenizer.ggml.eos_token_id': { u32: 3 } };

  test('stand in front and behind as the metadata say', () => {
    const encode = (values: Record<string, GgufValue>): number[] => [
      ...build({ ...small, ...bos, ...eos, ...values }).encode('ab'),
    ];
    expect(encode({})).toEqual([2]);
    expect(encode({ 'tokenizer.ggml.add_bos_token': { bool: true } })).toEqual([6, 2]);
    expect(encode({ 'tokenizer.ggml.add_eos_token': { bool: true } })).toEqual([2, 3]);
    const llama = { 'tokenizer.ggml.pre': { text: 'llama-bpe' } };
    expect(encode(llama)).toEqual([6, 2]);
    expect(encode({ ...llama, 'tokenizer.ggml.add_bos_token': { bool: false } })).toEqual([2]);
  });

  test('end a generation if the file names them or llama.cpp would know them', () => {
    const ends = (values: Record<string, GgufValue>): readonly number[] | undefined =>
      readVocabulary('test.gguf', metadataOf({ ...small, ...values }))?.eosTokenIds;
    expect(ends({})).toEqual([3]);
    expect(ends({ 'tokenizer.ggml.eos_token_id': { u32: 6 } })).toEqual([6, 3]);
    expect(ends({ 'tokenizer.ggml.eot_token_id': { u32: 4 } })).toEqual([4, 3]);
    expect(ends({ 'tokenizer.ggml.eos_token_id': { u32: 4_294_967_295 } })).toEqual([3]);
  });

  test('are recognised in a text, unused entries are not', () => {
    const tokenizer = build(small);
    expect([...tokenizer.encode('a<x>b<|im_end|>')]).toEqual([0, 4, 1, 3]);
    expect(tokenizer.decode([2, 5, 4, 3])).toBe('ab<x><|im_end|>');
    expect(tokenizer.decode([2, 4, 3], { skipSpecial: true })).toBe('ab<x>');
  });
});

test('chat templates, the usual one and others', () => {
  const tokenizer = build({
    ...small,
    'tokenizer.ggml.bos_token_id': { u32: 6 },
    'tokenizer.chat_template': { text: '{{ bos_token }}{{ messages[0].content }}' },
    'tokenizer.chat_template.tool_use': { text: 'tools' },
    'tokenizer.chat_templates': { texts: ['tool_use'] },
  });
  const messages = [{ role: 'user', content: 'hi' }];
  expect(tokenizer.chat(messages)).toBe('<bos>hi');
  expect(tokenizer.chat(messages, { template: 'tool_use' })).toBe('tools');
  expect(build(small).hasChatTemplate).toBe(false);
});

describe('what cannot be used is named', () => {
  const cases: [string, Record<string, GgufValue>, 'TOKENIZER' | 'CONFIG', RegExp][] = [
    [
      'another kind of tokenizer',
      { 'tokenizer.ggml.model': { text: 'bert' } },
      'TOKENIZER',
      /model is "bert"; supported are gpt2.*llama/,
    ],
    [
      'another way of cutting text',
      { 'tokenizer.ggml.pre': { text: 'command-r' } },
      'TOKENIZER',
      /pre is "command-r".*Supported: llama-bpe.*default/,
    ],
    [
      "ChatGLM3's",
      { 'tokenizer.ggml.model': { text: 'llama' }, 'tokenizer.ggml.pre': { text: 'chatglm-spm' } },
      'TOKENIZER',
      /ChatGLM3/,
    ],
    [
      'two tokens of one text',
      { 'tokenizer.ggml.tokens': { texts: ['a', 'b', 'a', 'c', 'd', 'e', 'f'] } },
      'TOKENIZER',
      /tokens 0 and 2 have the same text "a"/,
    ],
    [
      'types for other tokens',
      { 'tokenizer.ggml.token_type': { i32s: [1] } },
      'CONFIG',
      /token_type has 1 items for 7 tokens/,
    ],
    [
      'tokens that are numbers',
      { 'tokenizer.ggml.tokens': { i32s: [1, 2] } },
      'CONFIG',
      /tokens must be a list of texts, not 2 items of type int32/,
    ],
    ['merges that are none', { 'tokenizer.ggml.merges': { texts: ['ab'] } }, 'CONFIG', /no pair/],
    [
      'no scores',
      { 'tokenizer.ggml.model': { text: 'llama' } },
      'CONFIG',
      /scores has 0 items for 7 tokens/,
    ],
    [
      'a piece as long as a page',
      {
        'tokenizer.ggml.model': { text: 'llama' },
        'tokenizer.ggml.tokens': {
          texts: ['x'.repeat(400), 'b', 'ab', '<e>', '<x>', '[PAD5]', '<bos>'],
        },
        'tokenizer.ggml.scores': { f32s: [0, 0, 0, 0, 0, 0, 0] },
      },
      'TOKENIZER',
      /token 0 has 400 characters/,
    ],
  ];
  test.each(cases)('%s', async (_, values, code, words) => {
    await expectFailure(() => build({ ...small, ...values }), `ERR_ACCEL_${code}`, words);
  });

  test('no merges', async () => {
    const rest = Object.fromEntries(
      Object.entries(small).filter(([key]) => key !== 'tokenizer.ggml.merges'),
    );
    await expectFailure(() => build(rest), 'ERR_ACCEL_CONFIG', 'merges is missing');
  });
});
