import { join } from 'node:path';
import { Device, type Stream } from '@accel/kernels';
import { describe, expect, test } from 'vitest';
import { openWeights } from '../../src/weights/weights.js';
import { expectFailure, missing, shared } from '../shared.js';
import { floats, folder, safetensors } from './build.js';

function open(header: object | string, data: Uint8Array | number): void {
  using dir = folder({ 'model.safetensors': safetensors(header, data) });
  using _ = openWeights(dir.path);
}

describe('a good file', () => {
  test('gives names, formats, shapes and numbers', async () => {
    const values = Float32Array.of(1, -2, 3.5, 0.25, 7, 8);
    const header = {
      __metadata__: { format: 'pt' },
      'b.weight': { dtype: 'F32', shape: [2, 2], data_offsets: [8, 24] },
      a: { dtype: 'F32', shape: [2], data_offsets: [0, 8] },
      empty: { dtype: 'I64', shape: [0, 3], data_offsets: [24, 24] },
    };
    using dir = folder({ 'model.safetensors': safetensors(header, new Uint8Array(values.buffer)) });
    using weights = openWeights(dir.path);
    expect([...weights.names].sort()).toEqual(['a', 'b.weight', 'empty']);
    expect(weights.info('b.weight')).toMatchObject({
      storedAs: 'F32',
      dtype: 'float32',
      shape: [2, 2],
      byteLength: 16,
    });
    expect(weights.info('empty').dtype).toBeUndefined();
    using stream: Stream = Device.open('cpu').createStream();
    using a = weights.tensor('a');
    using b = weights.tensor('b.weight');
    // A mapping lives as long as its tensors.
    weights.dispose();
    expect(await a.read(stream)).toEqual(Float32Array.of(1, -2));
    expect(await b.read(stream)).toEqual(Float32Array.of(3.5, 0.25, 7, 8));
    await expectFailure(() => weights.tensor('a'), 'ERR_ACCEL_DISPOSED');
  });

  test('of other formats says how to convert them', async () => {
    const header = { x: { dtype: 'F8_E4M3', shape: [4], data_offsets: [0, 4] } };
    using dir = folder({ 'model.safetensors': safetensors(header, 4) });
    using weights = openWeights(dir.path);
    await expectFailure(() => weights.tensor('x'), 'ERR_ACCEL_WEIGHTS', 'F8_E4M3', 'Convert');
    await expectFailure(() => weights.info('y'), 'ERR_ACCEL_WEIGHTS', 'no tensor y');
  });

  test.skipIf(missing)('every golden checkpoint opens, single or in shards', () => {
    for (const name of ['llama-tied', 'qwen2', 'mistral']) {
      using weights = openWeights(join(shared, 'golden/models', name));
      expect(weights.names.length).toBeGreaterThan(10);
      expect(weights.info('model.embed_tokens.weight').storedAs).toBe('BF16');
    }
  });
});

