import {
  describeDevices,
  expectClose,
  generated,
  knownInputs,
  type SparseInputs,
} from '@accel/testkit';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { referenceRow, referenceSums } from '../src/reference.js';
import type { Stride } from '../src/index.js';
import { estimate, ofHead, type Estimate } from './harness.js';

/** A prompt of noise, exact in 16 bits. */
function noise(
  tokens: number,
  heads: number,
  kvHeads: number,
  headDim: number,
  seed = 1,
): SparseInputs {
  const draw = (stream: number, width: number) =>
    generated(3 * seed + stream, tokens * width * headDim).map((x) => Math.round(x * 64) / 32);
  const [q, k, v] = [draw(0, heads), draw(1, kvHeads), draw(2, kvHeads)];
  return { tokens, heads, kvHeads, headDim, q: q.map((x) => 4 * x), k, v };
}

/** Estimates by the reference, and its masks; blocks that are near a cut are undecided. */
function expectReference(
  inputs: SparseInputs,
  { stride, threshold, first = 0, norm = 1, begin = 0, end = inputs.tokens }: Estimate,
  got: Awaited<ReturnType<typeof estimate>>,
): void {
  const { heads, kvHeads, headDim, q, k } = inputs;
  const width = heads * headDim;
  const scale = 1 / (Math.sqrt(headDim) * stride * norm);
  const sums = referenceSums({
    q: q.subarray(begin * width, end * width),
    k,
    m: end - begin,
    n: end,
    heads,
    kvHeads,
    headDim,
    stride,
    scale,
  });
  expectClose(got.sums, sums, { abs: 2e-5, rel: 1e-4 }, 'sums');
  for (let head = 0; head < heads; head++) {
    const share = typeof threshold === 'number' ? threshold : (threshold[head] as number);
    for (let row = 0; row < got.rowBlocks; row++) {
      const at = (head * got.rowBlocks + row) * got.columns;
      const diagonal = row + begin / 128;
      const choice = referenceRow(
        sums.subarray(at, at + got.columns),
        diagonal,
        share,
        diagonal < first,
      );
      if (choice.margin < 1e-4) continue;
      expect(got.mask.subarray(at, at + got.columns), `head ${head}, row ${row}`).toEqual(
        choice.chosen,
      );
    }
  }
}

/** What every mask must be. */
function expectSound(got: Awaited<ReturnType<typeof estimate>>, heads: number, offset = 0): void {
  const { rowBlocks, columns, mask, words } = got;
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < rowBlocks; row++) {
      const bits = mask.subarray(
        (head * rowBlocks + row) * columns,
        (head * rowBlocks + row + 1) * columns,
      );
      expect([bits[0], bits[row + offset]]).toEqual([1, 1]);
      expect(bits.subarray(row + offset + 1).every((bit) => bit === 0)).toBe(true);
    }
  }
  // Bits behind the last column too.
  const perRow = Math.ceil(columns / 32);
  if (columns % 32 === 0) return;
  for (let i = perRow - 1; i < words.length; i += perRow)
    expect((words[i] as number) >>> (columns % 32)).toBe(0);
}

