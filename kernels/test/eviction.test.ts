import { describe, expect, test } from 'vitest';
import { kvBatch, KvSequence, ops, PagePool, Tensor } from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { expectError, expectRejection } from './support/errors.js';
import { makeBench, type Geometry } from './support/kv-model.js';
import { Numbers, Side } from './support/parity.js';
import { TallyMirror } from './support/tally-model.js';

/** 4 rows or 16 records a page. */
const small: Geometry = {
  layers: 2,
  heads: 2,
  headDim: 8,
  dtype: 'float32',
  pageBytes: 128,
  tallies: 1,
};
const range = (begin: number, end: number): number[] =>
  Array.from({ length: end - begin }, (_, i) => begin + i);

describeDevices('eviction', (device) => {
  test('of a row in every step, for ever: memory and tables stay bounded', async () => {
    const bench = makeBench({ ...small, layers: 1 }, 256, device);
    const cache = new TallyMirror(bench);
    const numbers = new Numbers(5);
    const keep = 6;
    const rows = 30;
    cache.append(0, range(0, rows));
    const pages: number[] = [];
    for (let token = rows; token < 3000; token++) {
      cache.append(0, [token]);
      cache.mark(0, 0, (head) => head + 1, true);
      // Now and then the row that just left the window is the one that goes: nothing moves.
      const victim = (): number =>
        token % 5 === 0 ? rows - keep : numbers.integer(rows + 1 - keep);
      cache.evict(0, [victim(), victim()], keep);
      pages.push(cache.kv.bytes().pages);
      if (token % 97 === 0) await cache.check()();
    }
    await cache.check()();
    expect(cache.kv.bytes().arithmetic).toBe(2 * rows * 72);
    // 30 rows a head: 8 to 9 pages of keys and of values, one more for both ends of the gap, and up to 4 of records.
    expect(Math.max(...pages)).toBeLessThanOrEqual(2 * (2 * 10 + 4));
    expect(Math.max(...pages.slice(1500))).toBeLessThanOrEqual(Math.max(...pages.slice(0, 1500)));
    cache.kv.dispose();
    expect(bench.pool.usedBytes).toBe(0);
  });

  test.each([0, 3])('opens a gap in front of the newest %i rows', async (keep) => {
    const bench = makeBench(small, 256, device);
    const cache = new TallyMirror(bench);
    cache.append(0, range(0, 41));
    cache.mark(0, 0, (head, row) => 100 * head + row, false);
    cache.evict(0, [0, 40 - keep], keep);
    cache.evict(0, [39 - keep, 7], keep);
    await cache.check()();
    cache.append(0, [77]);
    cache.evict(0, [12, 39 - keep], keep);
    cache.truncate(0, 39 - keep);
    await cache.check()();
  });

  describe('own', () => {
    const used = (bench: ReturnType<typeof makeBench>): number =>
      bench.pool.usedBytes / bench.pool.pageBytes;

    test('copies what a fork shares, once, and the two are apart from then on', async () => {
      const bench = makeBench(small, 4096, device);
      const parent = new TallyMirror(bench);
      parent.append(0, range(0, 10));
      parent.append(1, range(0, 33));
      const before = used(bench);
      parent.kv.own(0);
      expect(used(bench)).toBe(before);
      const child = parent.fork();
      expect(used(bench)).toBe(before);
      // 3 pages of keys, 3 of values and 1 of records for each of two heads.
      child.kv.own(0);
      expect(used(bench)).toBe(before + 14);
      child.kv.own(0);
      parent.kv.own(0);
      expect(used(bench)).toBe(before + 14);
      child.mark(0, 0, (head, row) => head + row, false);
      child.evict(0, [3, 0], 2);
      await parent.check()();
      await child.check()();
      // Layer 1 is shared still; the parent writes first.
      const checks = [child.check(), parent.check()];
      parent.evict(1, [5, 6], 1);
      expect(used(bench)).toBe(before + 14 + 2 * (9 + 9 + 3));
      checks.push(child.check(), parent.check());
      for (const check of checks) await check();
      child.kv.dispose();
      await parent.check()();
      parent.kv.dispose();
      expect(used(bench)).toBe(0);
    });

    test('of three forks, and of what is left when others went', async () => {
      const bench = makeBench({ ...small, layers: 1 }, 4096, device);
      const first = new TallyMirror(bench);
      first.append(0, range(0, 20));
      const before = used(bench);
      const second = first.fork();
      const third = second.fork();
      second.kv.own(0);
      third.kv.own(0);
      first.kv.own(0);
      expect(used(bench)).toBe(3 * before);
      const fourth = first.fork();
      first.kv.dispose();
      fourth.kv.own(0); // nobody shares its pages any more
      expect(used(bench)).toBe(3 * before);
      for (const [i, each] of [second, third, fourth].entries())
        each.mark(0, 0, () => i + 1, false);
      for (const each of [second, third, fourth]) await each.check()();
      for (const each of [second, third, fourth]) each.kv.dispose();
      expect(used(bench)).toBe(0);
    });

    test('leaves pages inside the gap alone', async () => {
      const bench = makeBench({ ...small, layers: 1, heads: 1 }, 4096, device);
      const cache = new TallyMirror(bench);
      cache.append(0, range(0, 200));
      cache.drop(0, 6, 180);
      const before = used(bench);
      const child = cache.fork();
      child.kv.own(0);
      expect(used(bench)).toBe(2 * before);
      child.evict(0, [2], 14);
      await cache.check()();
      await child.check()();
    });

    test('after reserve and compact copies only what is still shared', async () => {
      const bench = makeBench({ ...small, layers: 1 }, 4096, device);
      const cache = new TallyMirror(bench);
      cache.append(0, range(0, 10));
      const before = used(bench);
      const child = cache.fork();
      child.append(0, [50]); // copies the last pages: 3 a head
      expect(used(bench)).toBe(before + 6);
      child.kv.own(0);
      expect(used(bench)).toBe(2 * before);
      const other = cache.fork();
      other.compact(0, [range(0, 10), range(0, 10)]);
      expect(used(bench)).toBe(3 * before);
      other.kv.own(0);
      expect(used(bench)).toBe(3 * before);
      other.mark(0, 0, () => 9, false);
      for (const each of [cache, child, other]) await each.check()();
    });

    test('of a full pool is an error and changes nothing', async () => {
      const bench = makeBench({ ...small, layers: 1 }, 20, device);
      const cache = new TallyMirror(bench);
      cache.append(0, range(0, 10)); // 14 pages
      const child = cache.fork();
      expectError(() => child.kv.own(0), 'ERR_ACCEL_OUT_OF_MEMORY', /page pool is full/);
      expect(used(bench)).toBe(14);
      await cache.check()();
      await child.check()();
      cache.kv.dispose();
      child.mark(0, 0, () => 3, true);
      await child.check()();
      child.kv.dispose();
      expect(used(bench)).toBe(0);
    });

    test('of a layer that does not exist, or of a cache that is gone', () => {
      const bench = makeBench(small, 64, device);
      const cache = new KvSequence(bench.pool, small);
      expectError(() => cache.own(2), 'ERR_ACCEL_ARGUMENT', /layer 2/);
      cache.dispose();
      expectError(() => cache.own(0), 'ERR_ACCEL_DISPOSED');
    });
  });

  test('as part of a replayed decode step is what it is op by op', async () => {
    const [heads, group, dim, capacity, keep] = [2, 4, 64, 90, 20];
    const run = async (graph: boolean): Promise<number[][]> => {
      using side = new Side(device);
      const numbers = new Numbers(11);
      const [cache] = side.caches(1, heads, dim, 'bfloat16', 200, 2) as [KvSequence];
      const tensor = (count: number, width: number): Tensor =>
        side.floats(numbers.normal(count * width * dim), [count, width, dim], 'bfloat16');
      const append = (count: number, first: number): void => {
        const positions = side.ints(Int32Array.from({ length: count }, (_, i) => first + i));
        const kv = cache.kv(0);
        const [k, v] = [tensor(count, heads), tensor(count, heads)];
        cache.reserve(0, count);
        ops.kvAppend(side.stream, kv, k, v, positions, Int32Array.of(count));
      };
      append(capacity, 0);
      const q = side.out('bfloat16', [1, heads * group, dim]);
      const attended = side.out('bfloat16', [1, heads * group, dim]);
      const lse = side.out('float32', [1, heads * group]);
      const scores = side.out('float32', [heads, capacity + 1]);
      const index = side.out('int32', [heads, 1]);
      const victims = index.view([heads]);
      const scale = 1 / Math.sqrt(dim);
      for (let step = 0; step < 60; step++) {
        q.write(side.stream, numbers.normal(heads * group * dim, 3));
        append(1, capacity + step);
        const body = (): void => {
          const kv = cache.kv(0);
          const options = { scale, causal: true };
          ops.attention(side.stream, attended, lse, q, kv, Int32Array.of(1), options);
          const counted = { scale, reduce: 'mean', accumulate: true } as const;
          ops.tallyStep(side.stream, kv, q, lse, { ...counted, tally: 0 });
          ops.tallyStep(side.stream, kv, q, lse, { ...counted, tally: 1, accumulate: false });
          ops.tallyRead(side.stream, scores, kv, 0, { first: 2, last: keep });
          ops.topk(side.stream, index, scores, { k: 1, largest: false });
          ops.kvRemove(side.stream, kv, victims, keep);
        };
        cache.own(0);
        if (graph) side.stream.graph(body);
        else body();
        cache.drop(0, capacity - keep, 1);
      }
      if (graph && device === 'cuda') expect(side.stream.graphs().replayed).toBeGreaterThan(40);
      const positions = side.out('int32', [heads, capacity]);
      ops.kvRead(side.stream, null, null, positions, cache.kv(0));
      const [sums, last] = [0, 1].map((which) => {
        const out = side.out('float32', [heads, capacity]);
        ops.tallyRead(side.stream, out, cache.kv(0), which);
        return out;
      }) as [Tensor, Tensor];
      const read = await side.read({ positions, sums, last, attended });
      victims.dispose();
      return Object.values(read).map((values) => [...Array.from(values)]);
    };
    const [graph, plain] = [await run(true), await run(false)];
    expect(graph).toEqual(plain);
    const [positions = []] = plain;
    for (const head of [positions.slice(0, capacity), positions.slice(capacity)]) {
      expect(head).toEqual([...head].sort((a, b) => a - b));
      expect(head.slice(0, 2)).toEqual([0, 1]);
      expect(head.slice(-keep)).toEqual(range(capacity + 60 - keep, capacity + 60));
      expect(new Set(head).size).toBe(capacity);
    }
  });

  test('of a row that cannot leave fails on the stream', async () => {
    for (const [victims, message] of [
      [[2, 8], /kv_remove: the row of head 1 is 8/],
      [[-1, 0], /kv_remove: the row of head 0 is -1/],
    ] as const) {
      const bench = makeBench(small, 64, device);
      const cache = new TallyMirror(bench);
      cache.append(0, range(0, 10));
      using rows = Tensor.from(bench.device, Int32Array.from(victims), [2]);
      ops.kvRemove(bench.stream, cache.kv.kv(0), rows, 2);
      await expectRejection(bench.stream.synchronize(), 'ERR_ACCEL_ARGUMENT', message);
    }
  });

  test('takeColumns of a column that does not exist fails on the stream', async () => {
    using side = new Side(device);
    const x = side.floats(new Float32Array(6), [2, 3]);
    for (const bad of [3, -1]) {
      const index = side.ints(Int32Array.of(0, 2, 1, bad), [2, 2]);
      ops.takeColumns(side.stream, side.out('float32', [2, 2]), x, index);
      const failure = side.stream.synchronize();
      await expectRejection(failure, 'ERR_ACCEL_ARGUMENT', /take_columns.*index/);
    }
  });
});

