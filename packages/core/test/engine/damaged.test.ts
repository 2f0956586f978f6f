import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { AccelError, loadModel } from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { needleDir } from './support.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'accel-damaged-'));
  cpSync(needleDir, dir, { recursive: true });
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

async function failure(device = 'cpu'): Promise<AccelError> {
  try {
    using model = await loadModel(dir, { device });
    throw new Error(`${model.path} loaded`);
  } catch (error) {
    if (AccelError.isInstance(error)) return error;
    throw error;
  }
}

/** Overwrites two bytes of a named tensor's data. */
function poke(name: string, word: number): void {
  const file = join(dir, 'model.safetensors');
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  const offset = 8 + length + (header[name] as { data_offsets: [number, number] }).data_offsets[0];
  bytes.writeUInt16LE(word, offset + 20);
  writeFileSync(file, bytes);
}

function editConfig(change: Record<string, unknown>): void {
  const file = join(dir, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  writeFileSync(file, JSON.stringify({ ...config, ...change }));
}

describeDevices('weights', (device) => {
  for (const [kind, word] of [
    ['a NaN', 0x7fc0],
    ['an infinity', 0x7f80],
  ] as const) {
    test(`${kind} in the weights is found and named`, async () => {
      poke('model.layers.3.mlp.up_proj.weight', word);
      const { code, message } = await failure(device);
      expect(code).toBe('ERR_ACCEL_NAN');
      expect(message).toContain('layers.3.up');
    });
  }
});

test('a truncated weight file', async () => {
  const file = join(dir, 'model.safetensors');
  writeFileSync(file, readFileSync(file).subarray(0, 5_000_000));
  expect((await failure()).code).toBe('ERR_ACCEL_WEIGHTS');
});

test('missing weights, missing config, no folder', async () => {
  rmSync(join(dir, 'model.safetensors'));
  expect((await failure()).code).toMatch(/ERR_ACCEL_(FILE|WEIGHTS)/);
  rmSync(join(dir, 'config.json'));
  expect((await failure()).code).toMatch(/ERR_ACCEL_(FILE|CONFIG)/);
  await expect(loadModel(join(dir, 'nowhere'))).rejects.toMatchObject({
    code: expect.stringMatching(/ERR_ACCEL_(FILE|CONFIG)/) as string,
  });
});

test('an unknown architecture lists the known ones', async () => {
  editConfig({ architectures: ['MambaForCausalLM'], model_type: 'mamba' });
  const { code, message } = await failure();
  expect(code).toBe('ERR_ACCEL_ARCHITECTURE');
  expect(message).toMatch(/llama/i);
});

test('a config that does not fit the weights names the tensor and both shapes', async () => {
  editConfig({ intermediate_size: 700 });
  const { code, message } = await failure();
  expect(code).toBe('ERR_ACCEL_WEIGHTS');
  expect(message).toMatch(/\[704, 256\].*\[700, 256\]/);
});

test('a device that is not there', async () => {
  await expect(loadModel(dir, { device: 'tpu' })).rejects.toMatchObject({
    code: 'ERR_ACCEL_NO_DEVICE',
  });
});
