import { Tensor } from '@accel/kernels';
import {
  describeGolden,
  errorWith,
  expectClose,
  goldenConfigErrors,
  OUTPUTS,
  readFloats,
  TestCache,
  tokenMajor,
  type GoldenCase,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { allocate, preference } from '../src/allocation.js';
import { cakekv, type CakekvOptions } from '../src/index.js';
import { cakePool, cakeStatistics } from '../src/ops.js';
import { Layers, type LayerPrompt, type LayersShape } from './layers.js';

/** CakeKV against `golden/cakekv`: the arithmetic, the ops, and both parts on a real cache, stage by stage. */
export function parity(device: string): void {
  describeGolden('cakekv', (cases) => {
    for (const golden of cases) {
      describe(golden.id, () => {
        if (golden.has('args')) allocation(golden);
        else if (golden.has('indicator')) statistics(device, golden);
        else if (golden.has('q_dec')) decoding(device, golden);
        else cascade(device, golden);
      });
    }
    const errors = goldenConfigErrors('cakekv');
    it.each(errors.filter(({ params }) => params.prompt === undefined))(
      'refuses $params: $reason',
      ({ params }) => {
        expect(() => cakekv({ observe: params.window ?? 0 })).toThrow(
          errorWith('ERR_ACCEL_POLICY'),
        );
      },
    );
    // The original crashes. There is nothing to compute: the budget exceeds the window, so such a prompt fits.
    it.each(errors.filter(({ params }) => params.prompt !== undefined))(
      'keeps all rows of $params',
      async ({ params }) => {
        const { window = 0, prompt: tokens = 0 } = params;
        const shape: LayersShape = { layers: 1, heads: 2, kvHeads: 1, dim: 64, window };
        using layers = new Layers(device, shape, { budget: { tokens: window + 1 } });
        const data = (count: number): Float32Array => new Float32Array(count * 64).fill(0.5);
        const given = await layers.prompt(0, { queries: data(2 * tokens), keys: data(tokens) });
        expect(given.get(0)).toEqual({ rows: tokens, decode: window + 1 });
        expect(layers.cache.kv.rows(0, 0)).toBe(tokens);
      },
    );
  });
}

/** An int32 `[…, n]` tensor's row without the -1 that pad it. */
function row(golden: GoldenCase, name: string, ...index: number[]): number[] {
  const { shape } = golden.tensor(name);
  const at = index.reduce((sum, i, axis) => sum * (shape[axis] ?? 0) + i, 0);
  const width = shape.at(-1) ?? 0;
  return [...golden.ints(name).subarray(at * width, (at + 1) * width)].filter((x) => x >= 0);
}

function allocation(golden: GoldenCase): void {
  it.each(Array.from({ length: golden.param('rows') }, (_, i) => i))('row %i', (i) => {
    const [layers = 0, cache = 0, window = 0, tokens = 0, cascading = 0] = row(golden, 'args', i);
    const prefs = [...golden.floats('prefs').subarray(i * 8, i * 8 + layers)];
    const [total, most] = [(cache - window) * layers, tokens - window];
    // A prompt that exceeds the cache by no more than a window is left alone.
    const fits = tokens <= cache + window;
    const stored = new Array<number>(layers).fill(most);
    let budgets: number[] = [];
    for (let stage = 0; stage < layers; stage++) {
      if (fits || (cascading === 0 && stage < layers - 1)) continue;
      budgets = allocate(prefs.slice(0, stage + 1), total, most);
      expect(budgets, `stage ${stage}`).toEqual(row(golden, 'budgets', i, stage));
      for (const [layer, rows] of budgets.entries())
        stored[layer] = Math.min(stored[layer] ?? 0, rows);
      expect(stored.slice(0, stage + 1), `stored after stage ${stage}`).toEqual(
        row(golden, 'stored_past', i, stage),
      );
    }
    expect(fits ? new Array<number>(layers).fill(cache - window) : budgets).toEqual(
      row(golden, 'layer_budget', i),
    );
  });
}

function statistics(device: string, golden: GoldenCase): void {
  it('dispersion, shift, preference and indicator', async () => {
    const [heads, kvHeads, dim, tokens, window] = ['Hq', 'Hkv', 'D', 'T', 'window'].map((name) =>
      golden.param(name),
    ) as [number, number, number, number, number];
    using cache = new TestCache(device, { heads: kvHeads, headDim: dim });
    const keys = tokenMajor(golden.floats('k'), [kvHeads, tokens, dim]);
    cache.append(keys, keys, 0);
    const { stream } = cache;
    const shape = [window, heads, dim] as const;
    using queries = cache.floats(
      tokenMajor(golden.floats('q_window'), [heads, window, dim]),
      shape,
    );
    using indicator = Tensor.empty(cache.device, 'float32', [kvHeads, tokens]);
    using pooled = Tensor.empty(cache.device, 'float32', [kvHeads, tokens]);
    using sums = Tensor.empty(cache.device, 'float64', [2]);
    cakeStatistics(stream, { indicator, sums }, queries, cache.kv.kv(0), {
      scale: 1 / Math.sqrt(dim),
      gamma: golden.param('gamma'),
      window,
    });
    const prefix = tokens - window;
    const size = golden.param('pool_kernel');
    cakePool(stream, pooled, indicator, { prefix, size, rest: Infinity });
    const [dispersion = 0, shift = 0] = (await sums.read(stream)) as Float64Array;
    golden.expectClose('entropy', [dispersion]);
    golden.expectClose('variance', [shift]);
    const taus = [golden.param('tau1'), golden.param('tau2')] as const;
    golden.expectClose('preference', [preference(dispersion, shift, ...taus)]);
    golden.expectClose('ref16_preference', [preference(dispersion, shift, ...taus)]);
    const all = await readFloats(pooled, stream);
    golden.expectClose(
      'indicator',
      all.filter((_, i) => i % tokens < prefix),
    );
    expect(all.filter((_, i) => i % tokens >= prefix).every((x) => x === Infinity)).toBe(true);
  });
}

function shapeOf(golden: GoldenCase): LayersShape {
  return {
    layers: golden.param('layers'),
    heads: golden.param('Hq'),
    kvHeads: golden.param('Hkv'),
    dim: golden.param('D'),
    window: golden.param('window'),
  };
}

function optionsOf(golden: GoldenCase, more: CakekvOptions): CakekvOptions {
  return {
    budget: { tokens: golden.param('cache_size') },
    gamma: golden.param('gamma'),
    tau1: golden.param('tau1'),
    tau2: golden.param('tau2'),
    cascading: golden.params.cascading as boolean,
    ...more,
  };
}

/** A layer's part of a tensor whose first axis is the layer. */
function ofLayer(golden: GoldenCase, name: string, layer: number): Float32Array {
  const data = golden.floats(name);
  const size = data.length / golden.param('layers');
  return data.subarray(layer * size, (layer + 1) * size);
}

/** Tokens `[from, to)` of a layer's `[heads, all, dim]`, head-major. */
function tokensOf(
  golden: GoldenCase,
  name: string,
  layer: number,
  [from, to]: readonly [number, number],
): Float32Array {
  const heads = golden.tensor(name).shape[1] ?? 0;
  const dim = golden.param('D');
  const data = ofLayer(golden, name, layer);
  const all = data.length / (heads * dim);
  const out = new Float32Array(heads * (to - from) * dim);
  for (let head = 0; head < heads; head++) {
    const begin = (head * all + from) * dim;
    out.set(data.subarray(begin, begin + (to - from) * dim), head * (to - from) * dim);
  }
  return out;
}

function promptOf(golden: GoldenCase, layer: number): LayerPrompt {
  const all = [0, golden.param('T')] as const;
  return {
    queries: ofLayer(golden, 'q_window', layer),
    keys: tokensOf(golden, 'k', layer, all),
    ...(golden.has('v') && { values: tokensOf(golden, 'v', layer, all) }),
  };
}

function cascade(device: string, golden: GoldenCase): void {
  const [count, window, tokens] = [
    golden.param('layers'),
    golden.param('window'),
    golden.param('T'),
  ];
  it('budgets and kept rows of every stage, and the order in which they are stored', async () => {
    using layers = new Layers(
      device,
      shapeOf(golden),
      optionsOf(golden, { decodeOrder: 'reference' }),
    );
    const { kv } = layers.cache;
    for (let stage = 0; stage < count; stage++) {
      const given = await layers.prompt(stage, promptOf(golden, stage));
      const budgets = [...given.values()].map(({ rows }) => rows - window);
      expect(budgets, `stage ${stage}`).toEqual(row(golden, 'budgets', stage));
      for (const [layer, past] of row(golden, 'stored_past', stage).entries()) {
        if (layer > stage) continue;
        expect(kv.rows(layer, 0) - window, `stage ${stage}, layer ${layer}`).toBe(past);
        if (!golden.has('stage_keep')) continue;
        const positions = await layers.cache.positions(layer);
        const keep = positions.map((_, head) => row(golden, 'stage_keep', stage, layer, head));
        expect(positions.map((head) => head.slice(0, -window))).toEqual(keep);
      }
    }
    for (let layer = 0; layer < count; layer++) {
      const positions = await layers.cache.positions(layer);
      expect(positions).toEqual(positions.map((_, head) => row(golden, 'keep', layer, head)));
      const stored = await layers.stored(layer);
      expect(stored.map((head) => head.slice(0, -window))).toEqual(
        positions.map((_, head) => row(golden, 'past_storage_order', layer, head)),
      );
      expect(layers.budget(layer)).toBe((golden.ints('layer_budget')[layer] ?? 0) + window);
    }
  });

  it('statistics of every layer', async () => {
    const { heads, kvHeads, dim } = shapeOf(golden);
    const got = { entropy: [] as number[], variance: [] as number[], preference: [] as number[] };
    for (let layer = 0; layer < count; layer++) {
      using cache = new TestCache(device, { heads: kvHeads, headDim: dim });
      const prompt = promptOf(golden, layer);
      const keys = tokenMajor(prompt.keys, [kvHeads, tokens, dim]);
      cache.append(keys, keys, 0);
      const shape = [window, heads, dim] as const;
      using queries = cache.floats(tokenMajor(prompt.queries, [heads, window, dim]), shape);
      using sums = Tensor.empty(cache.device, 'float64', [2]);
      const options = { scale: 1 / Math.sqrt(dim), window };
      cakeStatistics(cache.stream, { sums }, queries, cache.kv.kv(0), options);
      const [dispersion = 0, shift = 0] = (await sums.read(cache.stream)) as Float64Array;
      got.entropy.push(dispersion);
      got.variance.push(shift);
      got.preference.push(
        preference(dispersion, shift, golden.param('tau1'), golden.param('tau2')),
      );
    }
    for (const [name, values] of Object.entries(got)) golden.expectClose(name, values);
  });
}

function decoding(device: string, golden: GoldenCase): void {
  const shape = shapeOf(golden);
  const [tokens, steps] = [golden.param('T'), golden.param('decode_steps')];
  it.each(['positional', 'reference'] as const)('evicts in %s order', async (decodeOrder) => {
    using layers = new Layers(device, shape, optionsOf(golden, { decodeOrder }));
    const { cache } = layers;
    for (let layer = 0; layer < shape.layers; layer++)
      await layers.prompt(layer, promptOf(golden, layer));
    const start = (await positionsOf(layers)).map((heads, layer) => {
      expect(layers.budget(layer)).toBe((golden.ints('layer_budget')[layer] ?? 0) + shape.window);
      return heads;
    });
    for (const [layer, heads] of start.entries()) {
      const want = heads.map((_, head) => row(golden, 'start_storage_order', layer, head));
      const got = decodeOrder === 'reference' ? await layers.stored(layer) : heads;
      const ordered = (list: number[]): number[] =>
        decodeOrder === 'reference' ? list : [...list].sort((a, b) => a - b);
      expect(got.map((head) => head.slice(0, -shape.window))).toEqual(want.map(ordered));
    }

    let before = start;
    for (let step = 0; step < steps; step++) {
      const out: Float32Array[] = [];
      for (let layer = 0; layer < shape.layers; layer++) {
        const at = [step, step + 1] as const;
        const later = [tokens + step, tokens + step + 1] as const;
        out.push(
          await layers.step(layer, {
            q: tokensOf(golden, 'q_dec', layer, at),
            k: tokensOf(golden, 'k', layer, later),
            v: tokensOf(golden, 'v', layer, later),
          }),
        );
      }
      const after = await positionsOf(layers);
      for (const [layer, heads] of after.entries()) {
        for (const [head, kept] of heads.entries()) {
          const there = [...(before[layer]?.[head] ?? []), tokens + step];
          const evicted = there.filter((position) => !kept.includes(position));
          expect(evicted, `step ${step}, layer ${layer}, head ${head}`).toEqual(
            row(golden, `evicted_${decodeOrder}`, layer, step, head),
          );
        }
        const want = tokensOf(golden, `o_${decodeOrder}`, layer, [step, step + 1]);
        const tolerance = golden.tolerance[`o_${decodeOrder}`] ?? OUTPUTS;
        expectClose(out[layer] ?? [], want, tolerance, `output of step ${step}, layer ${layer}`);
      }
      before = after;
    }
    for (let layer = 0; layer < shape.layers; layer++) {
      const got =
        decodeOrder === 'reference' ? await layers.stored(layer) : await cache.positions(layer);
      expect(got).toEqual(got.map((_, head) => row(golden, `final_${decodeOrder}`, layer, head)));
    }
  });
}

async function positionsOf(layers: Layers): Promise<number[][][]> {
  const all: number[][][] = [];
  for (let layer = 0; layer < layers.shape.layers; layer++)
    all.push(await layers.cache.positions(layer));
  return all;
}
