import { AccelError } from '@accel/kernels';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { findArchitecture, readBlueprint } from '../../src/gguf/architectures.js';
import { type GgufHeader, parseGguf } from '../../src/gguf/header.js';
import { buildTokenizer } from '../../src/gguf/tokenizer.js';
import { readVocabulary } from '../../src/gguf/vocabulary.js';
import { source } from './build.js';
import { ggufBytes, type GgufValue, string, u32, u64 } from './writer.js';

const letters = 'abcdefghijklmnop'.split('');
const metadata: Record<string, GgufValue> = {
  'general.architecture': { text: 'llama' },
  'llama.block_count': { u32: 1 },
  'llama.context_length': { u32: 64 },
  'llama.embedding_length': { u32: 8 },
  'llama.feed_forward_length': { u32: 16 },
  'llama.attention.head_count': { u32: 2 },
  'llama.attention.layer_norm_rms_epsilon': { f32: 1e-5 },
  'llama.rope.scaling.type': { text: 'linear' },
  'llama.rope.scaling.factor': { f32: 2 },
  'tokenizer.ggml.model': { text: 'llama' },
  'tokenizer.ggml.tokens': { texts: [...letters, 'ab', 'bc', 'abc', '<s>'] },
  'tokenizer.ggml.scores': { f32s: letters.concat('a', 'b', 'c', 'd').map((_, i) => -i) },
  'tokenizer.ggml.token_type': { i32s: [...letters.map(() => 1), 1, 1, 1, 3] },
  'tokenizer.ggml.merges': { texts: ['a b', 'b c', 'ab c'] },
  'tokenizer.ggml.bos_token_id': { u32: 19 },
  'tokenizer.ggml.add_bos_token': { bool: true },
  'tokenizer.chat_template': { text: '{{ messages[0].content }}' },
};
const tensors = [
  { name: 'token_embd.weight', type: 8, shape: [20, 32], data: new Uint8Array(680) },
  { name: 'blk.0.attn_q.weight', type: 0, shape: [8, 8], data: new Uint8Array(256) },
  { name: 'output_norm.weight', type: 1, shape: [8], data: new Uint8Array(16) },
];
const valid = ggufBytes({ metadata, tensors });

/** Bytes that the parser may hold beyond the file's own size: its window and what it says about tensors and keys. */
const MARGIN = 2 * 2 ** 20;

/** Parses, and checks that all it was given to read lies inside the file and is not much more than the file. */
function parse(file: Uint8Array): GgufHeader {
  const inside = source(file);
  let read = 0;
  const header = parseGguf('f', {
    byteLength: file.length,
    bytes: (offset, length) => {
      read += length;
      expect(read).toBeLessThanOrEqual(file.length + MARGIN);
      return inside.bytes(offset, length);
    },
  });
  return header;
}

/** Everything that loading does before weights are touched: an error of ours, or a model whose tensors lie in the file. */
function expectSafe(file: Uint8Array): 'refused' | 'read' {
  try {
    const { metadata: values, tensors: infos } = parse(file);
    let end = 0;
    for (const { byteOffset, byteLength } of [...infos].sort(
      (a, b) => a.byteOffset - b.byteOffset,
    )) {
      expect(byteOffset).toBeGreaterThanOrEqual(end);
      end = byteOffset + byteLength;
    }
    expect(end).toBeLessThanOrEqual(file.length);
    const vocabulary = readVocabulary('f', values);
    const { spec, layout } = readBlueprint('f', findArchitecture('f', values), {
      metadata: values,
      tensors: new Map(infos.map((info) => [info.name, info])),
      fallbackName: 'f',
      ropeFactors: undefined,
      bosTokenId: vocabulary?.special.bos,
      eosTokenIds: vocabulary?.eosTokenIds ?? [],
    });
    expect(spec.layers).toBeLessThanOrEqual(4096);
    layout.layer(spec.layers - 1);
    if (vocabulary !== undefined) buildTokenizer('f', values, vocabulary).encode('abc d');
    return 'read';
  } catch (error) {
    if (!AccelError.isInstance(error)) throw error;
    const codes = ['WEIGHTS', 'CONFIG', 'ARCHITECTURE', 'TOKENIZER'];
    expect(codes.map((code) => `ERR_ACCEL_${code}`)).toContain(error.code);
    return 'refused';
  }
}

