import { describe, expect, test } from 'vitest';
import {
  encodeBatch,
  KvSequence,
  ops,
  Tensor,
  type KvArg,
  type KvEncodeRules,
  type KvItems,
} from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { EncodedMirror, pack } from './support/encoded-model.js';
import { expectError } from './support/errors.js';
import { makeBench, Mirror, type Bench, type Geometry } from './support/kv-model.js';

const range = (begin: number, end: number): number[] =>
  Array.from({ length: end - begin }, (_, i) => begin + i);

/** 4 plain rows a page. Items of 3 keys and 2 values, which fit in no whole number into pages. */
const items = {
  keys: { rows: 3, bytes: 112, header: 48 },
  values: { rows: 2, bytes: 80 },
} satisfies Record<string, KvItems>;
const small: Geometry = {
  ...{ layers: 2, heads: 2, headDim: 8, dtype: 'float32', pageBytes: 128 },
  encoded: items,
};
const implied: Geometry = { ...small, positions: 'implied' };
/** As KIVI: keys in blocks, one value at a time. */
const rules: KvEncodeRules = { keys: { block: 6, keep: 1 }, values: { block: 1, keep: 5 } };

const nothing = (): void => undefined;
const cache = (geometry: Geometry = small, pages?: number): EncodedMirror =>
  new EncodedMirror(makeBench(geometry, pages));

describe('which rows are encoded', () => {
  test.each([
    { rule: { block: 4, keep: 0 }, want: [0, 0, 0, 0, 4, 4, 4, 4, 8, 8] },
    { rule: { block: 4, keep: 1 }, want: [0, 0, 0, 0, 0, 4, 4, 4, 4, 8] },
    { rule: { block: 1, keep: 5 }, want: [0, 0, 0, 0, 0, 0, 1, 2, 3, 4] },
    { rule: { block: 3, keep: 100 }, want: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0] },
  ])('$rule.block at a time, $rule.keep kept', async ({ rule, want }) => {
    const keys = cache();
    const values = cache();
    const got = want.map(() => {
      const counts = [keys.encode(0, { keys: rule }), values.encode(0, { values: rule })];
      expect(counts[0]).toBe(counts[1]);
      expect(values.kv.encodedRows(0, 1).keys).toBe(0);
      const now = [keys.kv.encodedRows(0, 1).keys, values.kv.encodedRows(0, 1).values];
      expect(now[0]).toBe(now[1]);
      for (const mirror of [keys, values]) mirror.append(0, [mirror.layer(0)[0]?.length ?? 0]);
      return now[0];
    });
    expect(got).toEqual(want);
    await keys.check()();
    await values.check()();
  });

  test('never fewer than there are, whatever a later rule says', async () => {
    const mirror = cache();
    mirror.append(0, range(0, 20));
    expect(mirror.encode(0, { keys: { block: 12, keep: 0 }, values: { block: 2, keep: 3 } })).toBe(
      16,
    );
    expect(mirror.encode(0, { keys: { block: 5, keep: 9 }, values: { block: 1, keep: 3 } })).toBe(
      1,
    );
    expect(mirror.kv.encodedRows(0, 0)).toEqual({ keys: 12, values: 17 });
    expect(mirror.encode(0, {})).toBe(0);
    expect(mirror.kv.encodedRows(0, 1)).toEqual({ keys: 12, values: 17 });
    await mirror.check()();
  });

  test('in a batch, each by its own length and with one op', async () => {
    const bench = makeBench(small);
    const mirrors = [23, 0, 7].map((rows) => {
      const mirror = new EncodedMirror(bench);
      mirror.append(1, range(0, rows));
      return mirror;
    });
    const [first, second, third] = mirrors as [EncodedMirror, EncodedMirror, EncodedMirror];
    expect(first.encode(1, rules, [second, third])).toBe(18);
    expect(mirrors.map(({ kv }) => kv.encodedRows(1, 0))).toEqual([
      { keys: 18, values: 18 },
      { keys: 0, values: 0 },
      { keys: 6, values: 2 },
    ]);
    third.append(1, range(7, 9));
    expect(third.encode(1, rules, [first, second])).toBe(2);
    for (const mirror of mirrors) await mirror.check()();
  });
});

