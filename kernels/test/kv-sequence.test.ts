import { describe, expect, test } from 'vitest';
import { Device, kvBatch, KvSequence, ops, PagePool, Tensor } from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { expectError, expectRejection } from './support/errors.js';
import { appendBatch, makeBench, Mirror, type Bench, type Geometry } from './support/kv-model.js';

/** 4 rows of keys and 32 positions a page. */
const small: Geometry = { layers: 2, heads: 2, headDim: 8, dtype: 'float32', pageBytes: 128 };
const range = (begin: number, end: number): number[] =>
  Array.from({ length: end - begin }, (_, i) => begin + i);

describeDevices('a cache', (device) => {
  const benchOn = (geometry: Geometry, pages?: number): Bench => makeBench(geometry, pages, device);

  describe('rows', () => {
    test.each(['float32', 'bfloat16', 'float16'] as const)(
      'are read as they were appended (%s)',
      async (dtype) => {
        const bench = benchOn({ ...small, dtype });
        const cache = new Mirror(bench);
        cache.append(0, range(0, 1));
        cache.append(1, range(3, 40));
        cache.append(0, range(1, 23));
        await cache.check()();
        expect(cache.kv.bytes().arithmetic).toBe(cache.arithmetic());
      },
    );

    test('of a batch of different lengths', async () => {
      const bench = benchOn(small);
      const caches = [new Mirror(bench), new Mirror(bench), new Mirror(bench)];
      let next = 0;
      for (const lengths of [
        [5, 1, 0],
        [1, 1, 9],
        [0, 30, 2],
      ]) {
        const parts = caches.map((mirror, i) => {
          const tokens = range(next, next + (lengths[i] ?? 0));
          next += tokens.length;
          mirror.kv.reserve(1, tokens.length);
          return { mirror, tokens };
        });
        appendBatch(bench, 1, parts);
      }
      for (const cache of caches) await cache.check()();
    });
  });

  describe('pool accounting', () => {
    const pages = (pool: PagePool): number => pool.usedBytes / pool.pageBytes;

    test('counts pages, and gives all of them back', () => {
      const { pool, ...bench } = benchOn(small);
      const cache = new KvSequence(pool, small);
      expect(pool.usedBytes).toBe(0);
      cache.reserve(0, 1);
      expect(pages(pool)).toBe(2 * (2 + 1));
      cache.reserve(0, 3);
      expect(pages(pool)).toBe(2 * (2 + 1));
      cache.reserve(0, 1);
      expect(pages(pool)).toBe(2 * (4 + 1));
      expect(cache.bytes()).toEqual({ pages: 10, measured: 1280, arithmetic: 2 * 5 * 68 });
      cache.truncate(0, 4);
      expect(pages(pool)).toBe(2 * (2 + 1));
      expect(pool.peakBytes).toBe(1280);
      pool.resetPeak();
      expect(pool.peakBytes).toBe(2 * 3 * 128);
      cache.dispose();
      expect(pool.usedBytes).toBe(0);
      expect(bench.geometry).toBe(small);
    });

    test('measured bytes are within 5 % of arithmetic from 512 rows on', () => {
      for (const dtype of ['float32', 'bfloat16'] as const) {
        for (const headDim of [64, 128]) {
          const rowBytes = headDim * (dtype === 'float32' ? 4 : 2);
          const bench = benchOn({ layers: 1, heads: 2, headDim, dtype, pageBytes: 16 * rowBytes });
          const cache = new KvSequence(bench.pool, bench.geometry);
          for (let rows = 512; rows < 3000; rows += 173) {
            cache.truncate(0, 0);
            cache.reserve(0, rows);
            const { measured, arithmetic } = cache.bytes();
            expect(measured / arithmetic).toBeGreaterThanOrEqual(1);
            expect(measured / arithmetic, `${dtype} ${headDim} ${rows}`).toBeLessThan(1.05);
          }
        }
      }
    });

    test('keeping 512 of 8192 rows gives more than 14 of 15 bytes back', async () => {
      const bench = benchOn(
        { layers: 1, heads: 2, headDim: 64, dtype: 'bfloat16', pageBytes: 2048 },
        1 << 14,
      );
      const cache = new Mirror(bench);
      cache.append(0, range(0, 8192));
      const before = bench.pool.usedBytes;
      cache.compact(0, [range(7680, 8192), range(0, 8192).filter((row) => row % 16 === 0)]);
      expect(before / bench.pool.usedBytes).toBeGreaterThan(14);
      await cache.check()();
      bench.pool.trim();
      cache.append(0, range(0, 2000));
      await cache.check()();
    });

    test('a full pool is an error that names the sizes and the consumers, and changes nothing', async () => {
      const bench = benchOn(small, 20);
      const cache = new Mirror(bench);
      cache.append(0, range(0, 12));
      const before = bench.pool.usedBytes;
      expectError(
        () => cache.kv.reserve(0, 8),
        'ERR_ACCEL_OUT_OF_MEMORY',
        /page pool is full: 1.0 KiB wanted, 768 B free of 2.5 KiB. Largest consumers: sequence \d+ 1.8 KiB/,
      );
      using index = Tensor.from(
        bench.device,
        Int32Array.from([...range(0, 12), ...range(0, 12)]),
        [2, 12],
      );
      expectError(() => cache.kv.compact(0, index, [12, 12]), 'ERR_ACCEL_OUT_OF_MEMORY');
      expect(bench.pool.usedBytes).toBe(before);
      await cache.check()();
      cache.compact(0, [[3], [11]]);
      cache.append(0, [50, 51]);
      await cache.check()();
    });
  });

  describe('drop', () => {
    test('behind sinks, for ever: memory and tables stay bounded', async () => {
      const bench = benchOn(small, 256);
      const cache = new Mirror(bench);
      cache.append(0, range(0, 24));
      const most: number[] = [];
      for (let token = 24; token < 700; token++) {
        cache.append(0, [token]);
        cache.drop(0, 3, 1);
        most.push(cache.kv.bytes().pages);
        if (token % 37 === 0) await cache.check()();
      }
      // 24 rows a head in pages of 4: 7 to 8 pages each of keys and values, and positions of up to two pages of dead rows more.
      expect(Math.max(...most)).toBeLessThanOrEqual(2 * (2 * 9 + 5));
      expect(Math.max(...most.slice(300))).toBe(Math.max(...most.slice(50, 300)));
      await cache.check()();
      cache.kv.dispose();
      expect(bench.pool.usedBytes).toBe(0);
    });

    test('at two places is refused, until compact closes the gap', async () => {
      const cache = new Mirror(benchOn(small));
      cache.append(0, range(0, 40));
      cache.drop(0, 10, 5);
      expectError(() => cache.kv.drop(0, 20, 5), 'ERR_ACCEL_KV_GAP', /gap at row 10.*compact/);
      expectError(() => cache.kv.drop(0, 2, 3), 'ERR_ACCEL_KV_GAP');
      cache.drop(0, 7, 3);
      cache.drop(0, 5, 6);
      cache.compact(0, [range(0, 26), range(0, 26)]);
      cache.drop(0, 20, 3);
      await cache.check()();
    });

    test('of the last rows is a truncation', async () => {
      const cache = new Mirror(benchOn(small));
      cache.append(0, range(0, 40));
      cache.drop(0, 10, 5);
      cache.drop(0, 30, 5);
      cache.drop(0, 5, 25);
      expect(cache.kv.rows(0, 0)).toBe(5);
      cache.append(0, range(60, 70));
      cache.drop(0, 0, 15);
      expect(cache.kv.bytes().pages).toBe(0);
      cache.append(0, [7]);
      await cache.check()();
    });
  });

  describe('fork', () => {
    test('shares pages until one of the two writes', async () => {
      const bench = benchOn(small);
      const parent = new Mirror(bench);
      parent.append(0, range(0, 10));
      parent.append(1, range(0, 8));
      const used = bench.pool.usedBytes;
      const child = parent.fork();
      expect(bench.pool.usedBytes).toBe(used);
      expect(child.kv.bytes()).toEqual(parent.kv.bytes());
      child.append(0, [100]);
      // The half-full last pages of keys, values and positions of both heads.
      expect(bench.pool.usedBytes - used).toBe(6 * 128);
      parent.append(0, [200]);
      expect(bench.pool.usedBytes - used).toBe(6 * 128);
      child.append(1, [101]);
      await parent.check()();
      await child.check()();
      parent.kv.dispose();
      await child.check()();
      child.kv.dispose();
      expect(bench.pool.usedBytes).toBe(0);
    });

    test('work in flight reads the rows of its time', async () => {
      const bench = benchOn(small);
      const cache = new Mirror(bench);
      cache.append(0, range(0, 10));
      const checks = [cache.check()];
      cache.truncate(0, 3);
      checks.push(cache.check());
      cache.append(0, range(50, 70));
      checks.push(cache.check());
      cache.drop(0, 1, 15);
      checks.push(cache.check());
      cache.compact(0, [[0, 2], [1]]);
      cache.append(0, range(90, 99));
      checks.push(cache.check());
      for (const check of checks) await check();
    });
  });
});

