import { describeDevices, generated, knownInputs, type SparseInputs } from '@accel/testkit';
import { expect, it } from 'vitest';
import { ones, runBlocks, type RunOptions } from './run.js';

/** Random inputs of other head counts; eighths, which 16 bits hold exactly. */
function shaped(tokens: number, heads: number, kvHeads: number, headDim: number): SparseInputs {
  const eighths = (seed: number, count: number): Float32Array =>
    generated(seed, count).map((x) => Math.round(x * 16) / 8);
  return {
    tokens,
    heads,
    kvHeads,
    headDim,
    q: eighths(tokens + 1, tokens * heads * headDim),
    k: eighths(tokens + 2, tokens * kvHeads * headDim),
    v: new Float32Array(tokens * kvHeads * headDim),
  };
}

/** Every row has column 0 and its diagonal and nothing beyond; figures and counts are what they can be. */
async function expectSound(
  device: string,
  inputs: SparseInputs,
  options: RunOptions,
): Promise<void> {
  const { begin = 0, end = inputs.tokens, block = 128 } = options;
  const name = `${inputs.tokens} tokens, ${JSON.stringify(options)}`;
  const heads = await runBlocks(device, inputs, options);
  const grids = [
    { edge: block, of: (head: (typeof heads)[number]) => head.mask },
    { edge: 128, of: (head: (typeof heads)[number]) => head.wide },
  ];
  for (const head of heads) {
    for (const { edge, of } of grids) {
      const [rows, columns] = [Math.ceil((end - begin) / edge), Math.ceil(end / edge)];
      for (let i = 0; i < rows; i++) {
        const row = of(head).subarray(i * columns, (i + 1) * columns);
        const diagonal = begin / edge + i;
        expect(row[0], name).toBe(1);
        expect(row[diagonal], name).toBe(1);
        expect(ones(row.subarray(diagonal + 1)), name).toBe(0);
      }
    }
    for (const profile of [head.vertical, head.slash, head.estimate]) {
      expect(Math.abs(profile.reduce((a, b) => a + b, 0) - 1), name).toBeLessThan(1e-4);
    }
    expect(head.figures[0], name).toBeGreaterThan(0);
    expect(head.figures[0], name).toBeLessThan(1 + 1e-4);
    for (const count of head.counts) {
      expect(count, name).toBeGreaterThan(0);
      expect(count, name).toBeLessThanOrEqual(end + 1);
    }
  }
}

