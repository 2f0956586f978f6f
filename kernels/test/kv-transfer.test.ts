import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import type { PagePool } from '../ts/index.js';
import {
  kvLayerBytes,
  KvSequence,
  ops,
  Tensor,
  type KvLayerRows,
  type KvShape,
} from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { expectError, expectRejection } from './support/errors.js';
import { makeBench, Mirror, type Bench, type Geometry } from './support/kv-model.js';
import { few, fill } from './support/parity-cache.js';
import { describeParity, EXACT, parity, type Outputs } from './support/parity.js';

/** 4 rows of keys and 16 records a page. */
const small: Geometry = {
  layers: 2,
  heads: 3,
  headDim: 8,
  dtype: 'float32',
  pageBytes: 128,
  tallies: 1,
};
const range = (begin: number, end: number): number[] =>
  Array.from({ length: end - begin }, (_, i) => begin + i);

/** A layer's block, read in pieces of so many bytes. */
async function exported(kv: KvSequence, layer: number, piece: number): Promise<Uint8Array> {
  const { stream } = kv.pool;
  const total = kvLayerBytes(kv.shape, kv.layerRows(layer));
  const block = new Uint8Array(total);
  for (let at = 0; at < total; at += piece) {
    using bytes = Tensor.empty(stream.device, 'uint8', [Math.min(piece, total - at)]);
    ops.kvExport(stream, bytes, kv.kv(layer), at);
    block.set(await bytes.read(stream), at);
  }
  return block;
}

/** Writes a block into a layer of an empty cache. */
function imported(
  kv: KvSequence,
  layer: number,
  rows: KvLayerRows,
  block: Uint8Array,
  piece: number,
): void {
  const { stream } = kv.pool;
  kv.restore(layer, rows);
  for (let at = 0; at < block.length; at += piece) {
    const part = block.slice(at, at + piece);
    using bytes = Tensor.from(stream.device, part, [part.length]);
    ops.kvImport(stream, kv.kv(layer), bytes, at);
  }
}

const pieces = fc.integer({ min: 1, max: 300 }).map((words) => 4 * words);

