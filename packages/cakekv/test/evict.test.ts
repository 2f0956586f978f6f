import { ops, Tensor } from '@accel/kernels';
import {
  describeDevices,
  generated,
  layerEnd,
  partSetup,
  readFloats,
  TestCache,
} from '@accel/testkit';
import { expect, it } from 'vitest';
import { cakekv } from '../src/index.js';
import { cakeOrder, cakeVictim } from '../src/ops.js';
import { referenceOrder, referenceVictim } from '../src/reference.js';

const [ATTENTION, ORDER] = [0, 1];

/** A cache with `rows` rows whose tallies are set; some of the rows behind a gap. */
function cacheOf(
  device: string,
  heads: number,
  rows: number,
  tallies: Readonly<Record<number, Float32Array>>,
): TestCache {
  const cache = new TestCache(device, { heads, headDim: 16, tallies: 2 });
  const gap = 5;
  const data = new Float32Array((rows + gap) * heads * 16);
  cache.append(data, data, 0);
  cache.kv.drop(0, Math.floor(rows / 2), gap);
  for (const [tally, values] of Object.entries(tallies)) {
    using tensor = Tensor.from(cache.device, values, [heads, rows]);
    ops.tallyWrite(cache.stream, cache.kv.kv(0), tensor, Number(tally));
  }
  return cache;
}

const positive = (seed: number, count: number): Float32Array =>
  generated(seed, count).map((x) => Math.abs(x));

const shapes = [
  { heads: 1, rows: 2, window: 1, size: 5 },
  { heads: 2, rows: 40, window: 8, size: 5 },
  { heads: 3, rows: 300, window: 0, size: 1 },
  { heads: 2, rows: 1025, window: 1, size: 7 },
  { heads: 2, rows: 1060, window: 32, size: 127 },
  { heads: 2, rows: 3000, window: 32, size: 5 },
];

describeDevices('cake_victim', (device) => {
  const run = async (
    attention: Float32Array,
    { heads, rows, window, size }: (typeof shapes)[number],
  ): Promise<number[]> => {
    using cache = cacheOf(device, heads, rows, { [ATTENTION]: attention });
    using victims = Tensor.empty(cache.device, 'int32', [heads]);
    cakeVictim(cache.stream, victims, cache.kv.kv(0), { attention: ATTENTION, window, size });
    return [...((await victims.read(cache.stream)) as Int32Array)];
  };
  const want = (
    attention: Float32Array,
    { heads, rows, window, size }: (typeof shapes)[number],
  ): number[] =>
    Array.from({ length: heads }, (_, head) =>
      referenceVictim(attention.subarray(head * rows, (head + 1) * rows), window, size),
    );

  it.each(shapes)('$heads heads, $rows rows, window $window, size $size', async (shape) => {
    for (let seed = 0; seed < 4; seed++) {
      const attention = positive(seed + shape.rows, shape.heads * shape.rows);
      expect(await run(attention, shape)).toEqual(want(attention, shape));
    }
  });

  it.each(shapes)('of equal rows the newest: $rows rows, window $window', async (shape) => {
    const few = positive(9, shape.heads * shape.rows).map((x) => (x < 0.9 ? 0 : 1));
    expect(await run(few, shape)).toEqual(want(few, shape));
    const none = new Float32Array(shape.heads * shape.rows);
    expect(await run(none, { ...shape, size: 1 })).toEqual(
      new Array<number>(shape.heads).fill(shape.rows - shape.window - 1),
    );
  });

  it('lets no NaN disappear', async () => {
    const attention = positive(1, 80);
    attention[50] = NaN;
    const failed = run(attention, { heads: 2, rows: 40, window: 8, size: 5 });
    await expect(failed).rejects.toMatchObject({ code: 'ERR_ACCEL_NAN' });
  });

  it('refuses a window as long as the cache, and a tally that rows do not have', () => {
    using cache = cacheOf(device, 1, 10, {});
    using victims = Tensor.empty(cache.device, 'int32', [1]);
    const run = (window: number, attention: number) => () =>
      cakeVictim(cache.stream, victims, cache.kv.kv(0), { attention, window, size: 5 });
    expect(run(10, 0)).toThrow(expect.objectContaining({ code: 'ERR_ACCEL_ARGUMENT' }));
    expect(run(9, 2)).toThrow(expect.objectContaining({ code: 'ERR_ACCEL_ARGUMENT' }));
  });
});

