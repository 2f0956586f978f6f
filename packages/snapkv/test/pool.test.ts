import { Device, Tensor } from '@accel/kernels';
import { describeDevices, generated } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { snapkvPool, type Pool } from '../src/pool.js';
import { referencePool } from '../src/reference.js';

describe('reference', () => {
  it('always divides by the kernel size', () => {
    const pooled = referencePool(new Float32Array(6).fill(1), 1, 6, { kind: 'avg', size: 5 });
    expect([...pooled].map((x) => x.toFixed(1))).toEqual([
      '0.6',
      '0.8',
      '1.0',
      '1.0',
      '0.8',
      '0.6',
    ]);
  });

  it('sees the prefix only and protects the rest', () => {
    const scores = Float32Array.of(1, 5, 2, 9, 9, 0, 0, 7, 9, 9);
    const pooled = referencePool(scores, 2, 3, { kind: 'max', size: 3 });
    expect([...pooled]).toEqual([5, 5, 5, Infinity, Infinity, 0, 7, 7, Infinity, Infinity]);
  });
});

describeDevices('snapkv_pool', (device) => {
  const run = async (
    scores: Float32Array,
    heads: number,
    prefix: number,
    pool: Pool,
  ): Promise<Float32Array> => {
    const opened = Device.open(device);
    using stream = opened.createStream();
    const shape = [heads, scores.length / heads];
    using input = Tensor.from(opened, scores, shape);
    using out = Tensor.empty(opened, 'float32', shape);
    snapkvPool(stream, out, input, prefix, pool);
    return (await out.read(stream)) as Float32Array;
  };

  const shapes = [
    { heads: 1, rows: 1, prefix: 0 },
    { heads: 1, rows: 4, prefix: 1 },
    { heads: 3, rows: 20, prefix: 4 },
    { heads: 2, rows: 300, prefix: 268 },
    { heads: 5, rows: 5003, prefix: 4999 },
  ];
  const pools: Pool[] = [1, 5, 7, 63].flatMap((size) => [
    { kind: 'avg', size },
    { kind: 'max', size },
  ]);
  it.each(shapes.flatMap((shape) => pools.map((pool) => ({ ...shape, pool }))))(
    'gives the bits of the reference: $heads × $rows, prefix $prefix, $pool.kind $pool.size',
    async ({ heads, rows, prefix, pool }) => {
      const scores = generated(rows + pool.size, heads * rows, 3);
      expect(await run(scores, heads, prefix, pool)).toEqual(
        referencePool(scores, heads, prefix, pool),
      );
    },
  );

  it('lets no NaN disappear', async () => {
    const scores = Float32Array.of(1, NaN, 1, 1, 1, 1);
    for (const kind of ['avg', 'max'] as const) {
      const pooled = await run(scores, 1, 6, { kind, size: 3 });
      expect([...pooled].map(Number.isNaN)).toEqual([true, true, true, false, false, false]);
    }
  });

  it.each([
    { title: 'an even kernel', prefix: 4, size: 2, code: 'ERR_ACCEL_ARGUMENT' },
    { title: 'a prefix that is too long', prefix: 7, size: 3, code: 'ERR_ACCEL_ARGUMENT' },
  ])('refuses $title', async ({ prefix, size, code }) => {
    const pooled = run(new Float32Array(6), 1, prefix, { kind: 'avg', size });
    await expect(pooled).rejects.toMatchObject({ code });
  });
});