describe('pages', () => {
  test('of plain rows go back when the op has been enqueued, and both forms are there meanwhile', async () => {
    const mirror = cache();
    const { pool } = mirror.bench;
    mirror.append(0, range(0, 40));
    const plain = mirror.kv.bytes();
    expect(plain).toEqual({
      pages: 2 * (10 + 10 + 2),
      measured: 44 * 128,
      arithmetic: 2 * 40 * 68,
    });
    pool.resetPeak();
    mirror.encode(0, { keys: { block: 12, keep: 0 }, values: { block: 10, keep: 3 } });
    // 36 keys in 12 items behind a header, 30 values in 15 items.
    const [keyPages, valuePages] = [Math.ceil((48 + 12 * 112) / 128), Math.ceil((15 * 80) / 128)];
    expect(pool.peakBytes).toBe(plain.measured + 2 * (keyPages + valuePages) * 128);
    // Row 30 is in the middle of a page of values.
    expect(mirror.kv.bytes()).toEqual({
      pages: 2 * (1 + 3 + 2 + keyPages + valuePages),
      measured: pool.usedBytes,
      arithmetic: 2 * (4 * 32 + 10 * 32 + 40 * 4 + 48 + 12 * 112 + 15 * 80),
    });
    await mirror.check()();
    mirror.kv.dispose();
    expect(pool.usedBytes).toBe(0);
  });

  test('hold a header from the first call on, with no row to encode', async () => {
    const mirror = cache();
    expect(mirror.encode(0, rules)).toBe(0);
    expect(mirror.kv.bytes()).toEqual({ pages: 2, measured: 256, arithmetic: 2 * 48 });
    mirror.append(0, range(0, 3));
    expect(mirror.encode(0, rules)).toBe(0);
    mirror.append(0, range(3, 30));
    mirror.encode(0, rules);
    await mirror.check()();
  });

  test('are counted row by row over a long stream, and stay within the rows', async () => {
    const mirror = cache(implied);
    for (let token = 0; token < 400; token++) {
      mirror.append(0, [token]);
      mirror.encode(0, rules);
      expect(mirror.kv.bytes().arithmetic).toBe(mirror.arithmetic());
      expect(mirror.kv.bytes().pages).toBe(mirror.pages());
      if (token % 67 === 0) await mirror.check()();
    }
    await mirror.check()();
  });

  test('that are missing change nothing', async () => {
    const mirror = cache(small, 32);
    mirror.append(0, range(0, 24));
    const before = mirror.kv.bytes();
    expect(before.pages).toBe(26);
    const run = (): never => {
      throw new Error('not to be called');
    };
    expectError(
      () => mirror.kv.encode(0, { keys: { block: 3, keep: 0 } }, run),
      'ERR_ACCEL_OUT_OF_MEMORY',
      /page pool is full/,
    );
    expect(mirror.kv.bytes()).toEqual(before);
    await mirror.check()();
    mirror.encode(0, { values: { block: 3, keep: 20 } });
    await mirror.check()();
  });

  test('that are missing for one of a batch change nothing in the others', async () => {
    const bench = makeBench(small, 54);
    const [one, other] = [new EncodedMirror(bench), new EncodedMirror(bench)];
    one.append(0, range(0, 9));
    other.append(0, range(0, 24));
    const used = bench.pool.usedBytes;
    expectError(
      () => encodeBatch([one.kv, other.kv], 0, { values: { block: 3, keep: 0 } }, nothing),
      'ERR_ACCEL_OUT_OF_MEMORY',
    );
    // The header of keys may be there now.
    expect(bench.pool.usedBytes - used).toBe(2 * 128);
    expect(one.kv.encodedRows(0, 0)).toEqual({ keys: 0, values: 0 });
    one.encoded[0] = { keys: 0, values: 0 };
    await one.check()();
    await other.check()();
    one.encode(0, { values: { block: 3, keep: 0 } });
    await one.check()();
  });

  test('stay when the op was not enqueued', async () => {
    const mirror = cache();
    mirror.append(0, range(0, 20));
    mirror.encode(0, rules);
    mirror.append(0, range(20, 30));
    const before = mirror.kv.bytes();
    const failing = (): never => {
      throw new TypeError('no such op');
    };
    expect(() => mirror.kv.encode(0, rules, failing)).toThrow('no such op');
    expect(mirror.kv.bytes()).toEqual(before);
    await mirror.check()();
    expect(mirror.encode(0, rules)).toBe(10);
    await mirror.check()();
  });
});

