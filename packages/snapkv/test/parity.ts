import { ops } from '@accel/kernels';
import {
  describeGolden,
  expectClose,
  goldenConfigErrors,
  layerEnd,
  OUTPUTS,
  partSetup,
  readFloats,
  tokenMajor,
  type GoldenCase,
  errorWith,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { snapkv, type SnapkvOptions } from '../src/index.js';
import { cacheOf, queriesOf, selectByOps, type Prompt } from './selection.js';

/** SnapKV against `golden/snapkv`: the ops step by step, and the selector on a real cache. */
export function parity(device: string): void {
  describeGolden('snapkv', (cases) => {
    for (const golden of cases) {
      describe(golden.id, () => {
        if ('ratios' in golden.params) ratioForm(device, golden);
        else for (const mode of modes(golden)) selection(device, golden, mode);
      });
    }
    it.each(goldenConfigErrors('snapkv'))('refuses $params: $reason', ({ params }) => {
      const { window: observe = 0, capacity: tokens = 0, kernel: size = 5 } = params;
      expect(() => snapkv({ observe, budget: { tokens }, pool: { size } })).toThrow(
        errorWith(size % 2 === 0 ? 'ERR_ACCEL_POLICY' : 'ERR_ACCEL_BUDGET'),
      );
    });
  });
}

type Mode = 'mean' | 'max' | 'sum' | 'none';

function modes(golden: GoldenCase): Mode[] {
  return golden.params.gqa_modes as Mode[];
}

/** Names of outputs carry the mode only where a case has several. */
function output(golden: GoldenCase, name: string, mode: Mode): string {
  if (modes(golden).length === 1) return name;
  return `${name}_${mode === 'none' ? 'query_head' : mode}`;
}

function promptOf(golden: GoldenCase): Prompt {
  const [heads, kvHeads, dim, tokens] = ['Hq', 'Hkv', 'D', 'T'].map((name) =>
    golden.param(name),
  ) as [number, number, number, number];
  const window = Math.min(golden.param('window'), tokens);
  return {
    queries: golden.floats('q_window'),
    keys: golden.floats('k'),
    heads,
    kvHeads,
    tokens,
    window,
    dim,
  };
}

function optionsOf(golden: GoldenCase, mode: Mode): SnapkvOptions {
  return {
    budget: { tokens: golden.param('capacity') },
    observe: golden.param('window'),
    pool: { kind: golden.params.pooling as 'avg' | 'max', size: golden.param('kernel') },
    groupReduce: mode === 'none' ? 'mean' : mode,
  };
}

function selection(device: string, golden: GoldenCase, mode: Mode): void {
  const prompt = promptOf(golden);
  const options = optionsOf(golden, mode);
  const pool = { kind: golden.params.pooling as 'avg' | 'max', size: golden.param('kernel') };
  const name = (what: string): string => output(golden, what, mode);

  // A prompt shorter than the capacity is not scored.
  if (golden.has(name('scores'))) {
    it(`${mode}: scores, pooled scores and kept rows`, async () => {
      const capacity = golden.param('capacity');
      const { scores, pooled, keep } = await selectByOps(
        device,
        prompt,
        { pool, reduce: mode },
        capacity,
      );
      golden.expectClose(name('scores'), scores);
      golden.expectClose(name('pooled'), pooled);
      expect(keep).toEqual(golden.lists(name('keep')));
      if (golden.has(name('threshold')))
        expectTies(golden, name, pooled, prompt.tokens - prompt.window);
    });
  }

  // One kept set per query head exists for comparison only; with one query head per kv head it is the same thing.
  if (mode === 'none' && prompt.heads !== prompt.kvHeads) return;
  it(`${mode}: the selector leaves these rows in the cache`, async () => {
    const values = golden.has('v') && { values: promptValues(golden, prompt) };
    using cache = cacheOf(device, { ...prompt, ...values });
    const reports = await compress(cache, prompt, options);
    const keep = golden.lists(name('keep'));
    expect(await cache.positions()).toEqual(keep);
    expect(reports).toEqual([{ rowsIn: prompt.tokens, rowsKept: keep[0]?.length }]);
    if (golden.has('o')) await decode(cache, golden, prompt);
  });
}

/** How many scores lie above and at the threshold tells a valid choice among ties from a wrong one. */
function expectTies(
  golden: GoldenCase,
  name: (what: string) => string,
  pooled: Float32Array,
  prefix: number,
): void {
  const thresholds = golden.floats(name('threshold'));
  for (const [head, threshold] of thresholds.entries()) {
    const row = pooled.subarray(head * prefix, (head + 1) * prefix);
    const near = 1e-6 + 1e-4 * threshold;
    expect(row.filter((score) => score > threshold + near).length).toBe(
      golden.ints(name('n_greater'))[head],
    );
    expect(row.filter((score) => Math.abs(score - threshold) <= near).length).toBe(
      golden.ints(name('n_equal'))[head],
    );
  }
}

/** Runs the selector at the end of a one-layer prompt. */
async function compress(
  cache: ReturnType<typeof cacheOf>,
  prompt: Prompt,
  options: SnapkvOptions,
): Promise<{ rowsIn: number; rowsKept: number }[]> {
  const { heads, kvHeads, dim: headDim } = prompt;
  const selector = snapkv(options).create(partSetup(cache, { heads, kvHeads, headDim }));
  const reports: { rowsIn: number; rowsKept: number }[] = [];
  using queries = queriesOf(cache, prompt);
  const end = layerEnd(cache, { queries, report: (part) => reports.push(part) });
  selector.prefillEnd(end);
  await cache.stream.synchronize();
  selector.dispose();
  return reports;
}

/** Decoding attends to kept and appended rows and evicts nothing. */
async function decode(
  cache: ReturnType<typeof cacheOf>,
  golden: GoldenCase,
  prompt: Prompt,
): Promise<void> {
  const { heads, kvHeads, tokens, dim } = prompt;
  const steps = golden.param('decode_steps');
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

function promptValues(golden: GoldenCase, { kvHeads, tokens, dim }: Prompt): Float32Array {
  const all = golden.floats('v');
  const total = all.length / (kvHeads * dim);
  const values = new Float32Array(kvHeads * tokens * dim);
  for (let head = 0; head < kvHeads; head++) {
    values.set(
      all.subarray(head * total * dim, (head * total + tokens) * dim),
      head * tokens * dim,
    );
  }
  return values;
}

/** The form with a removed share: window counted in what is kept, mean over the window's rows. */
function ratioForm(device: string, golden: GoldenCase): void {
  const prompt = promptOf(golden);
  const ratios = golden.doubles('ratio');
  const pool = { kind: 'avg', size: golden.param('kernel') } as const;
  it.each([...ratios.entries()])('case %i: removes the share %d', async (i, ratio) => {
    const kept = golden.ints('n_kept')[i] ?? 0;
    const { pooled, keep } = await selectByOps(device, prompt, { pool, reduce: 'mean' }, kept);
    const means = pooled.map((score) => score / prompt.window);
    golden.expectClose('scores', means);
    expect(keep).toEqual(golden.lists(`keep_${i}`));

    using cache = cacheOf(device, prompt);
    await compress(cache, prompt, { budget: { keep: 1 - ratio }, observe: prompt.window, pool });
    expect(await cache.positions()).toEqual(golden.lists(`keep_${i}`));
  });
}
