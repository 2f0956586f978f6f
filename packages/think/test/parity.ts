import type { DType } from '@accel/kernels';
import { snapkv } from '@accel/snapkv';
import {
  describeGolden,
  expectClose,
  layerEnd,
  OUTPUTS,
  partSetup,
  tokenMajor,
  type GoldenCase,
  type Tolerance,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import type { ThinkOptions } from '../src/index.js';
import { ThinkHarness } from './harness.js';

/** ThinK against `golden/think`, but for the case with KIVI: scores, channels, stored keys and outputs. */
export function parity(device: string): void {
  describeGolden('think', (cases) => {
    // Codes of a codec are compared in kivi.test.ts.
    for (const golden of cases.filter((one) => !one.has('codes_k'))) {
      describe(golden.id, () => {
        if ('ratios' in golden.params) everyRatio(device, golden);
        else stream(device, golden);
      });
    }
  });
}

/** What a case is computed on. Without grouping each query head has keys of its own, so it is its own kv head. */
class Inputs {
  readonly golden: GoldenCase;
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  readonly tokens: number;

  constructor(golden: GoldenCase) {
    this.golden = golden;
    this.heads = golden.param('Hq');
    this.kvHeads = golden.params.gqa_mode === 'mean' ? golden.param('Hkv') : this.heads;
    this.dim = golden.param('D');
    this.tokens = golden.param('T');
  }

  get options(): ThinkOptions {
    return {
      ratio: this.golden.param('pruning_ratio'),
      recent: this.golden.param('recent_size'),
      observe: this.golden.param('score_queries'),
    };
  }

  /** Rows `[from, to)` of `[given heads, rows, dim]`, token-major, at `heads` heads. */
  rows(name: string, heads: number, from: number, to: number): Float32Array {
    const data = this.golden.floats(name);
    const [given = 0, rows = 0] = this.golden.tensor(name).shape;
    const wide = new Float32Array(heads * rows * this.dim);
    for (let head = 0; head < heads; head++) {
      const source = Math.floor((head * given) / heads) * rows * this.dim;
      wide.set(data.subarray(source, source + rows * this.dim), head * rows * this.dim);
    }
    return tokenMajor(wide, [heads, rows, this.dim], from, to);
  }

  get lastQueries(): Float32Array {
    const rows = this.golden.tensor('q_last').shape[1] ?? 0;
    return this.rows('q_last', this.heads, 0, rows);
  }
}

const maskOf = (channels: readonly number[][], dim: number): number[] =>
  channels.flatMap((kept) => Array.from({ length: dim }, (_, c) => Number(kept.includes(c))));

/** A prompt, its selection, and decode steps. */
function stream(device: string, golden: GoldenCase): void {
  const inputs = new Inputs(golden);
  const { heads, kvHeads, dim, tokens } = inputs;
  const steps = golden.param('decode_steps');
  // All inputs are exact in 16 bits, so scores, channels and stored keys are the same there.
  it.each(['float32', 'bfloat16', 'float16'] as const)(
    'chooses the same channels, stores the same keys and gives the same outputs in %s',
    async (dtype: DType) => {
      using harness = new ThinkHarness(device, { heads, kvHeads, dim, dtype }, inputs.options);
      const { cache } = harness;
      cache.append(inputs.rows('k', kvHeads, 0, tokens), inputs.rows('v', kvHeads, 0, tokens), 0);
      harness.observe(inputs.lastQueries);
      using queries = harness.queries(inputs.lastQueries);
      const select = snapkv({
        budget: { tokens: golden.param('capacity') },
        observe: golden.param('window'),
        pool: { kind: 'avg', size: golden.param('kernel') },
      }).create(partSetup(cache, { heads }));
      select.prefillEnd(layerEnd(cache, { queries }));
      select.dispose();
      expect(await cache.positions()).toEqual(golden.lists('keep'));

      golden.expectClose('channel_scores', await harness.scores(inputs.lastQueries));
      harness.prune();
      const pruned = golden.ints('n_pruned_tokens')[0];
      expect(harness.pruned()).toEqual(new Array(kvHeads).fill(pruned));
      const { channels, keys } = await harness.stored();
      expect(maskOf(channels, dim)).toEqual([
        ...(golden.tensor('channel_keep').data as Uint8Array),
      ]);
      expect(keys).toEqual(golden.floats('k_pruned'));

      for (let step = 0; step < steps; step++) {
        const [k, v] = [
          inputs.rows('k_dec', kvHeads, step, step + 1),
          inputs.rows('v', kvHeads, tokens + step, tokens + step + 1),
        ];
        cache.append(k, v, tokens + step);
        const { out, lse } = await harness.attend(inputs.rows('q_dec', heads, step, step + 1));
        const want = inputs.rows('o', heads, step, step + 1);
        expectClose(out, want, outputTolerance(golden, dtype), `output of step ${step}`);
        if (step > 0) continue;
        const logits = golden.floats('logits_step0');
        const sums = Float32Array.from(lse, (_, head) => {
          const of = logits.subarray(
            (head * logits.length) / heads,
            ((head + 1) * logits.length) / heads,
          );
          return Math.log(of.reduce((sum, logit) => sum + Math.exp(logit), 0));
        });
        expectClose(lse, sums, { abs: 1e-4, rel: 1e-4 }, 'log-sum-exp of the logits of step 0');
      }
    },
  );
}

/** Logits are computed from exact 16-bit products; weights and outputs are rounded. */
function outputTolerance(golden: GoldenCase, dtype: DType): Tolerance {
  if (dtype === 'float32') return golden.tolerance.o ?? OUTPUTS;
  const most = golden.floats('o').reduce((top, x) => Math.max(top, Math.abs(x)), 0);
  return { abs: (dtype === 'bfloat16' ? 1e-2 : 2e-3) * most, rel: 0 };
}

/** Numbers of channels and masks for several ratios. */
function everyRatio(device: string, golden: GoldenCase): void {
  const [heads, dim, tokens] = ['Hq', 'D', 'T'].map((name) => golden.param(name)) as [
    number,
    number,
    number,
  ];
  const last = golden.tensor('q_last').shape[1] ?? 0;
  const q = tokenMajor(golden.floats('q_last'), [heads, last, dim]);
  const k = tokenMajor(golden.floats('k'), [heads, tokens, dim]);
  const masks = golden.tensor('channel_keep').data as Uint8Array;
  it.each([...golden.doubles('ratio')].map((ratio, i) => ({ ratio, i })))(
    'chooses the same channels at a ratio of $ratio',
    async ({ ratio, i }) => {
      using harness = new ThinkHarness(device, { heads, kvHeads: heads, dim }, { ratio });
      harness.cache.append(k, k, 0);
      harness.observe(q);
      golden.expectClose('channel_scores', await harness.scores(q));
      harness.prune();
      expect(dim - harness.kept).toBe(golden.ints('n_pruned')[i]);
      const { channels } = await harness.stored();
      const size = heads * dim;
      expect(maskOf(channels, dim)).toEqual([...masks.subarray(i * size, (i + 1) * size)]);
    },
  );
}