describe('a fork', () => {
  test('shares encoded pages, and copies the last item when it encodes on', async () => {
    const parent = cache();
    const { pool } = parent.bench;
    parent.append(0, range(0, 16));
    // 13 values: the last item is half full.
    parent.encode(0, { keys: { block: 4, keep: 0 }, values: { block: 1, keep: 3 } });
    const used = pool.usedBytes;
    const child = parent.fork();
    expect(pool.usedBytes).toBe(used);
    expect(child.kv.bytes()).toEqual(parent.kv.bytes());

    // Nothing is due, so nothing is written and nothing copied.
    expect(child.encode(0, { keys: { block: 4, keep: 0 }, values: { block: 1, keep: 3 } })).toBe(0);
    expect(pool.usedBytes).toBe(used);

    expect(child.encode(0, { values: { block: 1, keep: 1 } })).toBe(2);
    await parent.check()();
    await child.check()();
    expect(parent.kv.encodedRows(0, 0).values).toBe(13);

    child.append(0, range(100, 120));
    parent.append(0, range(16, 40));
    child.encode(0, { keys: { block: 2, keep: 0 }, values: { block: 1, keep: 0 } });
    parent.encode(0, { keys: { block: 3, keep: 2 }, values: { block: 2, keep: 1 } });
    await child.check()();
    await parent.check()();
    parent.kv.dispose();
    await child.check()();
    child.kv.dispose();
    expect(pool.usedBytes).toBe(0);
  });

  test('owns encoded pages too when it is told to own a layer', async () => {
    const parent = cache();
    parent.append(0, range(0, 16));
    parent.encode(0, rules);
    const child = parent.fork();
    const { pool } = parent.bench;
    const used = pool.usedBytes;
    child.kv.own(0);
    expect(pool.usedBytes - used).toBe(child.kv.bytes().measured);
    await parent.check()();
    await child.check()();
  });
});

describe('encoded rows do not leave', () => {
  const encoded = (): EncodedMirror => {
    const mirror = cache();
    mirror.append(0, range(0, 20));
    mirror.encode(0, { keys: { block: 6, keep: 1 }, values: { block: 1, keep: 5 } });
    return mirror; // 18 keys, 15 values
  };

  test('at the end: plain ones do', async () => {
    const mirror = encoded();
    expectError(
      () => mirror.kv.truncate(0, 17),
      'ERR_ACCEL_ARGUMENT',
      /18 rows of head 0.*encoded/,
    );
    expectError(() => mirror.kv.drop(0, 17, 3), 'ERR_ACCEL_ARGUMENT', /18 rows are encoded/);
    expect(mirror.kv.canDrop(0, 17, 3)).toBe(false);
    expect(mirror.kv.canDrop(0, 19, 1)).toBe(true);
    mirror.drop(0, 19, 1);
    mirror.truncate(0, 18);
    await mirror.check()();
    mirror.append(0, range(60, 75));
    mirror.encode(0, rules);
    await mirror.check()();
  });

  test('in the middle', async () => {
    const mirror = encoded();
    expect(mirror.kv.canDrop(0, 18, 1)).toBe(false);
    expectError(() => mirror.kv.drop(0, 18, 1), 'ERR_ACCEL_ARGUMENT', /18 rows are encoded/);
    expectError(() => mirror.kv.drop(0, 2, 1), 'ERR_ACCEL_ARGUMENT', /encoded/);
    const keep = [range(0, 20), range(0, 20)];
    expectError(() => mirror.compact(0, keep), 'ERR_ACCEL_ARGUMENT', /compacted before/);
    await mirror.check()();
  });

  test('nor does their header, though no row is encoded yet', async () => {
    const mirror = cache();
    mirror.append(0, range(0, 4));
    mirror.encode(0, { keys: { block: 6, keep: 1 } });
    const keep = [range(0, 2), range(0, 2)];
    expectError(() => mirror.compact(0, keep), 'ERR_ACCEL_ARGUMENT', /has a header/);
    mirror.truncate(0, 3);
    await mirror.check()();
  });

  test('and none is encoded while there is a gap', async () => {
    const mirror = cache();
    mirror.append(0, range(0, 20));
    mirror.drop(0, 4, 3);
    expectError(() => mirror.kv.encode(0, rules, nothing), 'ERR_ACCEL_KV_GAP', /row 4.*compact/);
    mirror.compact(0, [range(0, 17), range(0, 17)]);
    mirror.encode(0, rules);
    await mirror.check()();
  });
});

