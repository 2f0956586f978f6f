import { Device, Tensor, type DType } from '@accel/kernels';
import { describeDevices, expectClose, generated, errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { streamingllmMerge } from '../src/merge.js';
import { referenceMerge, type ReferencePartial } from '../src/reference.js';

const [TOKENS, HEADS] = [37, 3];

function share(seed: number, dim: number): ReferencePartial {
  return {
    out: generated(seed, TOKENS * HEADS * dim),
    lse: generated(seed + 1, TOKENS * HEADS, 20),
  };
}

describe('reference', () => {
  it('weighs equal masses equally, and nothing with nothing', () => {
    const a = { out: Float32Array.of(1, 2, 7, 7, 0, 0), lse: Float32Array.of(3, 0, -Infinity) };
    const b = {
      out: Float32Array.of(3, 4, 0, 0, 0, 0),
      lse: Float32Array.of(3, -Infinity, -Infinity),
    };
    const { out, lse } = referenceMerge(a, b, 2);
    expectClose(out, [2, 3, 7, 7, 0, 0], { abs: 1e-6, rel: 0 }, 'out');
    expectClose(lse, [3 + Math.log(2), 0, -Infinity], { abs: 1e-6, rel: 0 }, 'lse');
  });
});

describeDevices('streamingllm_merge', (device) => {
  const run = async (
    a: ReferencePartial,
    b: ReferencePartial,
    dim: number,
    dtype: DType,
  ): Promise<ReferencePartial> => {
    const opened = Device.open(device);
    using stream = opened.createStream();
    const tokens = a.lse.length / HEADS;
    const load = ({ out, lse }: ReferencePartial): { out: Tensor; lse: Tensor } => ({
      out: Tensor.from(opened, out, [tokens, HEADS, dim], dtype),
      lse: Tensor.from(opened, lse, [tokens, HEADS]),
    });
    const [left, right] = [load(a), load(b)];
    using lse = Tensor.empty(opened, 'float32', [tokens, HEADS]);
    // In place, as a caller may.
    streamingllmMerge(stream, left.out, lse, left, right);
    const merged = {
      out: await left.out.read(stream),
      lse: await lse.read(stream),
    } as ReferencePartial;
    for (const tensor of [left.out, left.lse, right.out, right.lse]) tensor.dispose();
    return merged;
  };

  it.each([
    { dtype: 'float32', dim: 1, abs: 1e-6 },
    { dtype: 'float32', dim: 80, abs: 1e-6 },
    { dtype: 'bfloat16', dim: 64, abs: 8e-3 },
    { dtype: 'float16', dim: 64, abs: 1e-3 },
  ] as const)('agrees with the reference: $dtype, dim $dim', async ({ dtype, dim, abs }) => {
    const [a, b] = [share(5, dim), share(9, dim)];
    a.lse.fill(-Infinity, 0, 4);
    b.lse.fill(-Infinity, 2, 7);
    a.out.fill(0, 0, 4 * dim);
    b.out.fill(0, 2 * dim, 7 * dim);
    const got = await run(a, b, dim, dtype);
    const want = referenceMerge(a, b, dim);
    expectClose(got.out, want.out, { abs, rel: 0 }, 'out');
    expectClose(got.lse, want.lse, { abs: 1e-5, rel: 1e-6 }, 'lse');
  });

  it('lets no NaN disappear', async () => {
    const one = (lse: number): ReferencePartial => ({
      out: new Float32Array(HEADS).fill(1),
      lse: new Float32Array(HEADS).fill(lse),
    });
    for (const [a, b] of [
      [NaN, -Infinity],
      [-Infinity, NaN],
      [NaN, 1],
    ] as const) {
      const { out, lse } = await run(one(a), one(b), 1, 'float32');
      expect([...out, ...lse].every(Number.isNaN), `${a} and ${b}`).toBe(true);
    }
  });

  it('refuses shapes that do not agree', async () => {
    const opened = Device.open(device);
    using stream = opened.createStream();
    using out = Tensor.empty(opened, 'float32', [2, HEADS, 8]);
    using lse = Tensor.empty(opened, 'float32', [3, HEADS]);
    expect(() => {
      streamingllmMerge(stream, out, null, { out, lse }, { out, lse });
    }).toThrow(errorWith('ERR_ACCEL_SHAPE'));
    await stream.synchronize();
  });
});
