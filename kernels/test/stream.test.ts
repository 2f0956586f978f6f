import { beforeAll, describe, expect, test } from 'vitest';
import { Device, loadOpLibrary, Tensor, type OpLibrary, type Stream } from '../ts/index.js';
import { expectError, expectRejection } from './support/errors.js';
import { fixture } from './support/paths.js';

const device = Device.open();
let library: OpLibrary;
beforeAll(() => {
  library = loadOpLibrary(fixture('accel_test_ops'));
});

function append(stream: Stream, log: Tensor, value: number, milliseconds = 0): void {
  stream.run(library.op('append'), log, value, milliseconds);
}

describe('order', () => {
  test('ops run in the order they were enqueued, whatever each one takes', async () => {
    using stream = device.createStream();
    using log = Tensor.from(device, new Int32Array(101), [101]);
    for (let i = 0; i < 100; i++) append(stream, log, i, i % 25 === 0 ? 3 : 0);
    const got = await log.read(stream);
    expect([...got]).toEqual([100, ...Array.from({ length: 100 }, (_, i) => i)]);
  });

  test('a read sees what was enqueued before it and nothing that comes after', async () => {
    using stream = device.createStream();
    using x = Tensor.from(device, Int32Array.of(1), [1]);
    const reads: Promise<ArrayLike<number>>[] = [];
    for (let value = 0; value < 20; value++) {
      x.write(stream, Int32Array.of(value));
      reads.push(x.read(stream));
    }
    const seen = (await Promise.all(reads)).map((values) => values[0]);
    expect(seen).toEqual(Array.from({ length: 20 }, (_, value) => value));
  });

  test('written data is copied when it is enqueued', async () => {
    using stream = device.createStream();
    using log = Tensor.from(device, new Int32Array(4), [4]);
    using x = Tensor.empty(device, 'float32', [2]);
    append(stream, log, 0, 20);
    const data = Float32Array.of(1, 2);
    x.write(stream, data);
    data.fill(9);
    expect([...(await x.read(stream))]).toEqual([1, 2]);
  });

  test('several streams work side by side', async () => {
    const streams = [device.createStream(), device.createStream(), device.createStream()];
    const logs = streams.map(() => Tensor.from(device, new Int32Array(501), [501]));
    for (let i = 0; i < 500; i++) {
      streams.forEach((stream, s) => {
        const log = logs[s];
        if (log !== undefined) append(stream, log, i + s);
      });
    }
    for (const [s, stream] of streams.entries()) {
      const got = await logs[s]?.read(stream);
      expect(got?.[0]).toBe(500);
      expect(got?.[500]).toBe(499 + s);
      stream.dispose();
    }
  });
});

test('the event loop keeps turning while kernels use every thread', async () => {
  using stream = device.createStream();
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  const started = performance.now();
  stream.run(library.op('busy'), 400);
  expect(performance.now() - started).toBeLessThan(200);
  await stream.synchronize();
  clearInterval(timer);
  expect(performance.now() - started).toBeGreaterThanOrEqual(395);
  expect(ticks).toBeGreaterThan(10);
});

describe('errors on the stream', () => {
  test('stick until the next synchronize, skip what follows, and are gone afterwards', async () => {
    using stream = device.createStream();
    using log = Tensor.from(device, new Int32Array(8), [8]);
    append(stream, log, 1);
    stream.run(library.op('fail'), 7);
    append(stream, log, 2);
    stream.run(library.op('fail'), 8);
    log.write(stream, new Int32Array(8).fill(5));
    await expectRejection(stream.synchronize(), 'ERR_ACCEL_NAN', /^fail: deliberate failure 7$/);
    await stream.synchronize();
    append(stream, log, 3);
    expect([...(await log.read(stream))].slice(0, 4)).toEqual([2, 1, 3, 0]);
  });

  test('reject a read, and only the first one', async () => {
    using stream = device.createStream();
    using x = Tensor.from(device, Int32Array.of(4), [1]);
    stream.run(library.op('fail'), 1);
    const [first, second] = [x.read(stream), x.read(stream)];
    await expectRejection(first, 'ERR_ACCEL_NAN');
    expect([...(await second)]).toEqual([4]);
  });

  test('an exception in a kernel is an error, not a crash', async () => {
    using stream = device.createStream();
    stream.run(library.op('throws'));
    await expectRejection(stream.synchronize(), 'ERR_ACCEL_INTERNAL', /throws: thrown by a kernel/);
    stream.run(library.op('throws_in_parallel'));
    await expectRejection(stream.synchronize(), 'ERR_ACCEL_INTERNAL', /thrown by a thread/);
    await stream.synchronize();
  });

  test('too much scratch memory is out of memory', async () => {
    using stream = device.createStream();
    using out = Tensor.from(device, new Int32Array(1), [1]);
    stream.run(library.op('scratch'), out, 2 ** 46);
    await expectRejection(
      stream.synchronize(),
      'ERR_ACCEL_OUT_OF_MEMORY',
      /scratch memory needs 64.0 TiB/,
    );
  });
});