describe('ops', () => {
  const encoded = (which: KvEncodeRules): { mirror: EncodedMirror; bench: Bench; kv: KvArg } => {
    const mirror = cache();
    mirror.append(0, range(0, 12));
    mirror.encode(0, which);
    return { mirror, bench: mirror.bench, kv: mirror.kv.kv(0) };
  };

  test('that know plain rows only are refused', () => {
    const { mirror, bench, kv } = encoded({ values: { block: 4, keep: 0 } });
    const { device, stream } = bench;
    using q = Tensor.empty(device, 'float32', [1, 2, 8]);
    const attend = (): void => {
      ops.attention(stream, q, null, q, kv, Int32Array.of(1), { scale: 1, causal: true });
    };
    const reason = /attention: the oldest rows of argument "kv" are encoded/;
    expectError(attend, 'ERR_ACCEL_ARGUMENT', reason);
    expect(mirror.kv.rows(0, 0)).toBe(12);
  });

  test('read what is plain', async () => {
    const { bench, kv } = encoded({ values: { block: 4, keep: 0 } });
    const { device, stream } = bench;
    using rows = Tensor.empty(device, 'float32', [2, 12, 8]);
    using positions = Tensor.empty(device, 'int32', [2, 12]);
    ops.kvRead(stream, rows, null, positions, kv);
    expect([...(await positions.read(stream))]).toEqual([...range(0, 12), ...range(0, 12)]);
    expectError(
      () => ops.kvRead(stream, null, rows, null, kv),
      'ERR_ACCEL_ARGUMENT',
      /rows of v are encoded/,
    );
    const keys = encoded({ keys: { block: 4, keep: 0 } });
    ops.kvRead(keys.bench.stream, null, rows, null, keys.kv);
    expectError(
      () => ops.kvRead(keys.bench.stream, rows, null, null, keys.kv),
      'ERR_ACCEL_ARGUMENT',
      /rows of k are encoded/,
    );
  });

  test('in flight read the rows of their time', async () => {
    const mirror = cache();
    mirror.append(0, range(0, 20));
    const checks = [mirror.check()];
    mirror.encode(0, rules);
    checks.push(mirror.check());
    mirror.truncate(0, 18);
    mirror.append(0, range(50, 70));
    checks.push(mirror.check());
    mirror.encode(0, rules);
    const child = mirror.fork();
    child.append(0, range(80, 90));
    mirror.kv.dispose();
    child.encode(0, rules);
    checks.push(child.check());
    for (const check of checks) await check();
  });
});

describeDevices('implied positions', (device) => {
  test('are row numbers, and cost nothing', async () => {
    const mirror = new Mirror(makeBench({ ...implied, dtype: 'bfloat16' }, 4096, device));
    mirror.append(0, range(30, 60));
    mirror.append(0, [7]);
    expect(mirror.kv.bytes()).toEqual({
      pages: 2 * 2 * 4,
      measured: 16 * 128,
      arithmetic: 4 * 31 * 16,
    });
    await mirror.check()();
    mirror.truncate(0, 9);
    mirror.append(0, range(90, 100));
    const child = mirror.fork();
    child.append(0, range(1, 4));
    await mirror.check()();
    await child.check()();
  });

  test('do not let rows leave but from the end', () => {
    const mirror = new Mirror(makeBench(implied, 4096, device));
    mirror.append(0, range(0, 12));
    expectError(
      () => mirror.compact(0, [range(0, 12), range(0, 12)]),
      'ERR_ACCEL_ARGUMENT',
      /without stored positions/,
    );
    expect(mirror.kv.canDrop(0, 3, 1)).toBe(false);
    expectError(() => mirror.drop(0, 3, 1), 'ERR_ACCEL_ARGUMENT', /only leave from the end/);
    expect(mirror.kv.canDrop(0, 9, 3)).toBe(true);
    mirror.drop(0, 9, 3);
    expect(mirror.kv.rows(0, 1)).toBe(9);
  });
});

