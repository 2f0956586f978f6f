import { AccelError } from '@accel/kernels';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { headerLength, parseHeader, type TensorInfo } from '../../src/weights/header.js';
import { findDuplicateKey } from '../../src/weights/json-keys.js';
import { floats, safetensors } from './build.js';

const { header, bytes } = floats({ 'model.a': [2, 3], 'model.b': [4], c: [1, 1, 5] });
const valid = safetensors({ __metadata__: { format: 'pt' }, ...header }, bytes);

function read(file: Uint8Array): TensorInfo[] {
  const length = headerLength('f', file.subarray(0, 8), file.length);
  return parseHeader('f', file.subarray(8, 8 + length), file.length);
}

/** Either an error of ours, or tensors that lie inside the file and fill it exactly. */
function expectSafe(file: Uint8Array): void {
  let infos: TensorInfo[];
  try {
    infos = read(file);
  } catch (error) {
    if (!AccelError.isInstance(error)) throw error;
    expect(error.code).toBe('ERR_ACCEL_WEIGHTS');
    return;
  }
  const data = file.length - 8 - headerLength('f', file.subarray(0, 8), file.length);
  expect(infos.reduce((sum, info) => sum + info.byteLength, 0)).toBe(data);
  for (const { byteOffset, byteLength } of infos) {
    expect(byteOffset + byteLength).toBeLessThanOrEqual(file.length);
  }
}

test('the file that is mutated is valid', () => {
  expect(read(valid).map(({ name }) => name)).toEqual(['model.a', 'model.b', 'c']);
});

test('changed bytes, cuts and additions never crash', () => {
  const change = fc.tuple(fc.nat(valid.length - 1), fc.nat(255));
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 6 }),
      fc.integer({ min: -40, max: 40 }),
      (changes, growth) => {
        const file = Buffer.concat([valid, Buffer.alloc(Math.max(0, growth))]);
        for (const [at, value] of changes) file[at] = value;
        expectSafe(file.subarray(0, valid.length + growth));
      },
    ),
    { numRuns: 3000 },
  );
});

test('headers of any JSON never crash', () => {
  const entry = fc.record(
    {
      dtype: fc.oneof(fc.constantFrom('F32', 'BF16', 'F4', 'U8'), fc.jsonValue()),
      shape: fc.oneof(
        fc.array(fc.oneof(fc.nat(8), fc.maxSafeInteger(), fc.double()), { maxLength: 4 }),
        fc.jsonValue(),
      ),
      data_offsets: fc.oneof(fc.tuple(fc.nat(64), fc.nat(64)), fc.jsonValue()),
    },
    { requiredKeys: [] },
  );
  const document = fc.oneof(
    fc.dictionary(fc.string(), fc.oneof(entry, fc.jsonValue())),
    fc.jsonValue(),
  );
  fc.assert(
    fc.property(document, fc.nat(64), (value, data) => {
      expectSafe(safetensors(JSON.stringify(value), data));
    }),
    { numRuns: 2000 },
  );
});

test('duplicate keys are found exactly where there are some', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = JSON.stringify(value, null, 1);
      expect(findDuplicateKey(text)).toBeUndefined();
      const key = '"a\\"b"';
      expect(findDuplicateKey(`[${text}, {${key}: ${text}, ${key} : 1}]`)).toBe('a"b');
    }),
  );
});