describeDevices('FlexPrefill edges', (device) => {
  it.each([
    1,
    2,
    127,
    128,
    129,
    255,
    256,
    257,
    512,
    513,
    1000,
    2047,
    2048,
    2049,
    4096,
    4133,
    8192 + 37,
  ])('%i tokens', async (tokens) => {
    const inputs = knownInputs(tokens, 64);
    await expectSound(device, inputs, {});
    await expectSound(device, inputs, { dtype: 'bfloat16', tau: 0.9 });
    await expectSound(device, inputs, { block: 64, dtype: 'float16' });
  });

  it.each([
    { heads: 2, kvHeads: 2, headDim: 128 },
    { heads: 8, kvHeads: 1, headDim: 64 },
    { heads: 3, kvHeads: 1, headDim: 80 },
    { heads: 4, kvHeads: 2, headDim: 256 },
    { heads: 2, kvHeads: 1, headDim: 16 },
  ])('$heads query heads, $kvHeads kv heads, dim $headDim', async (shape) => {
    const inputs = shaped(900, shape.heads, shape.kvHeads, shape.headDim);
    for (const dtype of ['float32', 'bfloat16', 'float16'] as const)
      await expectSound(device, inputs, { dtype, tau: 0.3 });
  });

  it('of gamma, tau and budgets', async () => {
    const inputs = knownInputs(1100, 64);
    for (const gamma of [0.5, 0.9, 0.95, 0.99])
      for (const tau of [0, 0.1, 0.9])
        for (const minBlocks of [1, 4, 8, 99])
          await expectSound(device, inputs, { gamma, tau, minBlocks });
  });

  it('takes everything as gamma goes to 1', async () => {
    for (const tau of [0, 1]) {
      for (const { mask } of await runBlocks(device, knownInputs(1100, 64), {
        gamma: 1 - 1e-9,
        tau,
      }))
        expect(ones(mask)).toBe(45);
    }
  });

  it('is dense where the smallest budget is the whole prompt', async () => {
    const [head] = await runBlocks(device, knownInputs(1100, 64), { minBlocks: 9 });
    expect(head?.budgets).toEqual([9, 9]);
    expect(ones(head?.mask ?? new Uint8Array())).toBe(45);
  });

  it('takes the smallest budget for query-aware heads and the largest for the others', async () => {
    const inputs = knownInputs(2048, 64);
    const options = { minBlocks: 6, maxBlocks: 3 };
    const heads = await runBlocks(device, inputs, options);
    expect(heads.map(({ aware }) => aware)).toEqual([0, 1, 1, 1]);
    expect(heads.map(({ budgets }) => budgets)).toEqual([
      [3, 3],
      [6, 6],
      [6, 6],
      [6, 6],
    ]);
  });

  it('never calls a head query-aware when tau is 0, and always at 1', async () => {
    const inputs = knownInputs(700, 64);
    const aware = async (tau: number) =>
      (await runBlocks(device, inputs, { tau })).map((head) => head.aware);
    expect(await aware(0)).toEqual([0, 0, 0, 0]);
    expect(await aware(1)).toEqual([1, 1, 1, 1]);
  });

  it('prefers the lower index among equals', async () => {
    const inputs = knownInputs(1024, 64);
    const equal = { ...inputs, k: new Float32Array(inputs.k.length) };
    // Keys say nothing: every query looks at all it sees alike, and columns weigh the same but for the last block.
    const heads = await runBlocks(device, equal, { tau: 0, maxBlocks: 3, minBlocks: 3 });
    for (const head of heads) {
      // Columns 0, 1, 2. Diagonals: the main one, then the lower index is the larger distance; the largest, 7, has half.
      expect([...head.mask.subarray(56, 64)]).toEqual([1, 1, 1, 0, 0, 0, 0, 1]);
      expect([...head.mask.subarray(48, 56)]).toEqual([1, 1, 1, 0, 0, 0, 1, 0]);
    }
    // Query-aware: row i has i + 1 equal entries. Half of 8 rows' mass is less than rows 0 to 3 and 5 of 8 elsewhere.
    const aware = await runBlocks(device, equal, { tau: 1, gamma: 0.5 });
    for (const head of aware) {
      const rows = Array.from({ length: 8 }, (_, i) => [
        ...head.mask.subarray(8 * i, 8 * i + i + 1),
      ]);
      // 1, 2 · 1/2, 3 · 1/3 make 3; 4 · 1/4 reaches 4, which is half and is not exceeded.
      expect(rows).toEqual([
        [1],
        [1, 1],
        [1, 1, 1],
        [1, 1, 1, 1],
        [1, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 0, 0, 1],
      ]);
    }
  });

  it('reads a vanished profile as the mode says', async () => {
    const inputs = knownInputs(700, 64);
    const k = inputs.k.slice();
    const width = inputs.kvHeads * inputs.headDim;
    // A key that the first channels of all queries, 1.5 or less, look at and at nothing else: the rest underflows.
    for (let head = 0; head < inputs.kvHeads; head++)
      k.fill(1000, 130 * width + head * 64, 130 * width + head * 64 + 4);
    const huge = { ...inputs, k };
    const clean = await runBlocks(device, huge, { tau: 1 });
    const compat = await runBlocks(device, huge, { tau: 1, compat: true });
    for (const [h, head] of clean.entries()) {
      expect(head.vertical[1]).toBeGreaterThan(0.99);
      expect(head.vertical[0]).toBe(0);
      expect(head.aware).toBe(1);
      expect(head.figures[2]).toBeGreaterThanOrEqual(0);
      expect(compat[h]?.aware).toBe(0);
      expect(compat[h]?.figures[2]).toBeNaN();
    }
  });

  it('takes -0 and denormals', async () => {
    const inputs = knownInputs(600, 64);
    const tiny = (data: Float32Array) => data.map((x, i) => (i % 3 === 0 ? -0 : x * 2 ** -130));
    const heads = await runBlocks(device, { ...inputs, q: tiny(inputs.q), k: tiny(inputs.k) });
    const flat = await runBlocks(device, { ...inputs, k: new Float32Array(inputs.k.length) });
    for (const [h, head] of heads.entries())
      expect([...head.mask]).toEqual([...(flat[h]?.mask ?? [])]);
  });

  it.each([64, 128] as const)('gives the same masks 100 times, in blocks of %i', async (block) => {
    const inputs = knownInputs(1300, 64);
    const first = await runBlocks(device, inputs, { block, dtype: 'bfloat16' });
    for (let i = 1; i < 100; i++)
      expect(await runBlocks(device, inputs, { block, dtype: 'bfloat16' })).toEqual(first);
  });
});