describe('what an op gets', () => {
  test('arguments of every kind', async () => {
    using stream = device.createStream();
    using out = Tensor.from(device, new Int32Array(5), [5]);
    using maybe = Tensor.empty(device, 'uint8', [17]);
    const list = Int32Array.from({ length: 10_000 }, (_, i) => i - 3);
    stream.run(library.op('arguments'), out, maybe, -5, 0.25, list);
    list.fill(0);
    expect([...(await out.read(stream))]).toEqual([17, -5, 250, 10_000, 49_965_000]);
    stream.run(library.op('arguments'), out, null, 2 ** 31 - 1, -1, new Int32Array(0));
    expect([...(await out.read(stream))]).toEqual([-1, 2 ** 31 - 1, -1000, 0, 0]);
  });

  test.each([
    [1, 1],
    [7, 1],
    [1000, 1],
    [1000, 64],
    [64, 1000],
    [0, 1],
  ])('parallel covers [0, %i) once in ranges of at least %i', async (n, grain) => {
    using stream = device.createStream();
    for (let round = 0; round < 50; round++) {
      using out = Tensor.from(device, new Int32Array(n + 3), [n + 3]);
      stream.run(library.op('cover'), out, n, grain);
      const got = [...(await out.read(stream))];
      expect(got.slice(0, n).every((visits) => visits === 1)).toBe(true);
      expect(got[n]).toBe(1);
      expect(got[n + 1]).toBeGreaterThanOrEqual(Math.min(grain, n));
    }
  });

  test.each([0, 1, 1000, 100_000, 3_000_000])(
    'separate, aligned scratch blocks of %i bytes',
    async (bytes) => {
      using stream = device.createStream();
      using out = Tensor.from(device, new Int32Array(1), [1]);
      for (let round = 0; round < 3; round++) stream.run(library.op('scratch'), out, bytes);
      expect([...(await out.read(stream))]).toEqual([1]);
    },
  );
});

describe('checks when enqueuing', () => {
  test('count, kinds and values of arguments', () => {
    using stream = device.createStream();
    using x = Tensor.empty(device, 'int32', [1]);
    const fill = library.op('fill');
    expectError(
      () => stream.run(fill, x),
      'ERR_ACCEL_ARGUMENT',
      /fill takes 2 arguments \(out, n\), got 1/,
    );
    expectError(
      () => stream.run(fill, 1, 1),
      'ERR_ACCEL_ARGUMENT',
      /"out" must be a tensor, got a number/,
    );
    expectError(
      () => stream.run(fill, null, 1),
      'ERR_ACCEL_ARGUMENT',
      /"out" must be a tensor, got null/,
    );
    expectError(
      () => stream.run(fill, x, x),
      'ERR_ACCEL_ARGUMENT',
      /"n" must be an integer, got a tensor/,
    );
    expectError(
      () => stream.run(fill, x, 1.5),
      'ERR_ACCEL_ARGUMENT',
      /"n" must be an integer, got 1.5/,
    );
    expectError(() => stream.run(fill, x, NaN), 'ERR_ACCEL_ARGUMENT', /"n" must be an integer/);
    expectError(
      () => stream.run(fill, x, Int32Array.of(1)),
      'ERR_ACCEL_ARGUMENT',
      /got an Int32Array/,
    );
    expectError(() => stream.run(fill, x, 'no' as never), 'ERR_ACCEL_ARGUMENT', /string/);
    expectError(
      () => stream.run(fill, ...new Array<number>(60).fill(1)),
      'ERR_ACCEL_ARGUMENT',
      /at most/,
    );
  });

  test("the op's own check throws at once and enqueues nothing", async () => {
    using stream = device.createStream();
    using x = Tensor.from(device, Int32Array.of(3), [1]);
    expectError(() => stream.run(library.op('fill'), x, 0), 'ERR_ACCEL_SHAPE', /^fill: n is 0/);
    expect([...(await x.read(stream))]).toEqual([3]);
  });
});