describeDevices('a layer as one block', (device) => {
  let bench: Bench;
  let pool: PagePool;
  beforeAll(() => {
    bench = makeBench(small, 1 << 14, device);
    pool = bench.pool;
  });

  /** Ragged heads with a gap, and a tally. */
  function history(dropped: number, kept: readonly (readonly number[])[]): Mirror {
    const cache = new Mirror(bench);
    cache.append(1, range(0, 30));
    cache.compact(1, kept);
    cache.append(1, range(40, 70));
    if (dropped > 0) cache.drop(1, 2, dropped);
    return cache;
  }
  const rowLists = fc.uniqueArray(fc.nat({ max: 29 }), { minLength: 2 });
  const ascending = rowLists.map((list) => list.sort((a, b) => a - b));

  test('comes back whatever the rows, the gap and the pieces', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(ascending, { minLength: 3, maxLength: 3 }),
        fc.nat({ max: 30 }),
        pieces,
        pieces,
        async (kept, dropped, out, back) => {
          const cache = history(dropped, kept);
          const copy = new Mirror(bench, new KvSequence(pool, small), cache.rows);
          const block = await exported(cache.kv, 1, out);
          imported(copy.kv, 1, cache.kv.layerRows(1), block, back);
          await copy.check()();
          ops.kvCheck(bench.stream, copy.kv.kv(1), 70);
          await bench.stream.synchronize();
          expect(copy.kv.bytes().arithmetic).toBe(cache.kv.bytes().arithmetic);
          expect(await exported(copy.kv, 1, back)).toEqual(block);
          // The cache is like any other.
          copy.append(1, range(70, 90));
          copy.drop(1, 1, 1);
          await copy.check()();
          cache.kv.dispose();
          copy.kv.dispose();
        },
      ),
      { numRuns: 40 },
    );
    expect(pool.usedBytes).toBe(0);
  });

  test('is keys, values and records of one head after the other', async () => {
    using kv = new KvSequence(pool, { ...small, heads: 2, layers: 1 });
    const data = Float32Array.from(range(0, 3 * 2 * 8));
    using k = Tensor.from(bench.device, data, [3, 2, 8]);
    using v = Tensor.from(
      bench.device,
      data.map((x) => -x),
      [3, 2, 8],
    );
    using positions = Tensor.from(bench.device, Int32Array.of(5, 6, 9), [3]);
    using tally = Tensor.from(bench.device, Float32Array.from(range(0, 6)), [2, 3]);
    kv.reserve(0, 3);
    ops.kvAppend(bench.stream, kv.kv(0), k, v, positions, Int32Array.of(3));
    ops.tallyWrite(bench.stream, kv.kv(0), tally, 0);
    const block = await exported(kv, 0, 1 << 20);
    const words = new DataView(block.buffer);
    expect(block.length).toBe(2 * 3 * (2 * 32 + 8));
    for (const head of [0, 1]) {
      const base = head * 216;
      for (const row of range(0, 3)) {
        const want = data.slice((2 * row + head) * 8, (2 * row + head + 1) * 8);
        const at = base + row * 32;
        expect(new Float32Array(block.slice(at, at + 32).buffer)).toEqual(want);
        const value = new Float32Array(block.slice(at + 96, at + 128).buffer);
        expect(value).toEqual(want.map((x) => -x));
        expect(words.getInt32(base + 192 + 8 * row, true)).toBe([5, 6, 9][row]);
        expect(words.getFloat32(base + 196 + 8 * row, true)).toBe(3 * head + row);
      }
    }
  });

  test('holds encoded rows as they are stored, headers and part-full items too', async () => {
    const encodings = fc.record({
      keys: fc.record({
        rows: fc.constantFrom(1, 4, 32),
        bytes: fc.constantFrom(16, 48, 640),
        header: fc.constantFrom(0, 16, 144),
      }),
      values: fc.option(
        fc.record({ rows: fc.constantFrom(1, 16), bytes: fc.constantFrom(16, 272) }),
        { nil: undefined },
      ),
      positions: fc.constantFrom('stored' as const, 'implied' as const),
      rows: fc.array(fc.tuple(fc.nat(60), fc.nat(60), fc.nat(60)), { minLength: 3, maxLength: 3 }),
      piece: pieces,
      seed: fc.integer(),
    });
    await fc.assert(
      fc.asyncProperty(encodings, async ({ keys, values, positions, rows, piece, seed }) => {
        const shape: KvShape = {
          ...small,
          tallies: 0,
          positions,
          encoded: { keys, ...(values && { values }) },
        };
        const layer: KvLayerRows = {
          rows: rows.map(([n]) => n),
          encodedKeys: rows.map(([n, k]) => Math.min(n, k)),
          encodedValues: rows.map(([n, , v]) => (values === undefined ? 0 : Math.min(n, v))),
        };
        let state = seed;
        const block = Uint8Array.from({ length: kvLayerBytes(shape, layer) }, () => {
          state = Math.imul(state, 1664525) + 1013904223;
          return state >>> 24;
        });
        // Encoded rows are many bytes: at most 200 pieces of them, each a copy that is waited for.
        const step = Math.max(piece, 4 * Math.ceil(block.length / 800));
        using kv = new KvSequence(pool, shape);
        imported(kv, 0, layer, block, step);
        expect(kv.layerRows(0)).toEqual(layer);
        expect(await exported(kv, 0, step)).toEqual(block);
        // A fork reads the same pages; what the parent writes then does not show there.
        using fork = kv.fork();
        kv.own(0);
        using junk = Tensor.from(
          bench.device,
          block.map((x) => 255 - x),
          [block.length],
        );
        ops.kvImport(bench.stream, kv.kv(0), junk);
        expect(await exported(fork, 0, 1 << 20)).toEqual(block);
      }),
      { numRuns: 40 },
    );
    expect(pool.usedBytes).toBe(0);
  });

  describe('refuses', () => {
    const shape: KvShape = { ...small, encoded: { keys: { rows: 4, bytes: 64, header: 16 } } };

    test('bytes that are not there', () => {
      using kv = new KvSequence(pool, small);
      kv.reserve(0, 2);
      const total = kvLayerBytes(small, kv.layerRows(0));
      for (const [length, offset] of [
        [total + 4, 0],
        [4, total],
        [8, total - 4],
        [4, 2],
        [6, 0],
        [4, -4],
      ] as const) {
        using bytes = Tensor.empty(bench.device, 'uint8', [length]);
        const kvArg = kv.kv(0);
        for (const run of [
          () => ops.kvExport(bench.stream, bytes, kvArg, offset),
          () => ops.kvImport(bench.stream, kvArg, bytes, offset),
        ])
          expectError(run, 'ERR_ACCEL_ARGUMENT', /are not all there: the layer has 432/);
      }
    });

    test('rows whose headers are not there, or that are being encoded', () => {
      using kv = new KvSequence(pool, shape);
      using bytes = Tensor.empty(bench.device, 'uint8', [4]);
      kv.reserve(0, 9);
      const run = (): void => ops.kvExport(bench.stream, bytes, kv.kv(0));
      expectError(run, 'ERR_ACCEL_ARGUMENT', /no header for encoded rows yet/);
      kv.encode(0, { keys: { block: 4, keep: 0 } }, () => {
        expectError(run, 'ERR_ACCEL_ARGUMENT', /are being encoded/);
      });
      run();
    });

    test('room for rows that cannot be', () => {
      using kv = new KvSequence(pool, shape);
      const counts = (rows: number, keys: number, values: number): KvLayerRows => ({
        rows: [1, rows, 1],
        encodedKeys: [0, keys, 0],
        encodedValues: [0, values, 0],
      });
      for (const bad of [counts(4, 5, 0), counts(4, 0, 1), counts(2 ** 31 - 1, 0, 0)])
        expectError(() => kv.restore(0, bad), 'ERR_ACCEL_ARGUMENT', /cannot have/);
      for (const bad of [counts(-1, 0, 0), counts(1.5, 0, 0), counts(NaN, 0, 0)])
        expectError(() => kv.restore(0, bad), 'ERR_ACCEL_ARGUMENT', /a count is/);
      expectError(
        () => kv.restore(0, { ...counts(1, 0, 0), rows: [1] }),
        'ERR_ACCEL_ARGUMENT',
        /each of the 3 heads/,
      );
      expectError(() => kv.restore(0, counts(2 ** 30, 0, 0)), 'ERR_ACCEL_OUT_OF_MEMORY');
      expect(pool.usedBytes).toBe(0);
      kv.restore(0, counts(4, 4, 0));
      expectError(() => kv.restore(0, counts(4, 4, 0)), 'ERR_ACCEL_ARGUMENT', /has rows already/);
    });

    test.each([
      [
        'positions that do not ascend',
        [0, 2, 2],
        [0, 0, 0],
        'ERR_ACCEL_ARGUMENT',
        /row 2 has position 2/,
      ],
      ['a negative position', [-1, 0, 1], [0, 0, 0], 'ERR_ACCEL_ARGUMENT', /row 0 has position -1/],
      [
        'a position at the limit',
        [0, 1, 9],
        [0, 0, 0],
        'ERR_ACCEL_ARGUMENT',
        /row 2 has position 9/,
      ],
      [
        'a tally that is NaN',
        [0, 1, 8],
        [0, NaN, Infinity],
        'ERR_ACCEL_NAN',
        /row 1, tally 0 is NaN/,
      ],
    ] as const)('%s', async (_, positions, tallies, code, message) => {
      using kv = new KvSequence(pool, { ...small, heads: 1 });
      kv.restore(0, { rows: [3], encodedKeys: [0], encodedValues: [0] });
      const records = new DataView(new ArrayBuffer(24));
      positions.forEach((position, row) => records.setInt32(8 * row, position, true));
      tallies.forEach((tally, row) => records.setFloat32(8 * row + 4, tally, true));
      using bytes = Tensor.from(bench.device, new Uint8Array(records.buffer), [24]);
      ops.kvImport(bench.stream, kv.kv(0), bytes, 3 * 64);
      ops.kvCheck(bench.stream, kv.kv(0), 9);
      await expectRejection(bench.stream.synchronize(), code, message);
      await bench.stream.synchronize();
      expectError(() => ops.kvCheck(bench.stream, kv.kv(0), 2), 'ERR_ACCEL_ARGUMENT', /has 3 rows/);
    });
  });
});

describeParity('layers as blocks', () => {
  parity(
    'kv_export',
    few,
    () => EXACT,
    async (side, shape, numbers): Promise<Outputs> => {
      const blocks = fill(side, shape, numbers).map((cache) => exported(cache, 0, 1 << 20));
      return Object.fromEntries((await Promise.all(blocks)).map((block, i) => [`${i}`, block]));
    },
  );
});
