import { describeDevices, expectClose, generated, tokenMajor } from '@accel/testkit';
import { expect, it } from 'vitest';
import type { H2oOptions } from '../src/index.js';
import { H2oHarness } from './harness.js';

const DIM = 8;

/** Queries and keys from the portable generator, head-major, and how many there are. */
interface Stream {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly heads: number;
  readonly kvHeads: number;
  readonly tokens: number;
}

function stream(
  seeds: { q: number; k: number },
  heads: number,
  kvHeads: number,
  tokens: number,
): Stream {
  return {
    q: generated(seeds.q, heads * tokens * DIM, 4),
    k: generated(seeds.k, kvHeads * tokens * DIM),
    heads,
    kvHeads,
    tokens,
  };
}

/** The same, where every query from token 27 on asks for token 26. */
function spiked(plain: Stream): Stream {
  const { heads, kvHeads, tokens, k } = plain;
  const q = plain.q.slice();
  for (let head = 0; head < heads; head++) {
    const from = (Math.floor((head * kvHeads) / heads) * tokens + 26) * DIM;
    for (let token = 27; token < tokens; token++)
      q.set(
        k.subarray(from, from + DIM).map((x) => 4 * x),
        (head * tokens + token) * DIM,
      );
  }
  return { ...plain, q };
}

/** A prompt and decode steps. @returns positions and scores after the prompt and at the end, and what each step evicted */
async function run(
  device: string,
  { q, k, heads, kvHeads, tokens }: Stream,
  prompt: number,
  options: H2oOptions,
): Promise<{
  sums: number[][];
  first: number[][];
  evicted: number[][];
  last: number[][];
  scores: number[][];
}> {
  using harness = new H2oHarness(device, { heads, kvHeads, dim: DIM }, options);
  const slice = (from: number, to: number): [Float32Array, Float32Array, Float32Array] => {
    const keys = tokenMajor(k, [kvHeads, tokens, DIM], from, to);
    return [tokenMajor(q, [heads, tokens, DIM], from, to), keys, keys];
  };
  await harness.forward(...slice(0, prompt));
  const sums = await harness.scores();
  harness.end();
  const first = await harness.cache.positions();
  const evicted: number[][] = Array.from({ length: kvHeads }, () => []);
  for (let token = prompt; token < tokens; token++) {
    await harness.forward(...slice(token, token + 1));
    const before = await harness.cache.positions();
    harness.end();
    for (const [head, rows] of (await harness.cache.positions()).entries()) {
      const gone = before[head]?.filter((position) => !rows.includes(position)) ?? [];
      evicted[head]?.push(...gone);
    }
  }
  return {
    sums,
    first,
    evicted,
    last: await harness.cache.positions(),
    scores: await harness.scores(),
  };
}

const near = { abs: 1e-3, rel: 1e-4 };
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

