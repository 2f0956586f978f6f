import { ops, Tensor } from '@accel/kernels';
import {
  describeDevices,
  describeGolden,
  errorWith,
  expectClose,
  goldenConfigErrors,
  queryRows,
  readFloats,
  sparseCache,
  structuredInputs,
  type GoldenCase,
  type SparseInputs,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { FlexprefillChooser } from '../src/chooser.js';
import { flexprefill } from '../src/index.js';
import { settingsFrom } from '../src/settings.js';
import { runBlocks, type RunOptions } from './run.js';

function optionsOf(golden: GoldenCase): RunOptions {
  const block = golden.param('block_size') as 64 | 128;
  const blocks = (tokens: unknown) =>
    typeof tokens === 'number' ? Math.ceil(tokens / block) : undefined;
  return {
    block,
    gamma: golden.param('gamma'),
    tau: golden.param('tau'),
    minBlocks: blocks(golden.params.min_budget) ?? 1,
    maxBlocks: blocks(golden.params.max_budget),
  };
}

describeDevices('FlexPrefill golden cases', (device) => {
  describeGolden('flexprefill', (cases) => {
    for (const golden of cases) {
      describe(golden.id, () => {
        if (golden.params.dense_fallback === true) dense(golden);
        else selection(device, golden);
        output(device, golden);
      });
    }
    it.each(goldenConfigErrors('flexprefill'))('refuses $params: $reason', ({ params }) => {
      expect(() => flexprefill(params)).toThrow(errorWith('ERR_ACCEL_POLICY'));
    });
  });
});

/** The method's own dense rule: nothing is chosen, and the engine attends densely. */
function dense(golden: GoldenCase): void {
  it('is dense by rule', () => {
    const chooser = new FlexprefillChooser(
      settingsFrom({
        gamma: golden.param('gamma'),
        tau: golden.param('tau'),
        minBudget: golden.params.min_budget,
        maxBudget: golden.params.max_budget,
      }),
    );
    const tokens = golden.param('N');
    expect(tokens).toBeLessThanOrEqual(chooser.idleRows);
    expect(chooser.choose({ m: tokens, rows: tokens } as never)).toMatch(/attend densely/);
  });
}

function selection(device: string, golden: GoldenCase): void {
  it.each(['float32', 'bfloat16', 'float16'] as const)('chooses in %s', async (dtype) => {
    const heads = await runBlocks(device, structuredInputs(golden), {
      ...optionsOf(golden),
      dtype,
    });
    const list = <T>(of: (head: (typeof heads)[number]) => ArrayLike<T>) =>
      heads.flatMap((head) => Array.from(of(head)));
    expect(list((head) => head.mask)).toEqual([...golden.tensor('mask').data]);
    expect(list((head) => head.budgets)).toEqual([...golden.ints('budgets')]);
    expect(heads.map((head) => head.aware)).toEqual([...golden.tensor('query_aware').data]);
    expectClose(
      list((head) => head.counts),
      golden.ints('counts'),
      { abs: 2, rel: 0 },
      'counts',
    );
    golden.expectClose(
      'jsd',
      heads.map(({ figures }) => figures[2] ?? NaN),
    );
    golden.expectClose(
      'vertical',
      list((head) => head.vertical),
    );
    golden.expectClose(
      'slash',
      list((head) => head.slash),
    );
    golden.expectClose(
      'pooled_estimate',
      list((head) => head.estimate),
    );
  });
}

/** Attention over the golden mask, in blocks of 128; blocks of 64 have no attention of their own. */
function output(device: string, golden: GoldenCase): void {
  if (golden.param('block_size') !== 128) return;
  it('attends over the chosen blocks', async () => {
    const inputs = structuredInputs(golden);
    const [, rows = 0, columns = 0] = golden.tensor('mask').shape;
    const { o, lse } = await attend(
      device,
      inputs,
      pack(golden.tensor('mask').data as Uint8Array, inputs.heads, rows, columns),
    );
    const sampled = golden.ints('rows');
    const { heads, headDim } = inputs;
    const pick = (data: Float32Array, width: number) =>
      Array.from({ length: heads }, (_, h) =>
        Array.from(sampled, (t) => [
          ...data.subarray((t * heads + h) * width, (t * heads + h + 1) * width),
        ]),
      ).flat(2);
    golden.expectClose('o', pick(o, headDim));
    golden.expectClose('lse', pick(lse, 1));
  });
}

/** `[heads, rows, columns]` bytes as the attention wants them. */
function pack(mask: Uint8Array, heads: number, rows: number, columns: number): Tensor8 {
  const words = Math.ceil(columns / 32);
  const data = new Int32Array(rows * heads * words);
  for (let h = 0; h < heads; h++)
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++)
        if (mask[(h * rows + i) * columns + j] === 1) {
          const at = (i * heads + h) * words + (j >> 5);
          data[at] = (data[at] as number) | (1 << (j & 31));
        }
  return { data, shape: [rows, heads, words] };
}
interface Tensor8 {
  readonly data: Int32Array;
  readonly shape: readonly number[];
}

async function attend(
  device: string,
  inputs: SparseInputs,
  bits: Tensor8,
): Promise<{ o: Float32Array; lse: Float32Array }> {
  const { tokens, heads, headDim } = inputs;
  using cache = sparseCache(device, inputs);
  const { stream } = cache;
  using q = cache.floats(queryRows(inputs), [tokens, heads, headDim]);
  using o = cache.empty([tokens, heads, headDim]);
  using lse = Tensor.empty(cache.device, 'float32', [tokens, heads]);
  using mask = Tensor.from(cache.device, bits.data, bits.shape);
  ops.blockSparseAttention(stream, o, lse, q, cache.kv.kv(0), Int32Array.of(tokens), {
    mask,
    scale: 1 / Math.sqrt(headDim),
  });
  return { o: await readFloats(o, stream), lse: await readFloats(lse, stream) };
}
