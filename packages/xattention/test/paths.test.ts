import { describeDevices, expectClose, knownInputs } from '@accel/testkit';
import { afterEach, expect, it } from 'vitest';
import { estimate } from './harness.js';

const PATH = 'ACCEL_CUDA_XATTENTION';
const SLAB = 'ACCEL_CUDA_XATTENTION_SLAB';

describeDevices('kernels of xattention_blocks', (device) => {
  afterEach(() => {
    Reflect.deleteProperty(process.env, PATH);
    Reflect.deleteProperty(process.env, SLAB);
  });

  // On the CPU the instruction sets are chosen when the process starts (ACCEL_CPU_ISA).
  it.skipIf(device === 'cpu').each([
    { tokens: 5000, dim: 64, stride: 4 },
    { tokens: 5000, dim: 128, stride: 8 },
    { tokens: 6144, dim: 128, stride: 16 },
    { tokens: 6001, dim: 64, stride: 32 },
    { tokens: 9000, dim: 64, stride: 64 },
  ] as const)('agree: $tokens tokens of $dim, stride $stride', async ({ tokens, dim, stride }) => {
    const inputs = knownInputs(tokens, dim);
    for (const dtype of ['bfloat16', 'float16'] as const) {
      const call = { stride, dtype, threshold: 0.8 };
      process.env[PATH] = 'plain';
      const want = await estimate(device, inputs, call);
      for (const path of ['sm80', 'sm90']) {
        process.env[PATH] = path;
        const got = await estimate(device, inputs, call);
        expectClose(got.sums, want.sums, { abs: 1e-5, rel: 1e-4 }, `${path} ${dtype}`);
        const differing = got.mask.filter((bit, i) => bit !== want.mask[i]).length;
        expect(differing / got.mask.length, path).toBeLessThan(1e-3);
      }
    }
  });

  it.skipIf(device === 'cpu')('gives the same bits whatever the slabs', async () => {
    const inputs = knownInputs(6000, 64);
    const call = { stride: 8, dtype: 'bfloat16', threshold: 0.8 } as const;
    for (const path of ['plain', 'sm80', 'sm90']) {
      process.env[PATH] = path;
      process.env[SLAB] = '100';
      const whole = await estimate(device, inputs, call);
      for (const slab of ['1', '2', '4']) {
        process.env[SLAB] = slab;
        const cut = await estimate(device, inputs, call);
        expect(cut.words, `${path}, ${slab}`).toEqual(whole.words);
        expect(cut.sums).toEqual(whole.sums);
        expect(cut.figures).toEqual(whole.figures);
      }
    }
  });
});
