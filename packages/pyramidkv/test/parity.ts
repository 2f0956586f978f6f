import { ops } from '@accel/kernels';
import {
  describeGolden,
  errorWith,
  expectClose,
  goldenConfigErrors,
  OUTPUTS,
  readFloats,
  SCORES,
  tokenMajor,
  type GoldenCase,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { method, pyramidRows, type PyramidShape } from '../src/index.js';
import { Pyramid, type LayerInput, type Sizes } from './layers.js';

/** PyramidKV against `golden/pyramidkv`: the budgets, and SnapKV's selection cut to them on a real cache. */
export function parity(device: string): void {
  describeGolden('pyramidkv', (cases) => {
    for (const golden of cases) {
      describe(golden.id, () => {
        if (golden.has('args')) budgets(golden);
        else for (const mode of golden.params.gqa_modes as Mode[]) selection(device, golden, mode);
      });
    }
    it.each(goldenConfigErrors('pyramidkv'))('$params: $reason', ({ params }) => {
      const { window = 0, capacity = 0, layers = 0 } = params;
      const shape = { capacity, window, layers, rows: 1000, beta: 20 };
      if (layers === 1) {
        expect(pyramidRows(shape)).toEqual([capacity]);
        expect(pyramidRows(shape, 'reference')).toEqual([capacity]);
        return;
      }
      const refusal = errorWith('ERR_ACCEL_BUDGET');
      expect(() => pyramidRows(shape)).toThrow(refusal);
      expect(() => method.fromConfig({ observe: window, budget: { tokens: capacity } })).toThrow(
        refusal,
      );
    });
  });
}

type Mode = 'mean' | 'max' | 'sum' | 'none';

/** Integers of the original in every row and layer, and the ratio form. */
function budgets(golden: GoldenCase): void {
  const rows = (name: string, width: number): number[][] => {
    const data = golden.ints(name);
    return Array.from({ length: data.length / width }, (_, row) => [
      ...data.subarray(row * width, (row + 1) * width),
    ]);
  };
  const [stored, past, branch] = [
    golden.lists('stored'),
    golden.lists('past'),
    golden.ints('branch'),
  ];
  it.each([...rows('args', 5).entries()])('row %i: %j', (row, args) => {
    const [capacity = 0, window = 0, n = 0, layers = 0, beta = 0] = args;
    const shape: PyramidShape = { capacity, window, rows: n, layers, beta };
    const kept = pyramidRows(shape, 'reference');
    expect(kept).toEqual(stored[row]);
    const dropsNothing = branch[row] === 0;
    expect(kept.map((count) => count - (dropsNothing ? 0 : window))).toEqual(past[row]);
    // The same branches without the overspending.
    const exact = pyramidRows(shape);
    expect(exact.reduce((a, b) => a + b, 0)).toBe(layers * Math.min(n, capacity));
    if (branch[row] !== 2) expect(exact).toEqual(kept);
  });

  const [ratios, kept] = [golden.doubles('ratio'), golden.lists('ratio_kept')];
  it.each([...rows('ratio_args', 4).entries()])('ratio row %i: %j', (row, args) => {
    const [window = 0, n = 0, layers = 0, beta = 0] = args;
    const capacity = n * (1 - (ratios[row] ?? 0));
    const shape: PyramidShape = { capacity, window, rows: n, layers, beta };
    expect(pyramidRows(shape, 'kvpress')).toEqual(kept[row]);
  });
}

/** One set per query head is what repeated keys give: one query head per kv head. */
function sizesOf(golden: GoldenCase, mode: Mode): Sizes {
  const [heads, kvHeads, dim, tokens, window, layers] = [
    'Hq',
    'Hkv',
    'D',
    'T',
    'window',
    'layers',
  ].map((name) => golden.param(name)) as [number, number, number, number, number, number];
  return { heads, kvHeads: mode === 'none' ? heads : kvHeads, dim, tokens, window, layers };
}

/** Part `i` of a tensor that has one entry a layer, with kv heads repeated up to what `sizes` says. */
function layerOf(golden: GoldenCase, name: string, i: number, heads: number): Float32Array {
  const { shape } = golden.tensor(name);
  const size = shape.slice(1).reduce((a, b) => a * b, 1);
  const data = golden.floats(name).subarray(i * size, (i + 1) * size);
  const there = shape[1] ?? 1;
  if (there === heads) return data;
  const one = size / there;
  const repeated = new Float32Array(heads * one);
  for (let head = 0; head < heads; head++) {
    const from = Math.floor((head * there) / heads) * one;
    repeated.set(data.subarray(from, from + one), head * one);
  }
  return repeated;
}

function selection(device: string, golden: GoldenCase, mode: Mode): void {
  const sizes = sizesOf(golden, mode);
  const listed = golden.params.layer_indices as number[];
  const modes = golden.params.gqa_modes as Mode[];
  const suffix = modes.length === 1 ? '' : `_${mode === 'none' ? 'query_head' : mode}`;

  it(`${mode}: these rows stay`, async () => {
    const select = {
      budget: { tokens: golden.param('capacity') },
      observe: sizes.window,
      pool: { kind: golden.params.pooling as 'avg' | 'max', size: golden.param('kernel') },
      groupReduce: mode === 'none' ? 'mean' : mode,
    } as const;
    const own = { beta: golden.param('beta'), mode: 'reference' } as const;
    using pyramid = new Pyramid(device, sizes, select, own);
    for (const [i, layer] of listed.entries()) {
      const input: LayerInput = {
        layer,
        keys: layerOf(golden, 'k', i, sizes.kvHeads),
        queries: layerOf(golden, 'q_window', i, sizes.heads),
        ...(golden.has('v') && { values: promptValues(golden, i, sizes) }),
      };
      const scores = await pyramid.run(input);
      const keep = golden.lists(`keep_layer${layer}${suffix}`);
      expect(await pyramid.cache.positions(layer), `layer ${layer}`).toEqual(keep);
      const pooled = `pooled_layer${layer}${suffix}`;
      if (scores !== undefined && golden.has(pooled)) {
        const { tokens, window } = sizes;
        const prefix = scores.filter((_, at) => at % tokens < tokens - window);
        expectClose(prefix, golden.floats(pooled), golden.tolerance[pooled] ?? SCORES, pooled);
      }
      if (golden.has('o')) await decode(pyramid, golden, i, layer, sizes);
    }
  });
}

function promptValues(golden: GoldenCase, i: number, sizes: Sizes): Float32Array {
  const all = layerOf(golden, 'v', i, sizes.kvHeads);
  const { kvHeads, tokens, dim } = sizes;
  const total = all.length / kvHeads;
  const values = new Float32Array(kvHeads * tokens * dim);
  for (let head = 0; head < kvHeads; head++) {
    values.set(all.subarray(head * total, head * total + tokens * dim), head * tokens * dim);
  }
  return values;
}

/** Decoding attends to kept and appended rows and evicts nothing. */
async function decode(
  { cache }: Pyramid,
  golden: GoldenCase,
  i: number,
  layer: number,
  { heads, kvHeads, dim, tokens }: Sizes,
): Promise<void> {
  const steps = golden.param('decode_steps');
  const kept = cache.kv.rows(layer, 0);
  const q = tokenMajor(layerOf(golden, 'q_dec', i, heads), [heads, steps, dim]);
  const k = tokenMajor(layerOf(golden, 'k_dec', i, kvHeads), [kvHeads, steps, dim]);
  const values = layerOf(golden, 'v', i, kvHeads);
  const v = tokenMajor(values, [kvHeads, tokens + steps, dim], tokens);
  const want = tokenMajor(layerOf(golden, 'o', i, heads), [heads, steps, dim]);
  using out = cache.empty([1, heads, dim]);
  for (let step = 0; step < steps; step++) {
    const rowOf = (data: Float32Array, count: number): Float32Array =>
      data.subarray(step * count * dim, (step + 1) * count * dim);
    cache.append(rowOf(k, kvHeads), rowOf(v, kvHeads), tokens + step, layer);
    using query = cache.floats(rowOf(q, heads), [1, heads, dim]);
    ops.attention(cache.stream, out, null, query, cache.kv.kv(layer), Int32Array.of(1), {
      scale: 1 / Math.sqrt(dim),
      causal: true,
    });
    const got = await readFloats(out, cache.stream);
    expectClose(got, rowOf(want, heads), golden.tolerance.o ?? OUTPUTS, `output of step ${step}`);
    expect(cache.kv.rows(layer, 0)).toBe(kept + step + 1);
  }
}
