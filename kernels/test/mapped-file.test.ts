import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Device, MappedFile } from '../ts/index.js';
import { expectError } from './support/errors.js';

const folder = mkdtempSync(join(tmpdir(), 'accel-map-'));
afterAll(() => rmSync(folder, { recursive: true }));
const stream = Device.open().createStream();

function file(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

const floats = Float32Array.from({ length: 64 }, (_, i) => i / 4);
const path = file('floats', new Uint8Array(floats.buffer));

test('tensors lie in the file and keep it mapped', async () => {
  const mapped = MappedFile.open(path);
  expect(mapped.byteLength).toBe(256);
  using x = mapped.tensor('float32', [4, 4], 64);
  expect([...mapped.bytes(0, 4)]).toEqual([0, 0, 0, 0]);
  mapped.dispose();
  expect(await x.read(stream)).toEqual(floats.slice(16, 32));
  expectError(() => mapped.bytes(0, 1), 'ERR_ACCEL_DISPOSED');
});

test('a tensor of the file can be brought to a device', async () => {
  const mapped = MappedFile.open(path);
  using other = Device.open().createStream();
  using x = mapped.tensor('float32', [4, 4], 64);
  expectError(() => mapped.tensor('float32', [64], 4), 'ERR_ACCEL_FILE', /truncated/);
  mapped.dispose();
  expect(x.to(other)).toBe(x);
  expect(await x.to(other).read(other)).toEqual(floats.slice(16, 32));
});

test('misaligned data is copied', async () => {
  const shifted = new Uint8Array(257);
  shifted.set(new Uint8Array(floats.buffer), 1);
  using mapped = MappedFile.open(file('shifted', shifted));
  using x = mapped.tensor('float32', [64], 1);
  expect(await x.read(stream)).toEqual(floats);
});

test('writing to a tensor leaves the file alone', async () => {
  using mapped = MappedFile.open(path);
  using x = mapped.tensor('float32', [2], 0);
  x.write(stream, Float32Array.of(7, 8));
  expect([...(await x.read(stream))]).toEqual([7, 8]);
  expect(new Float32Array(new Uint8Array(readFileSync(path)).buffer)[1]).toBe(0.25);
});

test('an empty file', async () => {
  using mapped = MappedFile.open(file('empty', new Uint8Array(0)));
  expect(mapped.byteLength).toBe(0);
  expect(mapped.bytes(0, 0)).toHaveLength(0);
  using x = mapped.tensor('float32', [0], 0);
  expect(await x.read(stream)).toHaveLength(0);
});

test('what lies outside the file is refused', () => {
  using mapped = MappedFile.open(path);
  expectError(
    () => mapped.tensor('float32', [65], 0),
    'ERR_ACCEL_FILE',
    /has 256 bytes.*truncated/,
  );
  expectError(() => mapped.tensor('float32', [1], 256), 'ERR_ACCEL_FILE');
  expectError(() => mapped.tensor('uint8', [2 ** 40], 0), 'ERR_ACCEL_FILE');
  expectError(() => mapped.tensor('float32', [1], -4), 'ERR_ACCEL_ARGUMENT', /byteOffset is -4/);
  expectError(() => mapped.tensor('float32', [1], 2 ** 53), 'ERR_ACCEL_FILE');
  expectError(() => mapped.bytes(250, 7), 'ERR_ACCEL_FILE');
  expectError(() => mapped.bytes(0.5, 7), 'ERR_ACCEL_ARGUMENT');
});

test('what cannot be opened is an error with the path', () => {
  expectError(() => MappedFile.open(join(folder, 'none')), 'ERR_ACCEL_FILE', /none: No such file/);
  expectError(() => MappedFile.open(folder), 'ERR_ACCEL_FILE', /not a regular file/);
});