describeDevices('cake_order', (device) => {
  it.each(shapes)(
    '$heads heads, $rows rows, window $window, size $size',
    async ({ heads, rows, window, size }) => {
      const attention = positive(rows, heads * rows).map((x, i) => (i % 11 === 0 ? 0 : x));
      // Many equal values: new rows are all 0.
      const order = positive(rows + 1, heads * rows).map((x) => (x < 0.3 ? 0 : x));
      using cache = cacheOf(device, heads, rows, { [ATTENTION]: attention, [ORDER]: order });
      const { stream } = cache;
      using victims = Tensor.empty(cache.device, 'int32', [heads]);
      using scores = Tensor.empty(cache.device, 'float32', [heads, rows]);
      using tally = Tensor.empty(cache.device, 'float32', [heads, rows]);
      const options = { attention: ATTENTION, order: ORDER, window, size };
      cakeOrder(stream, { victims, scores }, cache.kv.kv(0), options);
      ops.tallyRead(stream, tally, cache.kv.kv(0), ORDER);
      const [rankings, after] = [await readFloats(scores, stream), await readFloats(tally, stream)];
      const out = (await victims.read(stream)) as Int32Array;
      for (let head = 0; head < heads; head++) {
        const of = (data: Float32Array): Float32Array =>
          data.subarray(head * rows, (head + 1) * rows);
        const want = referenceOrder(of(attention), of(order), window, size);
        const protectedRows = new Array<number>(window).fill(Infinity);
        expect([...of(rankings)]).toEqual([...want, ...protectedRows]);
        expect([...of(after)]).toEqual([...want, ...of(order).subarray(rows - window)]);
        expect(out[head]).toBe(want.indexOf(1));
      }
    },
  );

  it('lets no NaN disappear', async () => {
    const attention = positive(1, 40);
    attention[3] = NaN;
    using cache = cacheOf(device, 1, 40, { [ATTENTION]: attention, [ORDER]: positive(2, 40) });
    using victims = Tensor.empty(cache.device, 'int32', [1]);
    const options = { attention: ATTENTION, order: ORDER, window: 8, size: 5 };
    cakeOrder(cache.stream, { victims }, cache.kv.kv(0), options);
    await expect(cache.stream.synchronize()).rejects.toMatchObject({ code: 'ERR_ACCEL_NAN' });
  });
});

describeDevices('the receipt of a decode step', (device) => {
  it.each([
    { leaving: 1, merged: 1, note: undefined },
    { leaving: 3, merged: 0, note: 'rows that left several at a time were not merged' },
  ])('in which $leaving rows leave a head', ({ leaving, merged, note }) => {
    const rows = 40;
    using cache = cacheOf(device, 1, rows, { [ATTENTION]: positive(1, rows) });
    const [, select] = cakekv({ budget: { tokens: rows - leaving }, observe: 8 });
    const selector = select.create(partSetup(cache, { heads: 1 }, { tallies: [ATTENTION] }));
    const reports: unknown[] = [];
    let victims = 0;
    selector.decodeEnd?.(
      layerEnd(cache, {
        phase: 'decode',
        merge: () => (victims += 1),
        report: (done) => reports.push(done),
      }),
    );
    selector.dispose();
    expect(victims).toBe(merged);
    expect(cache.kv.rows(0, 0)).toBe(rows - leaving);
    const done = { rowsIn: rows, rowsKept: rows - leaving };
    expect(reports).toEqual([note === undefined ? done : { ...done, note }]);
  });
});