describeDevices('H2O known answers', (device) => {
  const mha = stream({ q: 1, k: 2 }, 2, 2, 32);

  it('one query head a kv head: the heavy set freezes on early tokens', async () => {
    const got = await run(device, mha, 24, { budget: { tokens: 8 } });
    const head0 =
      '5.5011 2.0518 2.0924 1.0504 1.265 2.036 .8926 1.4844 .7132 .7911 .9094 .8148 1.2491 .784 .3051 .7291 .122 .0778 .4801 .2253 .2391 .1101 .0518 .0245';
    expectClose(got.sums[0] ?? [], head0.split(' ').map(Number), near, 'column sums');
    // Softmax rows add up to one, and nothing has left yet.
    for (const sums of got.sums) {
      expect(sums.reduce((a, b) => a + b, 0)).toBeCloseTo(24, 4);
    }
    expect(got.first).toEqual([
      [0, 1, 2, 5, ...range(20, 23)],
      [0, 4, 5, 8, ...range(20, 23)],
    ]);
    expect(got.evicted).toEqual([range(20, 27), range(20, 27)]);
    expect(got.last).toEqual([
      [0, 1, 2, 5, ...range(28, 31)],
      [0, 4, 5, 8, ...range(28, 31)],
    ]);
    const scores = [
      [6.2206, 2.6656, 3.4513, 3.2665, 0.2908, 0.2275, 0.1411, 0.0191],
      [4.1421, 3.5888, 4.8019, 3.1332, 0.6519, 0.1949, 0.5144, 0.0017],
    ];
    expectClose(got.scores.flat(), scores.flat(), near, 'scores at the end');
  });

  it('a token that is asked for moves into the heavy set', async () => {
    const input = spiked(stream({ q: 1, k: 2 }, 2, 2, 40));
    const got = await run(device, input, 24, { budget: { tokens: 8 } });
    expect(got.first).toEqual([
      [0, 1, 2, 5, ...range(20, 23)],
      [0, 1, 2, 6, ...range(20, 23)],
    ]);
    expect(got.evicted).toEqual([
      [...range(20, 25), 5, ...range(27, 35)],
      [...range(20, 25), 1, ...range(27, 35)],
    ]);
    expect(got.last).toEqual([
      [0, 1, 2, 26, ...range(36, 39)],
      [0, 2, 6, 26, ...range(36, 39)],
    ]);
    const scores = [
      [6.2064, 2.643, 2.8774, 10.5405, 0.0589, 0.2457, 0.0481, 0.0058],
      [6.5523, 2.4402, 3.2166, 12.7976, 0.0019, 0.0076, 0.0219, 0.0003],
    ];
    expectClose(got.scores.flat(), scores.flat(), near, 'scores at the end');
  });

  it.each([
    { groupReduce: 'mean', first: ['0 1 2 4', '0 1 2 3'], at30: [4, 3], last: ['0 1 2', '0 1 2'] },
    { groupReduce: 'sum', first: ['0 1 2 4', '0 1 2 3'], at30: [4, 3], last: ['0 1 2', '0 1 2'] },
    { groupReduce: 'max', first: ['0 1 2 7', '0 1 2 3'], at30: [2, 1], last: ['0 1 7', '0 2 3'] },
    { groupReduce: 'first', first: ['0 1 2 4', '0 1 3 9'], at30: [4, 9], last: ['0 1 2', '0 1 3'] },
  ] as const)('grouped queries: $groupReduce', async ({ groupReduce, first, at30, last }) => {
    const input = spiked(stream({ q: 5, k: 6 }, 4, 2, 40));
    const got = await run(device, input, 24, { budget: { tokens: 8 }, groupReduce });
    const rows = (text: string): number[] => text.split(' ').map(Number);
    expect(got.first).toEqual(first.map((text) => [...rows(text), ...range(20, 23)]));
    for (const [head, evicted] of got.evicted.entries()) {
      const other = range(20, 35);
      other[30 - 24] = at30[head] ?? -1;
      expect(evicted).toEqual(other);
    }
    expect(got.last).toEqual(last.map((text) => [...rows(text), 26, ...range(36, 39)]));
    if (groupReduce !== 'mean') return;
    const scores = [4.1105, 3.3472, 2.8466, 1.9892, 0.2928, 0.042, 0.0429, 0.1162];
    const kept = got.first[0]?.map((position) => got.sums[0]?.[position] ?? 0) ?? [];
    expectClose(kept, scores, near, 'scores after the prompt');
  });

  it('agrees on a larger stream', async () => {
    const input = stream({ q: 21, k: 22 }, 4, 4, 300);
    const { first, last } = await run(device, input, 200, { budget: { tokens: 32 }, recent: 8 });
    const checks = (all: number[][]): number[][] =>
      all.map((rows) => [
        rows.reduce((sum, row) => sum + row, 0),
        rows.reduce((sum, row) => sum + row * row, 0),
      ]);
    expect(checks(first)).toEqual([
      [1959, 317171],
      [1933, 315565],
      [1948, 316054],
      [1905, 313235],
    ]);
    expect(checks(last)).toEqual([
      [2759, 709971],
      [2733, 708365],
      [2748, 708854],
      [2705, 706035],
    ]);
  });
});