describe('bad calls', () => {
  const bench = makeBench(small);
  const make = (shape: Partial<Geometry>): KvSequence =>
    new KvSequence(bench.pool, { ...small, ...shape });

  test.each([
    { rows: 3, bytes: 100 },
    { rows: 3, bytes: 0 },
    { rows: 1 << 17, bytes: 16 },
    { rows: 3, bytes: 1 << 25 },
    { rows: 3, bytes: 112, header: 8 },
  ])('of items with $rows rows in $bytes bytes', (bad) => {
    const reason = /multiples of 16/;
    expectError(() => make({ encoded: { keys: bad } }), 'ERR_ACCEL_ARGUMENT', reason);
    expectError(() => make({ encoded: { values: bad } }), 'ERR_ACCEL_ARGUMENT', reason);
  });

  test('are refused at once', () => {
    expectError(() => make({ positions: 'implied', tallies: 1 }), 'ERR_ACCEL_ARGUMENT', /tallies/);
    const plain = make({ encoded: {} });
    const which = { block: 1, keep: 0 };
    expectError(
      () => plain.encode(0, { keys: which }, nothing),
      'ERR_ACCEL_ARGUMENT',
      /encoded keys/,
    );
    expectError(() => plain.encode(0, { values: which }, nothing), 'ERR_ACCEL_ARGUMENT', /values/);
    const made = make({});
    for (const bad of [
      { block: -1, keep: 0 },
      { block: 1, keep: -1 },
      { block: 0.5, keep: 0 },
    ]) {
      expectError(() => made.encode(0, { keys: bad }, nothing), 'ERR_ACCEL_ARGUMENT');
    }
    expectError(() => made.encode(2, { keys: which }, nothing), 'ERR_ACCEL_ARGUMENT', /layer 2/);
    expectError(() => made.encodedRows(0, 2), 'ERR_ACCEL_ARGUMENT', /head 2/);
    expectError(() => encodeBatch([], 0, { keys: which }, nothing), 'ERR_ACCEL_BATCH');
    expect(made.bytes().pages).toBe(0);
    made.dispose();
    expectError(() => made.encode(0, { keys: which }, nothing), 'ERR_ACCEL_DISPOSED');
  });

  test('of several layers are encoded with one op', async () => {
    const caches = [new EncodedMirror(bench), new EncodedMirror(bench)] as const;
    const [one, other] = caches;
    // No two of the four have the same number of rows.
    for (const [i, mirror] of caches.entries()) {
      for (const layer of [0, 1]) {
        mirror.append(layer, range(0, 11 + 5 * layer + 9 * i));
        mirror.encode(layer, {});
      }
    }
    expect(one.encode([1, 0], rules, [other])).toBe(24);
    for (const mirror of caches) await mirror.check()();
    expect(() => encodeBatch([one.kv], [0, 2], rules, nothing)).toThrow(/layer 2/);
    expectError(() => encodeBatch([one.kv], [], rules, nothing), 'ERR_ACCEL_BATCH', /one layer/);
    for (const mirror of caches) await mirror.check()();
  });

  test('of caches that store rows differently do not mix', () => {
    const { stream } = bench;
    const run = (kv: KvArg): void => stream.run(pack(), kv, -1);
    for (const other of [
      make({ encoded: { keys: items.keys } }),
      make({ encoded: { ...items, keys: { ...items.keys, header: 64 } } }),
      make({ positions: 'implied' }),
      make({ tallies: 1 }),
    ]) {
      expectError(
        () => encodeBatch([make({}), other], 0, {}, run),
        'ERR_ACCEL_BATCH',
        /positions, tallies and encoded rows/,
      );
    }
  });
});
