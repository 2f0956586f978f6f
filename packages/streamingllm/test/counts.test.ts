import { ops, Tensor } from '@accel/kernels';
import { describeDevices, errorWith, expectClose, generated, readFloats } from '@accel/testkit';
import { expect, it } from 'vitest';
import type { StreamingllmOptions } from '../src/index.js';
import { StreamHarness } from './harness.js';

const SHAPE = { heads: 4, kvHeads: 2, dim: 16, base: 10_000, tallies: 1 };
const GROUP = SHAPE.heads / SHAPE.kvHeads;
const WINDOW = { sink: 3, recent: 9 };

// What another part of the policy (CaM) counts: softmax rows add up to one only if the log-sum-exp covers all keys and
// each range of rows comes with the query that it was attended with.
describeDevices('attention that rows receive under StreamingLLM', (device) => {
  const tokens = (seed: number, m: number): [Float32Array, Float32Array, Float32Array] => {
    const part = (heads: number, at: number): Float32Array =>
      generated(seed + at, m * heads * SHAPE.dim, 2);
    return [part(SHAPE.heads, 0), part(SHAPE.kvHeads, 1000), part(SHAPE.kvHeads, 2000)];
  };
  const scale = 1 / Math.sqrt(SHAPE.dim);

  /** Ranges of the calls, and the attention of every head over all rows. */
  const forward = async (
    harness: StreamHarness,
    seed: number,
    m: number,
  ): Promise<{ ranges: number[][]; mass: number[] }> => {
    const { stream, kv, device: opened } = harness.cache;
    const ranges: number[][] = [];
    const rows = harness.rows + m;
    using sums = Tensor.empty(opened, 'float32', [SHAPE.kvHeads, rows]);
    harness.attended = (q, lse, begin, end) => {
      ranges.push([begin, end]);
      if (m === 1) {
        const range = Int32Array.of(begin, end);
        const how = { scale, tally: 0, reduce: 'sum', accumulate: false, ranges: range } as const;
        ops.tallyStep(stream, kv.kv(0), q, lse, how);
      } else {
        ops.columnSums(stream, sums, q, lse, kv.kv(0), {
          scale,
          reduce: 'sum',
          range: [begin, end],
        });
      }
    };
    await harness.forward(...tokens(seed, m));
    if (m === 1) ops.tallyRead(stream, sums, kv.kv(0), 0);
    const all = await readFloats(sums, stream);
    const mass = Array.from({ length: SHAPE.kvHeads }, (_, head) =>
      all.subarray(head * rows, (head + 1) * rows).reduce((a, b) => a + b, 0),
    );
    return { ranges, mass };
  };

  it.each([
    {
      positions: 'cacheRelative',
      ranges: [
        [0, 3],
        [3, 13],
      ],
    },
    { positions: 'cacheRelative', sink: 0, ranges: [[0, 10]] },
  ] as const)('is complete in every step: $positions, $ranges', async ({ ranges, ...form }) => {
    using harness = new StreamHarness(device, SHAPE, { ...WINDOW, ...form });
    harness.turnStart(1);
    const held = (ranges.at(-1)?.[1] ?? 0) - 1;
    for (let step = 0; step < 30; step++) {
      const got = await forward(harness, step, 1);
      expectClose(got.mass, [GROUP, GROUP], { abs: 1e-5, rel: 0 }, `step ${step}`);
      // Before anything left, one attention does it.
      if (step < held) expect(got.ranges).toEqual([[0, step + 1]]);
      else if (step > held) expect(got.ranges).toEqual(ranges);
      harness.end('decode');
    }
  });

  it('is complete in a prompt and in a later turn on a cache with a hole', async () => {
    using harness = new StreamHarness(device, SHAPE, WINDOW);
    harness.turnStart(20);
    const first = await forward(harness, 1, 20);
    expect(first.ranges).toEqual([[0, 20]]);
    expectClose(first.mass, [20 * GROUP, 20 * GROUP], { abs: 1e-4, rel: 0 }, 'prompt');
    harness.end('prefill');
    harness.turnStart(7);
    const second = await forward(harness, 2, 7);
    expect(second.ranges).toEqual([
      [0, 3],
      [3, 19],
    ]);
    expectClose(second.mass, [7 * GROUP, 7 * GROUP], { abs: 1e-4, rel: 0 }, 'turn 2');
  });

  it.each(['cacheRelative', 'original'] as const)(
    'is refused where a banded prompt hides rows, positions %s',
    async (positions) => {
      const options: StreamingllmOptions = { ...WINDOW, positions, prefill: 'banded' };
      using harness = new StreamHarness(device, SHAPE, options);
      harness.turnStart(12);
      // All of it fits the window.
      expect((await forward(harness, 1, 12)).ranges).toEqual([[0, 12]]);
      await expect(forward(harness, 2, 5)).rejects.toThrow(errorWith('ERR_ACCEL_POLICY', 'dense'));
    },
  );
});
