import { join } from 'node:path';
import { type BlockFormat, blockFormats } from '@accel/kernels';
import { expect, test } from 'vitest';
import { type ComputeDType, loadModel } from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { someTokens } from '../engine/support.js';
import { expectFailure } from '../shared.js';
import { folder } from '../weights/build.js';
import { quantisedTwins, type Twins } from './quantised-model.js';
import { ggufBytes } from './writer.js';

const formats = Object.keys(blockFormats) as BlockFormat[];
/** What llama.cpp's Q4_K_M and Q5_K_M files mix. */
const mixes: [string, BlockFormat[]][] = [
  ...formats.map((format): [string, BlockFormat[]] => [format, [format]]),
  ['a mix of all', formats],
];

async function logits(
  path: string,
  device: string,
  dtype: ComputeDType | 'auto',
): Promise<Float32Array> {
  using model = await loadModel(path, { device, dtype, kvBytes: 16 << 20 });
  if (dtype === 'auto') expect(model.dtype).toBe('bfloat16');
  using sequence = model.sequence();
  await sequence.append(someTokens(40, model.spec.vocabSize), { logits: 3 });
  return await sequence.logits();
}

async function both(
  { gguf, folder: files }: Twins,
  device: string,
  dtype: ComputeDType,
): Promise<[Float32Array, Float32Array]> {
  using dir = folder({ 'model.gguf': gguf, ...files });
  const file = join(dir.path, 'model.gguf');
  return [await logits(file, device, dtype), await logits(dir.path, device, dtype)];
}

describeDevices('a quantised GGUF model', (device) => {
  test.each(mixes)('in %s gives the logits of its unpacked weights', async (_, mix) => {
    const [packed, unpacked] = await both(await quantisedTwins(mix), device, 'bfloat16');
    expect(packed.some((value) => Math.abs(value) > 0.01)).toBe(true);
    expect(packed).toEqual(unpacked);
  });

  test('in float32 and float16 too', async () => {
    const twins = await quantisedTwins(formats);
    const dtypes: ComputeDType[] = device === 'cpu' ? ['float32', 'float16'] : ['float16'];
    for (const dtype of dtypes) {
      const [packed, unpacked] = await both(twins, device, dtype);
      expect(packed).toEqual(unpacked);
    }
  });

  test('is computed in bfloat16 unless asked otherwise', async () => {
    const { gguf } = await quantisedTwins(['Q4_K']);
    using dir = folder({ 'a.gguf': gguf });
    await logits(join(dir.path, 'a.gguf'), device, 'auto');
  });
});

test('formats that cannot be unpacked are named', async () => {
  const block = { name: 'token_embd.weight', shape: [1, 256], data: new Uint8Array(84) };
  const metadata = { 'general.architecture': { text: 'llama' } };
  using dir = folder({
    'a.gguf': ggufBytes({ metadata, tensors: [{ ...block, type: 10 }] }),
    'b.gguf': ggufBytes({ metadata, tensors: [{ ...block, type: 99 }] }),
  });
  await expectFailure(
    () => loadModel(join(dir.path, 'a.gguf')),
    'ERR_ACCEL_WEIGHTS',
    'Q2_K',
    'token_embd.weight',
    'Q4_K_M',
  );
  await expectFailure(() => loadModel(join(dir.path, 'b.gguf')), 'ERR_ACCEL_WEIGHTS', 'type 99');
});
