import { describeGolden, expectClose, OUTPUTS, tokenMajor, type GoldenCase } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import type { H2oOptions } from '../src/index.js';
import { H2oHarness } from './harness.js';

/** H2O against `golden/h2o`: scores, kept rows, evicted rows and outputs, forward by forward. */
export function parity(device: string): void {
  describeGolden('h2o', (cases) => {
    for (const golden of cases) {
      describe(golden.id, () => {
        if (golden.has('cache_len')) stream(device, golden);
        else for (const mode of modes(golden)) prompt(device, golden, mode);
      });
    }
  });
}

type Mode = 'mean' | 'max' | 'sum' | 'first' | 'none';

/** Cases with several modes name outputs by mode. */
function modes(golden: GoldenCase): Mode[] {
  return golden.has('scores') ? ['none'] : ['mean', 'max', 'sum', 'first', 'none'];
}

/** Inputs of tokens `[from, to)`, token-major. Without grouping every query head has keys of its own. */
function inputs(
  golden: GoldenCase,
  mode: Mode,
): { heads: number; kvHeads: number; dim: number } & {
  slice: (from: number, to: number) => [Float32Array, Float32Array, Float32Array];
} {
  const [heads, kvHeads, dim, tokens] = ['Hq', 'Hkv', 'D', 'T'].map((name) =>
    golden.param(name),
  ) as [number, number, number, number];
  const width = mode === 'none' ? heads : kvHeads;
  const group = heads / kvHeads;
  const repeated = (name: string): Float32Array => {
    const data = golden.floats(name);
    if (width === kvHeads) return data;
    const out = new Float32Array(heads * tokens * dim);
    for (let head = 0; head < heads; head++) {
      const from = Math.floor(head / group) * tokens * dim;
      out.set(data.subarray(from, from + tokens * dim), head * tokens * dim);
    }
    return out;
  };
  const [q, k, v] = [golden.floats('q'), repeated('k'), repeated('v')];
  return {
    heads,
    kvHeads: width,
    dim,
    slice: (from, to) => [
      tokenMajor(q, [heads, tokens, dim], from, to),
      tokenMajor(k, [width, tokens, dim], from, to),
      tokenMajor(v, [width, tokens, dim], from, to),
    ],
  };
}

function optionsOf(golden: GoldenCase, mode: Mode): H2oOptions {
  return {
    budget: { tokens: golden.param('budget') },
    recent: golden.param('recent'),
    groupReduce: mode === 'none' ? 'mean' : mode,
  };
}

/** Rows `[from, to)` of `[heads, tokens, dim]` as a kernel gives them. */
function outputs(golden: GoldenCase, name: string, from = 0, to?: number): Float32Array {
  const [heads, tokens, dim] = golden.tensor(name).shape as [number, number, number];
  return tokenMajor(golden.floats(name), [heads, tokens, dim], from, to ?? tokens);
}

/** One prompt, in every mode. */
function prompt(device: string, golden: GoldenCase, mode: Mode): void {
  const name = (what: string): string => {
    if (golden.has('scores')) return what;
    return `${what}_${mode === 'none' ? 'query_head' : mode}`;
  };
  it.each([Infinity, 7])(`${mode}: scores and kept rows, in chunks of %d`, async (chunk) => {
    const { slice, ...shape } = inputs(golden, mode);
    using harness = new H2oHarness(device, shape, optionsOf(golden, mode));
    const got = await harness.forward(...slice(0, golden.param('T')), chunk);
    golden.expectClose(name('scores'), (await harness.scores()).flat());
    const last = outputs(golden, 'o_last');
    expectClose(got.subarray(-last.length), last, golden.tolerance.o_last ?? OUTPUTS, 'o_last');
    harness.end();
    expect(await harness.cache.positions()).toEqual(golden.lists(name('keep')));
  });
}

/** A prompt, then decode steps and later turns. */
function stream(device: string, golden: GoldenCase): void {
  const steps = golden.param('decode_steps');
  const sizes = (golden.params.chunks as number[] | null) ?? [
    golden.param('prefill'),
    ...new Array<number>(steps).fill(1),
  ];
  const mode = golden.params.gqa_mode as Mode;

  it('keeps the same rows with the same scores at every forward', async () => {
    const { slice, ...shape } = inputs(golden, mode);
    using harness = new H2oHarness(device, shape, optionsOf(golden, mode));
    const capacity = golden.param('budget');
    const lengths = golden.ints('cache_len');
    const scores = golden.floats('kept_scores');
    const [keep, evicted] = [golden.lists('keep'), golden.lists('evicted')];
    const [first = 0] = sizes;
    for (const [i, size] of sizes.entries()) {
      const from = harness.seen;
      const got = await harness.forward(...slice(from, from + size));
      if (i === 0) {
        golden.expectClose('prefill_scores', (await harness.scores()).flat());
        const last = outputs(golden, 'o_prefill_last');
        const tolerance = golden.tolerance.o_prefill_last ?? OUTPUTS;
        expectClose(got.subarray(-last.length), last, tolerance, 'last rows of the prompt');
      } else {
        const want = outputs(golden, 'o', from - first, from - first + size);
        expectClose(got, want, golden.tolerance.o ?? OUTPUTS, `output of forward ${i}`);
      }
      const all = await harness.cache.positions();
      harness.end();
      expect(harness.rows).toBe(lengths[i]);
      const positions = await harness.cache.positions();
      const heads = positions.length;
      expect(positions, `forward ${i}`).toEqual(keep.slice(i * heads, (i + 1) * heads));
      if (i > 0) {
        const gone = positions.map((rows, head) =>
          (all[head] ?? []).filter((position) => !rows.includes(position)),
        );
        expect(gone).toEqual(evicted.slice((i - 1) * heads, i * heads));
      }
      for (const [head, got] of (await harness.scores()).entries()) {
        const at = (i * heads + head) * capacity;
        const tolerance = golden.tolerance.kept_scores ?? OUTPUTS;
        expectClose(got, scores.subarray(at, at + got.length), tolerance, `scores, forward ${i}`);
      }
    }
  });
}
