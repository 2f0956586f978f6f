import { describeGolden, expectClose, OUTPUTS, tokenMajor, type GoldenCase } from '@accel/testkit';
import { streamingllm } from '@accel/streamingllm';
import { describe, expect, it } from 'vitest';
import type { CamOptions } from '../src/index.js';
import { CamHarness } from './harness.js';
import { smearGolden } from './smear.js';

/** CaM against `golden/cam`: token by token over StreamingLLM, and on a prompt. */
export function parity(device: string): void {
  describeGolden('cam', (cases) => {
    for (const golden of cases) {
      describe(golden.id, () => {
        if (golden.has('v_smeared')) smearGolden(device, golden);
        else if (golden.has('o_open')) forced(device, golden);
        else stream(device, golden);
      });
    }
  });
}

/** StreamingLLM and CaM as a case wants them. Cases with queries before rotation have positions inside the cache. */
function harnessOf(device: string, golden: GoldenCase, options: CamOptions = {}): CamHarness {
  const [heads, kvHeads, dim] = ['Hq', 'Hkv', 'D'].map((name) => golden.param(name)) as [
    number,
    number,
    number,
  ];
  const relative = golden.has('q_pre');
  const shape = { heads, kvHeads, dim, ...(relative && { base: golden.param('rope_base') }) };
  const select = streamingllm({
    sink: golden.param('start'),
    recent: golden.param('recent'),
    positions: relative ? 'cacheRelative' : 'original',
  });
  return new CamHarness(device, shape, select, {
    targets: golden.param('merge_targets'),
    ...(!relative && { statistic: 'decode', divisor: 'actual' }),
    ...options,
  });
}

function inputs(
  golden: GoldenCase,
  from: number,
  to: number,
): [Float32Array, Float32Array, Float32Array] {
  const part = (name: string): Float32Array => rows(golden, name, from, to);
  return golden.has('q_pre')
    ? [part('q_pre'), part('k_pre'), part('v')]
    : [part('q'), part('k'), part('v')];
}

/** Tokens `[from, to)` of `[heads, tokens, dim]`, token-major. */
function rows(golden: GoldenCase, name: string, from: number, to: number): Float32Array {
  const [heads, tokens, dim] = golden.tensor(name).shape as [number, number, number];
  return tokenMajor(golden.floats(name), [heads, tokens, dim], from, to);
}

function stream(device: string, golden: GoldenCase): void {
  it('merges the same values with the same probabilities, token by token', async () => {
    using harness = harnessOf(device, golden);
    const kvHeads = golden.param('Hkv');
    const tokens = golden.param('T');
    const [p, u] = [golden.floats('p'), golden.floats('u')];
    const merge = golden.tensor('merge').data as Uint8Array;
    const evicted = golden.ints('evicted');
    const prompt = (golden.params.prompt as number | undefined) ?? 0;
    for (let token = 0; token < tokens;) {
      const to = token === 0 && prompt > 0 ? prompt : token + 1;
      const at = (data: Float32Array): Float32Array =>
        data.subarray((to - 1) * kvHeads, to * kvHeads);
      const { out, gates, gone } = await harness.forward(...inputs(golden, token, to), at(u));
      const where = `token ${token}`;
      expectClose(out, rows(golden, 'o', token, to), golden.tolerance.o ?? OUTPUTS, where);
      const want = [...evicted.subarray((to - 1) * kvHeads, to * kvHeads)];
      expect(gone, where).toEqual(want.map((position) => (position < 0 ? [] : [position])));
      expect(gates === undefined, where).toBe(want.every((position) => position < 0));
      if (gates !== undefined) {
        expectClose(gates.p, at(p), golden.tolerance.p ?? OUTPUTS, `p of ${where}`);
        expect([...gates.merged], where).toEqual([
          ...merge.subarray((to - 1) * kvHeads, to * kvHeads),
        ]);
      }
      token = to;
    }
    expect(await harness.cache.positions()).toEqual(golden.lists('final_pos'));
    const { values, scores } = await harness.contents();
    golden.expectClose('v_final', values);
    golden.expectClose('acc_final', scores);
  });
}

/** The gate held shut and held open, by numbers and by option. */
function forced(device: string, golden: GoldenCase): void {
  const run = async (
    options: CamOptions,
    u: number,
  ): Promise<{ outputs: Float32Array; values: Float32Array }> => {
    const tokens = golden.param('T');
    using harness = harnessOf(device, golden, options);
    const outputs: number[] = [];
    for (let token = 0; token < tokens; token++) {
      const got = await harness.forward(...inputs(golden, token, token + 1), Float32Array.of(u));
      outputs.push(...got.out);
    }
    const { values } = await harness.contents();
    return { outputs: Float32Array.from(outputs), values };
  };
  it.each([
    { name: 'closed', u: 1, gate: 'never' },
    { name: 'open', u: 0, gate: 'always' },
  ] as const)('$name', async ({ name, u, gate }) => {
    const drawn = await run({}, u);
    const want = rows(golden, `o_${name}`, 0, golden.param('T'));
    expectClose(drawn.outputs, want, golden.tolerance[`o_${name}`] ?? OUTPUTS, 'outputs');
    golden.expectClose(`v_final_${name}`, drawn.values);
    expect(await run({ gate }, 0.5)).toEqual(drawn);
  });
}
