import { describeGolden, expectClose, OUTPUTS, tokenMajor, type GoldenCase } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import type { StreamingllmOptions } from '../src/index.js';
import { cut, streamIndex } from '../src/rules.js';
import { settingsFrom, windowOf } from '../src/settings.js';
import { StreamHarness, type StreamShape } from './harness.js';

/** StreamingLLM against `golden/streamingllm`. */
export function parity(device: string): void {
  describeGolden('streamingllm', (cases) => {
    for (const golden of cases) {
      describe(golden.id, () => {
        if (golden.has('trim_args')) indexRules(golden);
        else if (golden.has('slots')) streams(device, golden);
        else absolute(device, golden);
      });
    }
  });
}

/** `[0, rows)` without a cut. */
function keptRows(rows: number, { at, count }: { at: number; count: number }): number[] {
  return Array.from({ length: rows }, (_, row) => row).filter(
    (row) => row < at || row >= at + count,
  );
}

function indexRules(golden: GoldenCase): void {
  it('trims', () => {
    const got = golden
      .lists('trim_args')
      .map(([sink = 0, recent = 0, rows = 0]) => keptRows(rows, cut({ sink, recent }, rows)));
    expect(got).toEqual(golden.lists('trim_keep'));
  });
  it('makes room', () => {
    const got = golden
      .lists('room_args')
      .map(([sink = 0, recent = 0, rows = 0, coming = 0]) =>
        keptRows(rows, cut({ sink, recent }, rows, coming)),
      );
    expect(got).toEqual(golden.lists('room_keep'));
  });
  it('takes a share of the prompt', () => {
    const args = golden.lists('ratio_args');
    const ratios = golden.doubles('ratio');
    const got = args.map(([rows = 0, sink = 0], i) => {
      const settings = settingsFrom({ sink, budget: { keep: 1 - (ratios[i] ?? 0) } });
      return keptRows(rows, cut(windowOf(settings, rows), rows));
    });
    expect(got).toEqual(golden.lists('ratio_keep'));
    expect(got.map((rows) => rows.length)).toEqual([...golden.ints('ratio_kept')]);
  });
}

type Operation = ['fwd', number] | ['trim'] | ['room', number] | ['repeat', number, Operation[]];

function flatten(plan: readonly Operation[]): Operation[] {
  return plan.flatMap((operation) =>
    operation[0] === 'repeat'
      ? Array.from({ length: operation[1] }, () => flatten(operation[2])).flat()
      : [operation],
  );
}

function shapeOf(golden: GoldenCase): StreamShape {
  return {
    heads: golden.param('Hq'),
    kvHeads: golden.param('Hkv'),
    dim: golden.param('D'),
    ...('rope_base' in golden.params && { base: golden.param('rope_base') }),
  };
}

/** Inputs and outputs of tokens `[from, to)`, token-major. */
function slice(golden: GoldenCase, name: string, from: number, to: number): Float32Array {
  const [heads, tokens, dim] = golden.tensor(name).shape as [number, number, number];
  return tokenMajor(golden.floats(name), [heads, tokens, dim], from, to);
}

function streams(device: string, golden: GoldenCase): void {
  const plan = flatten(golden.params.plan as Operation[]);
  const shape = shapeOf(golden);
  const tokens = golden.param('T');
  const turns = plan.some(([kind]) => kind === 'room');
  const options: StreamingllmOptions = {
    sink: golden.param('sinks'),
    recent: golden.param('recent'),
    trim: turns ? 'turn' : 'token',
    reserve: 0,
  };
  const inputs = (from: number, to: number): [Float32Array, Float32Array, Float32Array] => [
    slice(golden, 'q_pre', from, to),
    slice(golden, 'k_pre', from, to),
    slice(golden, 'v', from, to),
  ];
  const compare = (got: Float32Array, from: number, to: number): void =>
    expectClose(
      got,
      slice(golden, 'o', from, to),
      golden.tolerance.o ?? OUTPUTS,
      `outputs of tokens ${from} to ${to}`,
    );

  it('attends to the given rows at the given positions, operation by operation', async () => {
    using harness = new StreamHarness(device, shape, options);
    const slots = golden.lists('slots');
    const queryPositions = golden.ints('q_pos');
    const after = golden.lists('cache_after');
    harness.turnStart(0);
    for (const [i, [kind, count = 0]] of plan.entries()) {
      const from = harness.seen;
      if (kind === 'fwd') {
        const to = from + count;
        compare(await harness.forward(...inputs(from, to)), from, to);
        const [positions = []] = await harness.cache.positions();
        for (let token = from; token < to; token++) {
          const row = harness.rows - (to - token);
          expect(positions.slice(0, row + 1), `keys of token ${token}`).toEqual(slots[token]);
          expect(row, `place of token ${token}`).toBe(queryPositions[token]);
        }
      } else if (kind === 'room') {
        harness.turnStart(count);
      } else {
        harness.end(from > 1 && plan[i - 1]?.[1] !== 1 ? 'prefill' : 'decode');
      }
      for (const head of await harness.cache.positions())
        expect(head, `cache after ${kind} ${i}`).toEqual(after[i]);
    }
    expect(harness.seen).toBe(tokens);
  });

  const tokenByToken = golden.params.mode === 'token by token';
  if (!tokenByToken) return;
  it.each([1, 7, 64])('gives the same in one banded prompt, in chunks of %i', async (chunk) => {
    using harness = new StreamHarness(device, shape, { ...options, prefill: 'banded' });
    harness.turnStart(tokens);
    for (let from = 0; from < tokens; from += chunk) {
      const to = Math.min(tokens, from + chunk);
      compare(await harness.forward(...inputs(from, to)), from, to);
    }
    const window = { sink: golden.param('sinks'), recent: golden.param('recent') };
    const positions = [...golden.ints('q_pos')];
    expect(positions).toEqual(positions.map((_, token) => streamIndex(window, token)));
    harness.end('prefill');
    const [last] = golden.lists('cache_after').slice(-1);
    for (const head of await harness.cache.positions()) expect(head).toEqual(last);
  });
}

/** One cut at the end of the prompt, original positions, then append-only decoding. Inputs are rotated already. */
function absolute(device: string, golden: GoldenCase): void {
  it('cuts once and keeps original positions', async () => {
    const tokens = golden.param('T');
    const steps = golden.param('decode_steps');
    using harness = new StreamHarness(device, shapeOf(golden), {
      sink: golden.param('sinks'),
      recent: golden.param('window'),
      positions: 'original',
      trim: 'prompt',
    });
    const part = (name: string, from: number, to: number): Float32Array =>
      slice(golden, name, from, to);
    harness.turnStart(tokens);
    await harness.forward(part('q', 0, tokens), part('k', 0, tokens), part('v', 0, tokens));
    harness.end('prefill');
    expect(await harness.cache.positions()).toEqual(golden.lists('keep'));
    for (let step = 0; step < steps; step++) {
      const at = tokens + step;
      const got = await harness.forward(
        part('q', at, at + 1),
        part('k', at, at + 1),
        part('v', at, at + 1),
      );
      harness.end('decode');
      expectClose(
        got,
        part('o', step, step + 1),
        golden.tolerance.o ?? OUTPUTS,
        `output of step ${step}`,
      );
    }
    expect(harness.rows).toBe(golden.param('budget') + steps);
  });
}