describe('a damaged file is refused before its data is touched', () => {
  const { header, bytes } = floats({ a: [2, 2], b: [3] });
  const one = (entry: object): object => ({
    x: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...entry },
  });

  const cases: [string, () => void, string | RegExp][] = [
    ['empty', () => openBytes(new Uint8Array(0)), 'too short'],
    ['shorter than a length', () => openBytes(new Uint8Array(7)), 'too short'],
    [
      'a header longer than the file',
      () => openBytes(Buffer.from('ffffffffffffff7f7b7d', 'hex')),
      'does not fit',
    ],
    ['a header of no bytes', () => openBytes(new Uint8Array(8)), 'too short'],
    [
      'a header that is not UTF-8',
      () => openBytes(Buffer.from('0300000000000000ff7b7d', 'hex')),
      'not JSON in UTF-8',
    ],
    ['a header that is not JSON', () => open('{"a":', 0), 'not JSON'],
    ['a header that is a list', () => open('[]', 0), 'not a JSON object'],
    [
      'metadata that is no map of strings',
      () => open({ __metadata__: { a: 1 } }, 0),
      '__metadata__',
    ],
    ['an entry that is no object', () => open({ a: 1 }, 0), 'no description'],
    ['an unknown format', () => open(one({ dtype: 'F31' }), 8), 'unknown format "F31"'],
    ['a format from the prototype', () => open(one({ dtype: 'constructor' }), 8), 'unknown format'],
    ['no shape', () => open(one({ shape: undefined }), 8), 'invalid shape nothing'],
    ['a negative size', () => open(one({ shape: [-2] }), 8), 'invalid shape'],
    ['a fraction for a size', () => open(one({ shape: [2.5] }), 8), 'invalid shape'],
    [
      'a size above 2^53',
      () => open('{"x":{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,8]}}', 8),
      'invalid shape',
    ],
    [
      'sizes whose product overflows',
      () => open(one({ shape: [2 ** 40, 2 ** 40] }), 8),
      'takes 4835703278458516698824704',
    ],
    [
      'sizes whose product wraps to the range in 64 bits',
      () => open(one({ shape: [2 ** 32, 2 ** 32, 2] }), 0),
      /takes|places/,
    ],
    [
      'a rank beyond reason',
      () => open(one({ shape: Array.from({ length: 17 }, () => 1) }), 8),
      'invalid shape',
    ],
    [
      'offsets that are no pair',
      () => open(one({ data_offsets: [0, 4, 8] }), 8),
      'invalid data_offsets',
    ],
    ['offsets backwards', () => open(one({ data_offsets: [8, 0] }), 8), 'at bytes 8 to 0'],
    [
      'offsets outside the file',
      () => open(one({ data_offsets: [0, 8] }), 4),
      'at bytes 0 to 8 of 4',
    ],
    ['a shape that does not fill its range', () => open(one({ shape: [3] }), 8), 'takes 12'],
    [
      'half a byte',
      () => open(one({ dtype: 'F4', shape: [3], data_offsets: [0, 2] }), 2),
      'no whole number of bytes',
    ],
    [
      'overlapping tensors',
      () => open({ ...header, b: { dtype: 'F32', shape: [3], data_offsets: [12, 24] } }, 24),
      'overlap tensor "a"',
    ],
    [
      'a gap',
      () => open({ ...header, b: { dtype: 'F32', shape: [3], data_offsets: [20, 32] } }, 32),
      '4 unused bytes',
    ],
    ['bytes at the end', () => open(header, bytes + 1), '1 bytes after'],
    ['a truncated file', () => open(header, bytes - 1), 'at bytes 16 to 28 of 27'],
    [
      'a tensor named twice',
      () =>
        open(
          '{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0078":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
          1,
        ),
      'names "x" twice',
    ],
    [
      'a key twice in an entry',
      () => open('{"x":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}', 1),
      'names "shape" twice',
    ],
  ];
  test.each(cases)('%s', async (_, action, words) => {
    await expectFailure(action, 'ERR_ACCEL_WEIGHTS', words, 'model.safetensors', 'fetch it again');
  });

  function openBytes(content: Uint8Array): void {
    using dir = folder({ 'model.safetensors': content });
    using _ = openWeights(dir.path);
  }
});

describe('shards', () => {
  const a = floats({ a: [2] });
  const b = floats({ b: [3] });
  const shards = {
    'a.safetensors': safetensors(a.header, a.bytes),
    'b.safetensors': safetensors(b.header, b.bytes),
  };
  const openIndex = (map: unknown, text?: string): void => {
    const index = text ?? JSON.stringify({ metadata: { total_size: 20 }, weight_map: map });
    using dir = folder({ ...shards, 'model.safetensors.index.json': index });
    using weights = openWeights(dir.path);
    expect(weights.names).toEqual(['a', 'b']);
    expect(weights.info('b').file).toBe(join(dir.path, 'b.safetensors'));
  };

  test('of a good index', () => {
    openIndex({ a: 'a.safetensors', b: 'b.safetensors' });
  });

  const cases: [string, unknown, string | undefined, string | RegExp][] = [
    [
      'a missing shard',
      { a: 'a.safetensors', b: 'c.safetensors' },
      undefined,
      'names the shard c.safetensors',
    ],
    [
      'a tensor that its shard lacks',
      { a: 'b.safetensors' },
      undefined,
      'tensor a is in b.safetensors',
    ],
    ['a path upwards', { a: '../a.safetensors' }, undefined, 'not a plain'],
    ['a path from the root', { a: '/etc/a.safetensors' }, undefined, 'not a plain'],
    ['a Windows path', { a: 'c:\\a.safetensors' }, undefined, 'not a plain'],
    ['a file of another kind', { a: 'a.bin' }, undefined, 'not a plain'],
    ['no tensors', {}, undefined, 'lists no tensors'],
    ['no map', 7, undefined, 'no weight_map'],
    ['text that is not JSON', undefined, '{', 'not JSON'],
    [
      'a tensor listed twice',
      undefined,
      '{"weight_map":{"a":"a.safetensors","a":"b.safetensors"}}',
      'names "a" twice',
    ],
  ];
  test.each(cases)('%s', async (_, map, text, words) => {
    await expectFailure(() => openIndex(map, text), 'ERR_ACCEL_WEIGHTS', words);
  });
});

test('a folder without weights says what it has', async () => {
  using dir = folder({ 'pytorch_model.bin': 'x' });
  await expectFailure(
    () => openWeights(dir.path),
    'ERR_ACCEL_FILE',
    'pytorch_model.bin',
    'convert',
  );
  await expectFailure(() => openWeights(join(dir.path, 'nowhere')), 'ERR_ACCEL_FILE', 'no folder');
  using odd = folder({});
  await expectFailure(() => openWeights(join(odd.path)), 'ERR_ACCEL_FILE', 'neither');
});