describe('bad calls', () => {
  const { device, stream, pool } = makeBench(small);
  const cache = new KvSequence(pool, small);

  test('are refused at once', () => {
    expectError(() => new KvSequence(pool, { ...small, heads: 0 }), 'ERR_ACCEL_ARGUMENT', /heads/);
    expectError(
      () => new KvSequence(pool, { ...small, layers: 1.5 }),
      'ERR_ACCEL_ARGUMENT',
      /layers is 1.5/,
    );
    expectError(() => new KvSequence(pool, { ...small, dtype: 'int32' }), 'ERR_ACCEL_DTYPE');
    expectError(
      () => new KvSequence(pool, { ...small, headDim: 64 }),
      'ERR_ACCEL_ARGUMENT',
      /pages of 128 bytes/,
    );
    expectError(
      () => new PagePool(stream, { pageBytes: 100, capacityBytes: 1000 }),
      'ERR_ACCEL_ARGUMENT',
      /64/,
    );
    expectError(
      () => new PagePool(stream, { pageBytes: 64, capacityBytes: 63 }),
      'ERR_ACCEL_ARGUMENT',
    );
    expectError(
      () => new PagePool(stream, { pageBytes: 64, capacityBytes: NaN }),
      'ERR_ACCEL_ARGUMENT',
    );
    expectError(
      () => new PagePool(stream, { pageBytes: 64, capacityBytes: 2 ** 52 }),
      'ERR_ACCEL_ARGUMENT',
      /pages/,
    );
    expectError(() => cache.reserve(2, 1), 'ERR_ACCEL_ARGUMENT', /layer 2 is not in \[0, 2\)/);
    expectError(() => cache.reserve(0, -1), 'ERR_ACCEL_ARGUMENT', /count is -1/);
    expectError(() => cache.reserve(0, 2 ** 31 - 1), 'ERR_ACCEL_ARGUMENT');
    expectError(() => cache.rows(0, 2), 'ERR_ACCEL_ARGUMENT', /head 2/);
    cache.reserve(0, 5);
    expectError(() => cache.truncate(0, 6), 'ERR_ACCEL_ARGUMENT', /has 5/);
    expectError(() => cache.drop(0, 4, 2), 'ERR_ACCEL_ARGUMENT', /\[4, 6\)/);
    using index = Tensor.from(device, new Int32Array(4), [2, 2]);
    expectError(() => cache.compact(0, index, [3, 1]), 'ERR_ACCEL_SHAPE', /\[2, at least 3\]/);
    expectError(() => cache.compact(0, index, [1]), 'ERR_ACCEL_ARGUMENT', /each of the 2 heads/);
    expectError(() => cache.compact(1, index, [1, 1]), 'ERR_ACCEL_ARGUMENT', /1 of the 0 rows/);
    using floats = Tensor.from(device, new Float32Array(4), [2, 2]);
    expectError(() => cache.compact(0, floats, [1, 1]), 'ERR_ACCEL_SHAPE', /float32 tensor/);
    expect(cache.rows(0, 0)).toBe(5);
    cache.truncate(0, 0);
  });

  test('row numbers that do not exist fail on the stream', async () => {
    const mirror = new Mirror(makeBench(small));
    mirror.append(0, range(0, 5));
    using index = Tensor.from(mirror.bench.device, Int32Array.of(0, 5, 0, 1), [2, 2]);
    mirror.kv.compact(0, index, [2, 2]);
    await expectRejection(mirror.bench.stream.synchronize(), 'ERR_ACCEL_ARGUMENT', /kv_gather/);
  });

  test('caches of another pool, stream or geometry do not mix', () => {
    const other = makeBench(small);
    const foreign = new KvSequence(other.pool, small);
    const twin = new KvSequence(
      new PagePool(stream, { pageBytes: 128, capacityBytes: 12_800 }),
      small,
    );
    const wide = new KvSequence(pool, { ...small, headDim: 16 });
    using positions = Tensor.empty(device, 'int32', [2, 1]);
    const read = (sequences: KvSequence[]): void =>
      ops.kvRead(stream, null, null, positions, kvBatch(sequences, 0));
    expectError(() => read([foreign]), 'ERR_ACCEL_ARGUMENT', /another stream/);
    expectError(() => read([cache, twin]), 'ERR_ACCEL_BATCH', /one page pool/);
    expectError(() => read([cache, wide]), 'ERR_ACCEL_BATCH', /headDim/);
    expectError(() => kvBatch([], 0), 'ERR_ACCEL_BATCH');
    expectError(
      () => ops.kvRead(stream, null, null, positions, cache.kv(9)),
      'ERR_ACCEL_ARGUMENT',
      /layer 9/,
    );
  });

  test('use after dispose', () => {
    const gone = new KvSequence(pool, small);
    gone.dispose();
    expectError(() => gone.reserve(0, 1), 'ERR_ACCEL_DISPOSED', /KV sequence was disposed/);
    expectError(() => gone.bytes(), 'ERR_ACCEL_DISPOSED');
    expectError(() => gone.fork(), 'ERR_ACCEL_DISPOSED');
    using positions = Tensor.empty(Device.open(), 'int32', [2, 1]);
    expectError(
      () => ops.kvRead(stream, null, null, positions, gone.kv(0)),
      'ERR_ACCEL_DISPOSED',
      /"kv" was/,
    );
    const ownPool = new PagePool(stream, { pageBytes: 128, capacityBytes: 12_800 });
    const orphan = new KvSequence(ownPool, small);
    orphan.reserve(0, 1);
    ownPool.dispose();
    expectError(() => orphan.reserve(0, 9), 'ERR_ACCEL_DISPOSED', /page pool of this sequence/);
    expect(orphan.rows(0, 0)).toBe(1);
    orphan.dispose();
    expectError(() => ownPool.usedBytes, 'ERR_ACCEL_DISPOSED', /page pool was disposed/);
  });
});