test('the file that is mutated is valid', () => {
  expect(expectSafe(valid)).toBe('read');
});

test('changed bytes, cuts and additions never crash', () => {
  const change = fc.tuple(fc.nat(valid.length - 1), fc.nat(255));
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 6 }),
      fc.integer({ min: -400, max: 40 }),
      (changes, growth) => {
        const file = Buffer.concat([valid, Buffer.alloc(Math.max(0, growth))]);
        for (const [at, value] of changes) file[at] = value;
        expectSafe(file.subarray(0, valid.length + growth));
      },
    ),
    { numRuns: 3000 },
  );
});

test('numbers put anywhere, as lengths, counts, types and offsets, never crash', () => {
  const number = fc.oneof(
    fc.constantFrom(0n, 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
    fc.bigInt(0n, 40n),
    fc.bigInt(0n, BigInt(valid.length) * 2n),
  );
  const put = fc.tuple(fc.nat(valid.length - 9), number, fc.boolean());
  fc.assert(
    fc.property(fc.array(put, { minLength: 1, maxLength: 3 }), (puts) => {
      const file = Buffer.from(valid);
      for (const [at, value, wide] of puts) {
        if (wide) file.writeBigUInt64LE(value, at);
        else file.writeUInt32LE(Number(value & 0xffff_ffffn), at);
      }
      expectSafe(file);
    }),
    { numRuns: 3000 },
  );
});

test('values of any type under any key never crash', () => {
  const text = fc.oneof(fc.constantFrom('llama', 'gpt2', 'yarn', 'qwen2', '', 'a b'), fc.string());
  const value: fc.Arbitrary<GgufValue> = fc.oneof(
    fc.record({ u32: fc.oneof(fc.nat(64), fc.nat()) }),
    fc.record({ f32: fc.float() }),
    fc.record({ bool: fc.boolean() }),
    fc.record({ text }),
    fc.record({ texts: fc.array(text, { maxLength: 22 }) }),
    fc.record({ i32s: fc.array(fc.integer({ min: -1, max: 7 }), { maxLength: 22 }) }),
    fc.record({ f32s: fc.array(fc.float(), { maxLength: 22 }) }),
  );
  const more = [
    ...['rope.dimension_count', 'rope.freq_base', 'attention.key_length', 'expert_count'],
    ...['attention.sliding_window', 'rope.scaling.original_context_length'],
  ].map((key) => `llama.${key}`);
  const key = fc.constantFrom(
    ...Object.keys(metadata),
    ...more,
    'general.alignment',
    'general.name',
    'tokenizer.ggml.pre',
    'tokenizer.chat_template.x',
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(key, value), { minLength: 1, maxLength: 4 }), (changes) => {
      const changed = { ...metadata, ...Object.fromEntries(changes) };
      expectSafe(ggufBytes({ metadata: changed, tensors }));
    }),
    { numRuns: 2000 },
  );
});

test('the densest header takes little more memory than the file', () => {
  const most = 2 ** 16;
  const count = Array.from({ length: most }, (_, i) => i);
  const pairs = count.flatMap((i) => [string(`k${i}`), u32(7), Buffer.from([1])]);
  const infos = count.flatMap((i) => [string(`t${i}`), u32(1), u64(1), u32(24), u64(32 * i)]);
  const head = [Buffer.from('GGUF'), u32(3), u64(most), u64(most)];
  const file = Buffer.concat([...head, ...pairs, ...infos, Buffer.alloc(32 * most + 32)]);
  const before = process.memoryUsage().heapUsed;
  expect(parse(file).tensors).toHaveLength(most);
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(file.length + 64 * 2 ** 20);
});
