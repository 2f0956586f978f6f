import { describeDevices, expectClose, generated, tokenMajor } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { cut } from '../src/rules.js';
import { StreamHarness } from './harness.js';

const HEADS = 2;
const TOKENS = 30;
const DIM = 8;
const SHAPE = { heads: HEADS, kvHeads: HEADS, dim: DIM, base: 10_000 };
const WINDOW = { sink: 4, recent: 8 };

/** Queries, keys and values of the specification's stream, before rotation, `[tokens, heads, dim]`. */
function stream(tokens = TOKENS): [Float32Array, Float32Array, Float32Array] {
  const part = (seed: number, scale: number): Float32Array =>
    tokenMajor(generated(seed, HEADS * tokens * DIM, scale), [HEADS, tokens, DIM]);
  return [part(61, 4), part(62, 1), part(63, 1)];
}

function token(data: Float32Array, index: number): Float32Array {
  return data.subarray(index * HEADS * DIM, (index + 1) * HEADS * DIM);
}

describe('index rules', () => {
  const kept = (rows: number, coming = 0): number[] => {
    const { at, count } = cut(WINDOW, rows, coming);
    return Array.from({ length: rows }, (_, row) => row).filter(
      (row) => row < at || row >= at + count,
    );
  };
  const range = (from: number, to: number): number[] =>
    Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const sinks = range(0, 3);

  it.each([
    [3, range(0, 2)],
    [12, range(0, 11)],
    [13, [...sinks, ...range(5, 12)]],
    [30, [...sinks, ...range(22, 29)]],
  ])('trim %i rows', (rows, want) => expect(kept(rows)).toEqual(want));

  it.each([
    [12, 0, range(0, 11)],
    [12, 1, [...sinks, ...range(5, 11)]],
    [12, 5, [...sinks, ...range(9, 11)]],
    [12, 8, sinks],
    [12, 20, sinks],
    [3, 20, range(0, 2)],
    [5, 8, sinks],
    [5, 7, range(0, 4)],
  ])('make room in %i rows for %i', (rows, coming, want) =>
    expect(kept(rows, coming)).toEqual(want),
  );
});

describeDevices('StreamingLLM known answers', (device) => {
  /** Token by token; the output of every token. */
  const run = async (
    positions: 'cacheRelative' | 'original',
    jump: { readonly at: number; readonly by: number } = { at: 0, by: 0 },
  ): Promise<Float32Array[]> => {
    const [q, k, v] = stream();
    using harness = new StreamHarness(device, SHAPE, { ...WINDOW, positions });
    const outputs: Float32Array[] = [];
    harness.turnStart(TOKENS);
    for (let t = 0; t < TOKENS; t++) {
      if (t === jump.at) harness.seen += jump.by;
      outputs.push(await harness.forward(token(q, t), token(k, t), token(v, t)));
      harness.end('decode');
    }
    return outputs;
  };
  const near = { abs: 1e-5, rel: 0 };

  it('positions inside the cache', async () => {
    const outputs = await run('cacheRelative');
    const at = (t: number, head: number): Float32Array | undefined =>
      outputs[t]?.subarray(head * DIM, (head + 1) * DIM);
    expectClose(
      at(12, 0) ?? [],
      [0.07295, 0.31134, 0.31533, -0.63854, -0.63655, -0.14091, 0.08602, 0.05754],
      near,
      't=12',
    );
    expectClose(
      at(29, 0) ?? [],
      [0.14819, -0.00641, -0.24669, -0.27819, -0.18652, -0.13961, -0.03429, -0.01022],
      near,
      't=29',
    );
    expectClose(
      at(29, 1) ?? [],
      [-0.16408, 0.04178, 0.14722, -0.01034, 0.18411, 0.09458, 0.25832, 0.22853],
      near,
      't=29, head 1',
    );
  });

  it('original positions', async () => {
    const [first] = (await run('original')).slice(-1);
    const want = [0.17325, 0.05779, -0.29362, -0.19393, -0.08865, -0.15276, -0.06297, -0.0125];
    expectClose(first?.subarray(0, DIM) ?? [], want, near, 't=29');
  });

  it('do not change when the stream is millions of tokens long', async () => {
    // The same tokens, the ones after the sinks four million positions later: distances inside the cache are the same.
    const here = await run('cacheRelative');
    const far = await run('cacheRelative', { at: WINDOW.sink, by: 4_000_000 });
    for (const [t, output] of far.entries()) {
      // At first the window still touches the sinks, without a hole between them.
      if (t < WINDOW.sink + WINDOW.recent + 1) continue;
      expectClose(output, here[t] ?? [], { abs: 1e-4, rel: 0 }, `token ${t}`);
    }
  });

  it('attends in constant memory for 20,000 tokens', { timeout: 120_000 }, async () => {
    const [q, k, v] = stream();
    using harness = new StreamHarness(device, SHAPE, { sink: 4, recent: 60 });
    harness.turnStart(1);
    const used = new Set<number>();
    for (let t = 0; t < 20_000; t++) {
      const at = t % TOKENS;
      await harness.forward(token(q, at), token(k, at), token(v, at), false);
      harness.end('decode');
      if (t % 500 === 499) {
        await harness.cache.stream.synchronize();
        used.add(harness.cache.pool.usedBytes);
        expect(harness.rows).toBe(64);
      }
    }
    // 500 is no multiple of a page's rows, so the window is seen at every place it can have on its pages.
    const [least, most] = [Math.min(...used), Math.max(...used)];
    const page = 16 * DIM * 4;
    expect(most - least).toBeLessThanOrEqual(HEADS * 3 * page);
    expect(harness.cache.pool.peakBytes).toBeLessThanOrEqual(most + HEADS * 3 * page);
    expect(await harness.cache.positions()).toEqual(
      new Array(HEADS).fill([0, 1, 2, 3, ...Array.from({ length: 60 }, (_, i) => 19_940 + i)]),
    );
  });
});