describe('bad calls', () => {
  const { device, stream, pool } = makeBench(small);
  const cache = new KvSequence(pool, small);
  cache.reserve(0, 5);
  const sums = Tensor.empty(device, 'float32', [2, 5]);

  test('are refused at once', () => {
    const tallies = (count: number): KvSequence =>
      new KvSequence(pool, { ...small, tallies: count });
    expectError(() => tallies(17), 'ERR_ACCEL_ARGUMENT', /tallies is 17/);
    expectError(() => tallies(-1), 'ERR_ACCEL_ARGUMENT', /tallies is -1/);
    expectError(() => tallies(0.5), 'ERR_ACCEL_ARGUMENT', /tallies is 0.5/);
    const tiny = new PagePool(stream, { pageBytes: 64, capacityBytes: 1 << 12 });
    expectError(
      () => new KvSequence(tiny, { ...small, tallies: 16 }),
      'ERR_ACCEL_ARGUMENT',
      /pages of 64 bytes cannot hold a record of 68 bytes/,
    );
    const kv = cache.kv(0);
    expectError(
      () => ops.tallyAdd(stream, kv, sums, 1, 'mean'),
      'ERR_ACCEL_ARGUMENT',
      /tally 1 does not exist: rows of kv have 1/,
    );
    expectError(() => ops.tallyRead(stream, sums, kv, -1), 'ERR_ACCEL_ARGUMENT', /tally -1/);
    const other = new KvSequence(pool, { ...small, tallies: 2 });
    other.reserve(0, 5);
    const positions = Tensor.empty(device, 'int32', [2, 5]);
    expectError(
      () => ops.kvRead(stream, null, null, positions, kvBatch([cache, other], 0)),
      'ERR_ACCEL_BATCH',
      /tallies/,
    );
    using rows = Tensor.from(device, Int32Array.of(0, 0), [2]);
    expectError(
      () => ops.kvRemove(stream, kv, rows, 5),
      'ERR_ACCEL_ARGUMENT',
      /no row of head 0 can leave: it has 5 and the newest 5 stay/,
    );
    using q = Tensor.empty(device, 'float32', [1, 2, 8]);
    using lse = Tensor.empty(device, 'float32', [1, 2]);
    expectError(
      () => ops.columnSums(stream, sums, q, lse, kv, { scale: 1, reduce: 'max', accumulate: true }),
      'ERR_ACCEL_ARGUMENT',
      /maximum cannot be accumulated/,
    );
  });
});