describeDevices('xattention_blocks', (device) => {
  const lengths = [1, 2, 127, 128, 129, 255, 256, 257, 512, 513, 1000];
  it.each(lengths)('%i tokens: every stride agrees with the reference', async (tokens) => {
    const inputs = noise(tokens, 2, 1, 64);
    const strides: Stride[] = tokens > 600 ? [16, 64] : [4, 8, 16, 32, 64];
    for (const stride of strides) {
      const call = { stride, threshold: [0.5, 0.9] };
      const got = await estimate(device, inputs, call);
      expectSound(got, 2);
      expectReference(inputs, call, got);
    }
  });

  it.each([2047, 2048, 2049, 4096, 4133, 8229])('%i tokens: a sound mask', async (tokens) => {
    const inputs = noise(tokens, 2, 1, 64);
    const got = await estimate(device, inputs, { stride: 16, threshold: 0.9, dtype: 'bfloat16' });
    expectSound(got, 2);
    for (let head = 0; head < 2; head++) {
      expect(got.figures[2 * head]).toBeGreaterThanOrEqual(0.9);
      expect(got.figures[2 * head + 1]).toBeGreaterThanOrEqual(0.9 - 1e-6);
    }
    // Complete rows sum to g.
    const row = ofHead(got.sums, 2, 1).subarray(0, got.columns);
    expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(8, 4);
  });

  it('agrees with the reference on prompts of any shape', { timeout: 120_000 }, async () => {
    const shape = fc.record({
      blocks: fc.integer({ min: 0, max: 3 }),
      tail: fc.integer({ min: 1, max: 400 }),
      kvHeads: fc.integer({ min: 1, max: 2 }),
      group: fc.constantFrom(1, 2, 3),
      headDim: fc.constantFrom(16, 64, 72, 128),
      stride: fc.constantFrom<Stride>(4, 8, 16, 32, 64),
      dtype: fc.constantFrom('float32' as const, 'bfloat16' as const, 'float16' as const),
      threshold: fc.constantFrom(0, 0.3, 0.8, 0.95, 1),
      norm: fc.constantFrom(1, 0.25),
      first: fc.integer({ min: 0, max: 4 }),
      seed: fc.integer({ min: 1, max: 1000 }),
    });
    await fc.assert(
      fc.asyncProperty(shape, async ({ blocks, tail, kvHeads, group, headDim, seed, ...rest }) => {
        const begin = 128 * blocks;
        const inputs = noise(begin + tail, kvHeads * group, kvHeads, headDim, seed);
        const call = { ...rest, begin };
        const got = await estimate(device, inputs, call);
        expectSound(got, inputs.heads, blocks);
        expectReference(inputs, call, got);
      }),
      { numRuns: 40 },
    );
  });

  it('keeps nothing but sink and diagonal at 0 and all that counts at 1', async () => {
    const inputs = knownInputs(1500, 64);
    const none = await estimate(device, inputs, { stride: 8, threshold: 0 });
    for (let row = 0; row < none.rowBlocks; row++) {
      const bits = none.mask.subarray(row * none.columns, (row + 1) * none.columns);
      expect([...bits].flatMap((bit, j) => (bit ? [j] : []))).toEqual(row === 0 ? [0] : [0, row]);
    }
    const all = await estimate(device, inputs, { stride: 8, threshold: 1 });
    expect(all.mask.reduce((a, b) => a + b, 0)).toBe((4 * all.columns * (all.columns + 1)) / 2);
    expect([...all.figures]).toEqual(new Array(8).fill(1));
  });

  it('chooses the same blocks in chunks as in one piece', async () => {
    const inputs = knownInputs(3000, 64);
    const call = { stride: 8, threshold: 0.7 } as const;
    const whole = await estimate(device, inputs, call);
    for (const cuts of [
      [0, 1024, 2048, 3000],
      [0, 128, 2176, 2944, 3000],
    ]) {
      for (const [i, begin] of cuts.slice(0, -1).entries()) {
        const part = await estimate(device, inputs, { ...call, begin, end: cuts[i + 1] as number });
        for (let head = 0; head < inputs.heads; head++) {
          for (let row = 0; row < part.rowBlocks; row++) {
            const at = (head * part.rowBlocks + row) * part.columns;
            const want = (head * whole.rowBlocks + row + begin / 128) * whole.columns;
            expect(part.mask.subarray(at, at + part.columns)).toEqual(
              whole.mask.subarray(want, want + part.columns),
            );
          }
        }
      }
    }
  });

  it('takes equal blocks from the left', async () => {
    const inputs = noise(2048, 2, 1, 64);
    inputs.k.fill(0.5);
    const got = await estimate(device, inputs, { stride: 16, threshold: 0.5 });
    const row = got.mask.subarray(15 * 16, 16 * 16);
    const kept = [...row].flatMap((bit, column) => (bit ? [column] : []));
    expect(kept.at(-1)).toBe(15);
    expect(kept.slice(0, -1)).toEqual(kept.slice(0, -1).map((_, i) => i));
    expect(kept.length).toBeLessThan(10);
  });

  it('sees one key of huge norm without overflow', async () => {
    const inputs = noise(700, 2, 1, 64);
    inputs.q.fill(2);
    inputs.k.fill(1000, 300 * 64, 301 * 64);
    const got = await estimate(device, inputs, { stride: 16, threshold: 0.99 });
    expect(got.sums.every((x) => Number.isFinite(x))).toBe(true);
    expect(got.mask[5 * 6 + 2]).toBe(1);
    expectSound(got, 2);
  });

  it('says so in its figures when inputs are not numbers', async () => {
    const inputs = noise(700, 2, 1, 64);
    inputs.q[(600 * 2 + 1) * 64] = NaN;
    const got = await estimate(device, inputs, { stride: 16, threshold: 0.9 });
    expect(Number.isNaN(got.figures[0])).toBe(false);
    expect([got.figures[2], got.figures[3]]).toEqual([NaN, NaN]);
    expectSound(got, 2);
  });

  it('gives the same bits a hundred times', { timeout: 120_000 }, async () => {
    const inputs = knownInputs(1200, 64);
    const call = { stride: 16, threshold: 0.85, dtype: 'bfloat16' } as const;
    const once = await estimate(device, inputs, call);
    for (let i = 1; i < 100; i++) {
      const again = await estimate(device, inputs, call);
      expect(again.words).toEqual(once.words);
      expect(again.sums).toEqual(once.sums);
      expect(again.figures).toEqual(once.figures);
    }
  });

  it.each<{ title: string; change: Partial<Estimate>; code: string }>([
    { title: 'a ragged prefix', change: { begin: 100 }, code: 'ERR_ACCEL_ARGUMENT' },
    { title: 'another stride', change: { stride: 12 as Stride }, code: 'ERR_ACCEL_ARGUMENT' },
    { title: 'a negative norm', change: { norm: -1 }, code: 'ERR_ACCEL_ARGUMENT' },
    { title: 'a negative first chunk', change: { first: -1 }, code: 'ERR_ACCEL_ARGUMENT' },
  ])('refuses $title', async ({ change, code }) => {
    const refused = estimate(device, noise(512, 2, 1, 64), {
      stride: 16,
      threshold: 0.9,
      ...change,
    });
    await expect(refused).rejects.toMatchObject({ code });
  });
});
