import { ops, Tensor, type DType } from '@accel/kernels';
import { describeDevices, errorWith, expectClose, generated, TestCache } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { camSmear, type Draw, type SmearOptions } from '../src/kernels.js';
import { referenceSmear, referenceUniform } from '../src/reference.js';

interface Input {
  readonly heads: number;
  readonly rows: number;
  readonly dim: number;
  /** `[heads, rows]` */
  readonly scores: Float32Array;
  /** `[heads, rows]` */
  readonly u: Float32Array;
  /** `[rows, heads, dim]`, eighths */
  readonly values: Float32Array;
}

function input(heads: number, rows: number, dim: number, seed: number): Input {
  return {
    heads,
    rows,
    dim,
    scores: generated(seed, heads * rows).map(Math.abs),
    u: generated(seed + 1, heads * rows).map(Math.abs),
    values: generated(seed + 2, rows * heads * dim).map((x) => Math.round(x * 8) / 8),
  };
}

/** The reference on every head, values `[heads, rows, dim]`. */
function reference(
  { heads, rows, dim, scores, u, values }: Input,
  { window, start, denominator }: SmearOptions,
): { p: number[]; merged: number[]; values: number[] } {
  const all = { p: [] as number[], merged: [] as number[], values: [] as number[] };
  for (let head = 0; head < heads; head++) {
    const own = Array.from({ length: rows }, (_, row) => [
      ...values.subarray((row * heads + head) * dim, (row * heads + head + 1) * dim),
    ]);
    const [from, to] = [head * rows, (head + 1) * rows];
    const of = { scores: [...scores.subarray(from, to)], values: own };
    const got = referenceSmear(of, u.subarray(from, to), window, start, denominator);
    all.p.push(...got.p);
    all.merged.push(...got.merged.map(Number));
    all.values.push(...own.flat());
  }
  return all;
}

describe('reference', () => {
  it('folds on what was folded before', () => {
    const values = [[1], [2], [0], [0]];
    const scores = [0, 1, 1, 1];
    const { merged } = referenceSmear({ scores, values }, [0, 0, 0, 0], 1, 1, 'moving');
    expect(merged).toEqual([false, true, true, false]);
    expect(values.flat()).toEqual([1, 2, 2, 2]);
  });
});

describeDevices('cam_smear', (device) => {
  const run = async (
    { heads, rows, dim, scores, u, values }: Input,
    options: Omit<SmearOptions, 'layer'> & { layer?: number },
    draw: Partial<Draw> & { own?: boolean; first?: number; dtype?: DType } = {},
  ): Promise<{ p: Float32Array; merged: Int32Array; values: Float32Array }> => {
    const { own = false, first = 0, dtype = 'float32', ...given } = draw;
    using cache = new TestCache(device, { heads, headDim: dim, dtype });
    const { stream, kv } = cache;
    cache.append(values, values, first);
    using given2 = Tensor.from(cache.device, scores, [heads, rows]);
    using uniforms = Tensor.from(cache.device, u, [heads, rows]);
    using p = Tensor.empty(cache.device, 'float32', [heads, rows]);
    using merged = Tensor.empty(cache.device, 'int32', [heads, rows]);
    camSmear(
      stream,
      kv.kv(0),
      given2,
      { gate: 'bernoulli', seed: 0, p, merged, ...(!own && { uniforms }), ...given },
      { layer: 0, ...options },
    );
    using out = cache.empty([heads, rows, dim]);
    using wide = Tensor.empty(cache.device, 'float32', [heads, rows, dim]);
    ops.kvRead(stream, null, out, null, kv.kv(0));
    ops.cast(stream, wide, out);
    return {
      p: (await p.read(stream)) as Float32Array,
      merged: (await merged.read(stream)) as Int32Array,
      values: (await wide.read(stream)) as Float32Array,
    };
  };

  it.each([
    { heads: 1, rows: 10, dim: 8, window: 1, start: 0, dtype: 'float32' },
    { heads: 2, rows: 300, dim: 64, window: 16, start: 30, dtype: 'float32' },
    { heads: 2, rows: 500, dim: 40, window: 70, start: 50, dtype: 'float32' },
    { heads: 1, rows: 1300, dim: 8, window: 600, start: 10, dtype: 'float32' },
    { heads: 2, rows: 200, dim: 128, window: 32, start: 20, dtype: 'bfloat16' },
    { heads: 3, rows: 200, dim: 80, window: 8, start: 20, dtype: 'float16' },
  ] as const)(
    'agrees with the reference: $heads × $rows, dim $dim, window $window, start $start, $dtype',
    async ({ heads, rows, dim, window, start, dtype }) => {
      const given = input(heads, rows, dim, rows + window);
      for (const denominator of ['moving', 'fixed'] as const) {
        const options = { layer: 0, window, start, denominator };
        const got = await run(given, options, { dtype });
        const want = reference(given, options);
        expectClose(got.p, want.p, { abs: 1e-6, rel: 1e-6 }, `${denominator}: p`);
        // Numbers this close to p may fall either way.
        const close = want.p.some((p, i) => Math.abs(p - (given.u[i] ?? 0)) < 1e-6);
        expect(close).toBe(false);
        expect([...got.merged]).toEqual(want.merged);
        const rel = dtype === 'float32' ? 2e-5 : dtype === 'float16' ? 2 ** -10 : 2 ** -8;
        expectClose(got.values, want.values, { abs: 1e-4, rel }, `${denominator}: values`);
      }
    },
  );

  it('leaves every value as it is, to the bit, where nothing is folded', async () => {
    const given = input(2, 100, 16, 4);
    const options = { window: 8, start: 10, denominator: 'moving' } as const;
    const { merged, values } = await run(given, options, { gate: 'never' });
    expect(merged.every((gate) => gate === 0)).toBe(true);
    const want = reference({ ...given, u: given.u.fill(2) }, { layer: 0, ...options });
    expect([...values]).toEqual(want.values);
  });

  it('draws its own numbers from seed, layer, head and position', async () => {
    const given = input(2, 120, 8, 6);
    const [seed, layer, first] = [99, 5, 4000];
    const options = { layer, window: 8, start: 12, denominator: 'moving' } as const;
    const u = given.u.map((_, i) =>
      referenceUniform(seed, layer, Math.floor(i / 120), first + (i % 120)),
    );
    const got = await run(given, options, { seed, first, own: true });
    const want = reference({ ...given, u }, options);
    expect([...got.merged]).toEqual(want.merged);
    expect(want.merged).toContain(1);
  });

  it.each([
    { title: 'no window', window: 0, start: 1 },
    { title: 'a window longer than the prompt', window: 31, start: 1 },
    { title: 'a window that is too long', window: 1025, start: 1 },
    { title: 'a start past the end', window: 4, start: 31 },
  ])('refuses $title', async ({ window, start }) => {
    const given = input(1, 30, 8, 1);
    const smear = run(given, { window, start, denominator: 'fixed' });
    await expect(smear).rejects.toThrow(errorWith('ERR_ACCEL_ARGUMENT'));
  });
});
