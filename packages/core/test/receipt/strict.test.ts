import { expect, test } from 'vitest';
import type { Receipt } from '../../src/receipt/receipt.js';
import { assertStrict } from '../../src/receipt/strict.js';
import { expectFailure } from '../shared.js';

function receipt(
  rows: number,
  acted: number,
  idleRows: number | undefined,
  fallbacks: string[] = [],
): Receipt {
  return {
    policy: { version: 1, parts: [{ id: 'snapkv', slot: 'select', options: {} }] },
    parts: [
      {
        id: 'snapkv',
        slot: 'select',
        acted,
        notes: [],
        ...(idleRows !== undefined && { idleRows }),
      },
    ],
    layers: [{ rowsIn: [rows, rows], rowsKept: [rows, rows] }],
    kv: { measuredBytes: 0, arithmeticBytes: 0, fullBytes: 0 },
    tokens: { prefill: rows, decode: 0 },
    seconds: { prefill: 0, decode: 0 },
    kernels: {},
    fallbacks,
  };
}

test('a part that acted, or had nothing to do, passes', () => {
  assertStrict(receipt(1000, 8, 512));
  assertStrict(receipt(512, 0, 512));
  assertStrict(receipt(0, 0, undefined));
  expect(() => {
    assertStrict({ ...receipt(100, 0, 0), parts: [] });
  }).not.toThrow();
});

test('a part that should have acted does not', async () => {
  await expectFailure(
    () => assertStrict(receipt(513, 0, 512)),
    'ERR_ACCEL_STRICT',
    'snapkv never acted on 513 rows (it may idle up to 512)',
  );
  await expectFailure(
    () => assertStrict(receipt(1, 0, undefined)),
    'ERR_ACCEL_STRICT',
    'snapkv never acted on 1 rows',
  );
});

test('a part that encodes is judged by the rows that are left to it', async () => {
  const { parts, layers, ...rest } = receipt(1000, 0, 128);
  const encoding = parts.map((part) => ({ ...part, id: 'kivi', slot: 'codec' }) as const);
  const left = (rows: number): Receipt => ({
    ...rest,
    parts: encoding,
    layers: layers.map((layer) => ({ ...layer, rowsKept: [rows, rows - 1] })),
  });
  expect(() => {
    assertStrict(left(128));
  }).not.toThrow();
  await expectFailure(
    () => assertStrict(left(200)),
    'ERR_ACCEL_STRICT',
    'kivi never acted on 200 rows (it may idle up to 128)',
  );
});

test('a fallback does not', async () => {
  await expectFailure(
    () => assertStrict(receipt(10, 1, 5, ['dense attention in layer 3'])),
    'ERR_ACCEL_STRICT',
    'fallback: dense attention in layer 3',
  );
});

test('a part that acts while decoding may idle until something was decoded', async () => {
  const { parts, ...rest } = receipt(1000, 0, 512);
  const merging = parts.map(
    (part) => ({ ...part, id: 'cam', slot: 'merge', when: 'decode' }) as const,
  );
  expect(() => {
    assertStrict({ ...rest, parts: merging });
  }).not.toThrow();
  await expectFailure(
    () => assertStrict({ ...rest, parts: merging, tokens: { prefill: 1000, decode: 1 } }),
    'ERR_ACCEL_STRICT',
    'cam never acted',
  );
});
