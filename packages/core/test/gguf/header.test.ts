import { describe, expect, test } from 'vitest';
import { parseGguf } from '../../src/gguf/header.js';
import { tensorTypes } from '../../src/gguf/tensor-types.js';
import { expectFailure } from '../shared.js';
import { metadataOf, source } from './build.js';
import { ggufBytes, type GgufTensor, string, u32, u64 } from './writer.js';

const metadata = {
  'general.architecture': { text: 'llama' },
  'a.count': { u32: 7 },
  'a.part': { f32: 0.25 },
  'a.flag': { bool: true },
  'a.words': { texts: ['one', '', 'drei ✓'] },
  'a.numbers': { i32s: [1, -2, 3] },
};
const tensors: GgufTensor[] = [
  { name: 'm', type: 0, shape: [2, 3], data: new Uint8Array(24) },
  { name: 'q', type: 12, shape: [2, 256], data: new Uint8Array(288) },
  { name: 'v', type: 30, shape: [5], data: new Uint8Array(10) },
];
const valid = ggufBytes({ metadata, tensors });
const parse = (bytes: Uint8Array): ReturnType<typeof parseGguf> =>
  parseGguf('model.gguf', source(bytes));

describe('a good file', () => {
  test.each([2, 3])('of version %i', (version) => {
    const header = parse(ggufBytes({ metadata, tensors, version }));
    expect(header.metadata.keys).toEqual(Object.keys(metadata));
    expect(header.tensors).toMatchObject([
      { name: 'm', shape: [2, 3], dtype: 'float32', storedAs: 'F32', byteLength: 24 },
      { name: 'q', shape: [2, 256], dtype: undefined, packed: 'Q4_K', byteLength: 288 },
      { name: 'v', shape: [5], dtype: 'bfloat16', storedAs: 'BF16', byteLength: 10 },
    ]);
    for (const { byteOffset, byteLength } of header.tensors) {
      expect(byteOffset % 32).toBe(0);
      expect(byteOffset + byteLength).toBeLessThanOrEqual(valid.length);
    }
  });

  test('gives values of metadata', () => {
    const { metadata: values } = parse(valid);
    expect(values.text('general.architecture')).toBe('llama');
    expect(values.number('a.count')).toBe(7);
    expect(values.number('a.part')).toBe(0.25);
    expect(values.boolean('a.flag')).toBe(true);
    expect(values.texts('a.words')).toEqual(['one', '', 'drei ✓']);
    expect(values.numbers('a.numbers')).toEqual([1, -2, 3]);
    expect(values.text('a.none')).toBeUndefined();
    expect(values.texts('a.none')).toBeUndefined();
  });

  test('says which type a value should have', async () => {
    const values = metadataOf(metadata);
    const wrong = async (read: () => unknown, words: RegExp): Promise<void> => {
      await expectFailure(read, 'ERR_ACCEL_CONFIG', words);
    };
    await wrong(() => values.number('a.flag'), /a\.flag must be a number, not a bool/);
    await wrong(() => values.text('a.count'), /a\.count must be a text, not a uint32/);
    await wrong(() => values.texts('a.numbers'), /list of texts, not 3 items of type int32/);
    await wrong(() => values.numbers('a.words'), /list of numbers, not 3 items of type string/);
    await wrong(() => values.boolean('a.words'), /true or false/);
  });

  test('without tensors, as vocabularies are', () => {
    expect(parse(ggufBytes({ metadata })).tensors).toEqual([]);
  });
});

test('sizes of tensor types', () => {
  const bits = [...tensorTypes.values()].map(({ name, elements, bytes }) => [
    name,
    (8 * bytes) / elements,
  ]);
  expect(Object.fromEntries(bits)).toMatchObject({ F32: 32, BF16: 16, Q4_K: 4.5, Q6_K: 6.5625 });
  expect(new Set([...tensorTypes.values()].map(({ name }) => name)).size).toBe(tensorTypes.size);
});