describe('kernels()', () => {
  test('counts kernels by the name they report, else by op', async () => {
    using stream = device.createStream();
    using log = Tensor.from(device, new Int32Array(8), [8]);
    for (let i = 0; i < 3; i++) append(stream, log, i);
    stream.run(library.op('fill'), log, 1);
    await stream.synchronize();
    expect(stream.kernels()).toEqual({ 'append.kernel': 3, fill: 1 });
  });
});

describe('graph()', () => {
  test('on the CPU runs its ops in order, also when nested', async () => {
    using stream = device.createStream();
    using log = Tensor.from(device, new Int32Array(8), [8]);
    for (let round = 0; round < 2; round++) {
      stream.graph(() => {
        append(stream, log, 1);
        stream.graph(() => append(stream, log, 2));
      });
    }
    expect([...(await log.read(stream))].slice(0, 5)).toEqual([4, 1, 2, 1, 2]);
    expect(stream.graphs()).toEqual({ captured: 0, replayed: 0, eager: 0 });
    expect(stream.kernels()).toEqual({ 'append.kernel': 4 });
  });

  test('passes on what its function throws; the stream stays usable', async () => {
    using stream = device.createStream();
    using log = Tensor.from(device, new Int32Array(8), [8]);
    expect(() => {
      stream.graph(() => {
        append(stream, log, 1);
        throw new Error('mine');
      });
    }).toThrow('mine');
    stream.graph(() => append(stream, log, 2));
    expect([...(await log.read(stream))].slice(0, 3)).toEqual([2, 1, 2]);
  });

  test('a stream may be disposed inside', async () => {
    const stream = device.createStream();
    using log = Tensor.from(device, new Int32Array(8), [8]);
    let read: Promise<ArrayLike<number>> | undefined;
    stream.graph(() => {
      append(stream, log, 1);
      read = log.read(stream);
      stream.dispose();
    });
    expect((await read)?.[0]).toBe(1);
    expectError(() => stream.graphs(), 'ERR_ACCEL_DISPOSED');
  });
});

describe('dispose', () => {
  test('lets enqueued work finish, and refuses more', async () => {
    const stream = device.createStream();
    using log = Tensor.from(device, new Int32Array(8), [8]);
    append(stream, log, 1, 30);
    const read = log.read(stream);
    stream.dispose();
    stream.dispose();
    expect(stream.disposed).toBe(true);
    expect([...(await read)].slice(0, 2)).toEqual([1, 1]);
    expectError(
      () => stream.run(library.op('fail'), 1),
      'ERR_ACCEL_DISPOSED',
      /stream was disposed/,
    );
    await expectRejection(stream.synchronize(), 'ERR_ACCEL_DISPOSED');
    expectError(() => stream.kernels(), 'ERR_ACCEL_DISPOSED');
  });

  test('a tensor may be disposed while ops that use it wait', async () => {
    using stream = device.createStream();
    using log = Tensor.from(device, new Int32Array(8), [8]);
    using out = Tensor.empty(device, 'float32', [4096]);
    append(stream, log, 1, 20);
    const source = Tensor.from(device, new Float32Array(4096).fill(3), [4096]);
    const { ops } = await import('../ts/index.js');
    ops.add(stream, out, source, source);
    source.dispose();
    // Takes the memory again if it was freed too early.
    using other = Tensor.from(device, new Float32Array(4096).fill(7), [4096]);
    const got = await out.read(stream);
    expect(got.every((value) => value === 6)).toBe(true);
    expect(other.size).toBe(4096);
  });
});
