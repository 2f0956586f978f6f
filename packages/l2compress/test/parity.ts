import { ops } from '@accel/kernels';
import {
  describeGolden,
  expectClose,
  OUTPUTS,
  readFloats,
  TestCache,
  tokenMajor,
  type GoldenCase,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { Compressor, fill, scoresOf, type Shape } from './caches.js';

/** L2Compress against `golden/l2compress`: norms, kept rows, rounding, layers and the loop over tokens. */
export function parity(device: string): void {
  describeGolden('l2compress', (cases) => {
    for (const golden of cases) {
      describe(golden.id, () => {
        if (golden.id === 'l2-rounding') rounding(device, golden);
        else if (golden.has('cache_len')) stepwise(device, golden);
        else if (golden.has('keep_capacity')) layers(device, golden);
        else selection(device, golden);
      });
    }
  });
}

function shapeOf(golden: GoldenCase): Shape {
  return [golden.param('Hkv'), golden.param('T'), golden.param('D')];
}

const UNPROTECTED = { sink: 0, recent: 0 };

function selection(device: string, golden: GoldenCase): void {
  const [heads, tokens, headDim] = shapeOf(golden);
  const load = (): TestCache => {
    const cache = new TestCache(device, { heads, headDim });
    const values = golden.has('v') ? { values: promptValues(golden) } : {};
    fill(cache, golden.floats('k'), [heads, tokens, headDim], values);
    return cache;
  };

  it('scores are minus the squared norms', async () => {
    using cache = load();
    const scores = await scoresOf(cache, UNPROTECTED);
    golden.expectClose(
      'norms',
      scores.map((score) => Math.sqrt(-score)),
    );
  });

  it('the selector leaves these rows in the cache', async () => {
    using cache = load();
    const compressor = new Compressor(cache, {
      budget: { keep: golden.param('keep_ratio') },
      skipLayers: [],
    });
    await compressor.prefill();
    const keep = golden.lists('keep');
    expect(await cache.positions()).toEqual(keep);
    expect(compressor.reports).toEqual([{ rowsIn: tokens, rowsKept: golden.param('keep') }]);
    if (golden.has('o')) await decode(cache, golden);
  });
}

/** Decoding attends to kept and appended rows and evicts nothing. */
async function decode(cache: TestCache, golden: GoldenCase): Promise<void> {
  const [kvHeads, tokens, dim] = shapeOf(golden);
  const [heads, steps] = [golden.param('Hq'), golden.param('decode_steps')];
  const kept = cache.kv.rows(0, 0);
  const q = tokenMajor(golden.floats('q_dec'), [heads, steps, dim]);
  const k = tokenMajor(golden.floats('k_dec'), [kvHeads, steps, dim]);
  const v = tokenMajor(golden.floats('v'), [kvHeads, tokens + steps, dim], tokens);
  const want = tokenMajor(golden.floats('o'), [heads, steps, dim]);
  using out = cache.empty([1, heads, dim]);
  for (let step = 0; step < steps; step++) {
    const rowOf = (data: Float32Array, count: number): Float32Array =>
      data.subarray(step * count * dim, (step + 1) * count * dim);
    cache.append(rowOf(k, kvHeads), rowOf(v, kvHeads), tokens + step);
    using query = cache.floats(rowOf(q, heads), [1, heads, dim]);
    ops.attention(cache.stream, out, null, query, cache.kv.kv(0), Int32Array.of(1), {
      scale: 1 / Math.sqrt(dim),
      causal: true,
    });
    const got = await readFloats(out, cache.stream);
    expectClose(got, rowOf(want, heads), golden.tolerance.o ?? OUTPUTS, `output of step ${step}`);
    expect(cache.kv.rows(0, 0)).toBe(kept + step + 1);
  }
}

function promptValues(golden: GoldenCase): Float32Array {
  const [heads, tokens, dim] = shapeOf(golden);
  const all = golden.floats('v');
  const total = all.length / (heads * dim);
  const values = new Float32Array(heads * tokens * dim);
  for (let head = 0; head < heads; head++) {
    const begin = head * total * dim;
    values.set(all.subarray(begin, begin + tokens * dim), head * tokens * dim);
  }
  return values;
}

/** Skipped layers, prune_after on both sides of the prompt, and the form with a fixed number of rows. */
function layers(device: string, golden: GoldenCase): void {
  const [heads, tokens, headDim] = shapeOf(golden);
  const count = golden.param('layers');
  const size = heads * tokens * headDim;
  const skipLayers = golden.params.skip_layers as number[];
  const [below = 0, equal = 0, above = 0] = golden.params.prune_after as number[];
  const keep = { keep: golden.param('keep_ratio') };
  it.each([
    { name: 'keep_prune_below', budget: keep, pruneAfter: below },
    { name: 'keep_prune_equal', budget: keep, pruneAfter: equal },
    { name: 'keep_prune_above', budget: keep, pruneAfter: above },
    { name: 'keep_capacity', budget: { tokens: golden.param('capacity') }, pruneAfter: 0 },
  ])('$name', async ({ name, budget, pruneAfter }) => {
    using cache = new TestCache(device, { heads, headDim, layers: count });
    const compressor = new Compressor(cache, { budget, pruneAfter, skipLayers });
    const want = golden.lists(name);
    for (let layer = 0; layer < count; layer++) {
      const keys = golden.floats('k').subarray(layer * size, (layer + 1) * size);
      fill(cache, keys, [heads, tokens, headDim], { layer });
      await compressor.prefill({ layer });
      const kept = want.slice(layer * heads, (layer + 1) * heads);
      expect(await cache.positions(layer), `layer ${layer}`).toEqual(kept);
    }
    expect(compressor.reports).toHaveLength(pruneAfter > tokens ? 0 : count - skipLayers.length);
  });
}

/** After the prompt and after every token, so that the length saws. */
function stepwise(device: string, golden: GoldenCase): void {
  it('keeps these rows after every token', async () => {
    const [heads, headDim] = [golden.param('Hkv'), golden.param('D')];
    const [first, steps] = [golden.param('T0'), golden.param('steps')];
    const keys = golden.floats('k');
    const shape: Shape = [heads, first + steps, headDim];
    const want = golden.lists('keep');
    const lengths = golden.ints('cache_len');
    using cache = new TestCache(device, { heads, headDim });
    const compressor = new Compressor(cache, {
      budget: { keep: golden.param('keep_ratio') },
      pruneAfter: golden.param('prune_after'),
      skipLayers: [],
      evicts: 'everyStep',
    });
    fill(cache, keys, shape, { to: first });
    await compressor.prefill();
    for (let step = 0; step <= steps; step++) {
      if (step > 0) {
        fill(cache, keys, shape, { from: first + step - 1, to: first + step });
        await compressor.decode({ seen: first + step });
      }
      expect(cache.kv.rows(0, 0), `length after step ${step}`).toBe(lengths[step]);
      const rows = want.slice(step * heads, (step + 1) * heads);
      expect(await cache.positions(), `rows after step ${step}`).toEqual(rows);
    }
  });
}

/** `ceil(keep · n)`, and kvpress's `trunc(n · (1 − r))`, in double precision. */
function rounding(device: string, golden: GoldenCase): void {
  const counts = (names: readonly [string, string, string]): [number, number, number][] => {
    const [share, rows, kept] = [
      golden.doubles(names[0]),
      golden.ints(names[1]),
      golden.ints(names[2]),
    ];
    return Array.from(share, (value, i) => [value, rows[i] ?? 0, kept[i] ?? 0]);
  };
  const check = async (
    options: { keep: number; rounding: 'ceil' | 'trunc' },
    rows: number,
  ): Promise<number> => {
    const headDim = 8;
    using cache = new TestCache(device, { heads: 1, headDim });
    fill(cache, new Float32Array(rows * headDim).fill(1), [1, rows, headDim]);
    const { keep, rounding: how } = options;
    const compressor = new Compressor(cache, { budget: { keep }, rounding: how, skipLayers: [] });
    await compressor.prefill();
    return cache.kv.rows(0, 0);
  };
  it.each(counts(['keep_ratio', 'n', 'keep']))(
    'keeps the share %d of %i rows: %i',
    async (keep, rows, kept) => {
      expect(await check({ keep, rounding: 'ceil' }, rows)).toBe(kept);
    },
  );
  it.each(counts(['ratio', 'n2', 'n_kept']))(
    'removes the share %d of %i rows: %i',
    async (ratio, rows, kept) => {
      expect(await check({ keep: 1 - ratio, rounding: 'trunc' }, rows)).toBe(kept);
    },
  );
}