describe('a damaged file', () => {
  const head = (tensorCount: number | bigint, pairs: number | bigint, ...rest: Buffer[]): Buffer =>
    Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensorCount), u64(pairs), ...rest]);
  const room = Buffer.alloc(256);
  const tensor = (shape: (number | bigint)[], type: number, offset: number, name = 'w'): Buffer =>
    Buffer.concat([
      ...[string(name), u32(shape.length), ...shape.map(u64)],
      ...[u32(type), u64(offset)],
    ]);
  const cases: [string, Uint8Array, RegExp][] = [
    ['nothing', new Uint8Array(0), /does not begin as a GGUF file/],
    ['another format', Buffer.from('PK'.repeat(40)), /does not begin as a GGUF file/],
    [
      'version 1',
      Buffer.concat([Buffer.from('GGUF'), u32(1), room]),
      /version 1; versions 2 and 3/,
    ],
    ['big endian', Buffer.concat([Buffer.from('GGUF'), u32(3 << 24), room]), /big-endian/],
    ['a count above 2^53', head(2n ** 60n, 0), /above all sizes/],
    ['too many tensors', head(70_000, 0, Buffer.alloc(4_000_000)), /70000 tensors, at most/],
    ['more tensors than bytes', head(1000, 0, room), /1000 tensors, more than its bytes/],
    ['more pairs than bytes', head(0, 1000, room), /1000 key-value pairs, more than/],
    ['a key longer than the file', head(0, 1, u64(1000), room), /1000 bytes are needed/],
    ['a huge key', head(0, 1, u64(2 ** 40), room), /name of 1099511627776 bytes/],
    [
      'a text longer than the file',
      head(0, 1, string('k'), u32(8), u64(2 ** 40), room),
      /1099511627776 bytes are needed/,
    ],
    [
      'a list longer than the file',
      head(0, 1, string('k'), u32(9), u32(4), u64(2 ** 33), room),
      /gives k 8589934592 items/,
    ],
    ['a list of lists', head(0, 1, string('k'), u32(9), u32(9), u64(1), room), /list of lists/],
    ['a type that is none', head(0, 1, string('k'), u32(13), room), /value of type 13/],
    [
      'a key twice',
      head(0, 2, string('k'), u32(7), u32(0).subarray(3), string('k'), u32(7), room),
      /key "k" twice/,
    ],
    ['a key that is no text', head(0, 1, u64(1), Buffer.from([0xff]), u32(7), room), /not UTF-8/],
    [
      'an odd alignment',
      head(0, 1, string('general.alignment'), u32(4), u32(48), room),
      /alignment 48/,
    ],
    ['no alignment', head(0, 1, string('general.alignment'), u32(4), u32(0), room), /alignment 0/],
    ['five dimensions', head(1, 0, tensor([1, 1, 1, 1, 1], 0, 0), room), /5 dimensions/],
    ['an extent of zero', head(1, 0, tensor([4, 0], 0, 0), room), /0 bytes/],
    [
      'a product above 2^64',
      head(1, 0, tensor([2 ** 40, 2 ** 40], 0, 0), room),
      /places tensor "w"/,
    ],
    ['an unknown type', head(1, 0, tensor([4], 77, 0), room), /type 77, which is unknown/],
    ['part of a block', head(1, 0, tensor([100], 12, 0), room), /multiples of 256/],
    ['an offset outside', head(1, 0, tensor([4], 0, 2 ** 40), room), /places tensor "w"/],
    ['an offset between', head(1, 0, tensor([4], 0, 8), room), /no multiple of 32/],
    ['an overlap', head(2, 0, tensor([16], 0, 0), tensor([4], 0, 32, 'x'), room), /"x" overlap/],
    ['a name twice', head(2, 0, tensor([4], 0, 0), tensor([4], 0, 32), room), /tensor "w" twice/],
  ];
  test.each(cases)('%s', async (_, bytes, words) => {
    await expectFailure(
      () => parse(bytes),
      'ERR_ACCEL_WEIGHTS',
      'model.gguf',
      words,
      'fetch it again',
    );
  });

  test('cut anywhere in front of its last tensor', async () => {
    for (let length = 0; length < valid.length - 32; length++) {
      await expectFailure(() => parse(valid.subarray(0, length)), 'ERR_ACCEL_WEIGHTS');
    }
  });
});

test('a vocabulary of 150,000 tokens and as many merges is passed in well under a second', () => {
  const texts = Array.from({ length: 150_000 }, (_, i) => `token ${i}`);
  const bytes = ggufBytes({
    metadata: { 'tokenizer.ggml.tokens': { texts }, 'tokenizer.ggml.merges': { texts } },
  });
  const start = performance.now();
  const header = parse(bytes);
  expect(performance.now() - start).toBeLessThan(1000);
  expect(header.metadata.texts('tokenizer.ggml.merges')?.[149_999]).toBe('token 149999');
});

test('reads no more of a file than its header', () => {
  const file = source(
    ggufBytes({
      metadata,
      tensors: [{ name: 'w', type: 0, shape: [2 ** 22], data: new Uint8Array(2 ** 24) }],
    }),
  );
  let read = 0;
  parseGguf('model.gguf', {
    byteLength: file.byteLength,
    bytes: (offset, length) => {
      read += length;
      return file.bytes(offset, length);
    },
  });
  expect(read).toBeLessThan(1.1 * 2 ** 20);
});
