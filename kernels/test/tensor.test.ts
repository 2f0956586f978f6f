import { beforeAll, describe, expect, test } from 'vitest';
import { Device, devices, Tensor, type DType, type Stream, type TypedArray } from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { expectError, expectRejection } from './support/errors.js';

describe('devices', () => {
  const device = Device.open();

  test('the CPU is first and says what it is', () => {
    const [cpu] = devices();
    expect(cpu).toMatchObject({ id: 'cpu', kind: 'cpu' });
    expect(cpu?.threads).toBeGreaterThanOrEqual(1);
    expect(['base', 'avx2', 'avx512', 'avx512bf16']).toContain(cpu?.isa);
    expect(cpu?.memory.total).toBeGreaterThan(cpu?.memory.free ?? Infinity);
    expect(device.info).toMatchObject({ id: 'cpu', isa: cpu?.isa });
    expect(Device.open('cpu')).toBe(device);
  });

  test('a device that is not there is an error with what there is', () => {
    expectError(() => Device.open('tpu'), 'ERR_ACCEL_NO_DEVICE', /no device "tpu".*cpu/);
  });

  test.runIf(devices().length === 1)('cuda where there is none says why and what to do', () => {
    const reason = /accel_cuda\.so.*[Bb]uild it|driver|no CUDA-capable device|compute capability/;
    expectError(() => Device.open('cuda'), 'ERR_ACCEL_DEVICE_UNAVAILABLE', reason);
    expectError(() => Device.open('cuda:1'), 'ERR_ACCEL_DEVICE_UNAVAILABLE', /"cuda:1".*has: cpu$/);
    expectError(() => Device.open('cudaX'), 'ERR_ACCEL_NO_DEVICE');
  });

  test('the CPU does not count its memory, and resetting the peak is harmless', () => {
    device.resetPeak();
    expect(device.info.memory.used).toBeUndefined();
    expect(device.info.memory.peak).toBeUndefined();
    expect(device.info.memory.idle).toBeUndefined();
  });
});

describeDevices('tensors', (id) => {
  let device: Device;
  let stream: Stream;
  beforeAll(() => {
    device = Device.open(id);
    stream = device.createStream();
  });

  describe('contents', () => {
    const cases: [DType, TypedArray][] = [
      ['float32', Float32Array.of(1.5, -2, Infinity, 1e-40, 3, 0)],
      ['float64', Float64Array.of(Math.PI, -1e300, 0, 1, 2, 3)],
      ['int32', Int32Array.of(-(2 ** 31), 2 ** 31 - 1, 0, 1, 2, 3)],
      ['uint8', Uint8Array.of(0, 255, 1, 2, 3, 4)],
    ];
    test.each(cases)('%s comes back as it went in', async (dtype, data) => {
      using x = Tensor.from(device, data, [2, 3]);
      expect(x).toMatchObject({ dtype, size: 6, byteLength: data.byteLength });
      expect(x.shape).toEqual([2, 3]);
      expect(await x.read(stream)).toEqual(data);
      using y = Tensor.empty(device, dtype, [6]);
      y.write(stream, data);
      expect(await y.read(stream)).toEqual(data);
    });

    test.each(['bfloat16', 'float16'] as const)(
      '%s takes float32 or bits, and is read as float32',
      async (dtype) => {
        const data = Float32Array.of(1, -2.5, 0.15625, 1024);
        using x = Tensor.from(device, data, [4], dtype);
        expect(x).toMatchObject({ dtype, byteLength: 8 });
        expect(await x.read(stream)).toEqual(data);
        const bits = dtype === 'bfloat16' ? 0x3fc0 : 0x3e00;
        using y = Tensor.from(device, Uint16Array.of(bits), [1], dtype);
        expect(await y.read(stream)).toEqual(Float32Array.of(1.5));
        x.write(stream, Float32Array.of(4, 3, 2, 1));
        expect(await x.read(stream)).toEqual(Float32Array.of(4, 3, 2, 1));
      },
    );

    test('a part of a larger array', async () => {
      using x = Tensor.from(device, Float32Array.of(0, 1, 2, 3, 4).subarray(2, 4), [2]);
      expect([...(await x.read(stream))]).toEqual([2, 3]);
    });

    test('no dimensions and no elements', async () => {
      using scalar = Tensor.from(device, Float32Array.of(5), []);
      expect([...(await scalar.read(stream))]).toEqual([5]);
      using none = Tensor.from(device, new Float32Array(0), [3, 0]);
      expect(none.byteLength).toBe(0);
      expect([...(await none.read(stream))]).toEqual([]);
    });
  });

  describe('views and slices', () => {
    test('share memory, also after the original is disposed', async () => {
      const x = Tensor.from(
        device,
        Float32Array.from({ length: 12 }, (_, i) => i),
        [4, 3],
      );
      using rows = x.slice(1, 3);
      expect(rows.shape).toEqual([2, 3]);
      using flat = rows.view([6]);
      x.write(
        stream,
        Float32Array.from({ length: 12 }, (_, i) => 10 * i),
      );
      x.dispose();
      using other = Tensor.from(device, new Float32Array(12).fill(-1), [12]);
      expect([...(await flat.read(stream))]).toEqual([30, 40, 50, 60, 70, 80]);
      rows.write(stream, new Float32Array(6).fill(1));
      expect([...(await flat.read(stream))]).toEqual([1, 1, 1, 1, 1, 1]);
      expect(other.size).toBe(12);
    });

    test('must fit', () => {
      using x = Tensor.empty(device, 'float32', [4, 3]);
      expectError(() => x.view([5, 3]), 'ERR_ACCEL_SHAPE', /\[4, 3\] as \[5, 3\]/);
      expectError(() => x.slice(2, 5), 'ERR_ACCEL_SHAPE', /\[2, 5\).*\[4, 3\]/);
      expectError(() => x.slice(3, 2), 'ERR_ACCEL_SHAPE');
      expectError(() => x.slice(-1, 2), 'ERR_ACCEL_ARGUMENT');
      expectError(() => x.slice(0.5, 2), 'ERR_ACCEL_ARGUMENT');
    });
  });

  describe('bad input', () => {
    test('shapes, dtypes and sizes', () => {
      expectError(() => Tensor.empty(device, 'float32', [-1]), 'ERR_ACCEL_SHAPE');
      expectError(() => Tensor.empty(device, 'float32', [1.5]), 'ERR_ACCEL_SHAPE', /1.5/);
      expectError(() => Tensor.empty(device, 'float32', [NaN]), 'ERR_ACCEL_SHAPE');
      expectError(
        () => Tensor.empty(device, 'float32', new Array<number>(9).fill(1)),
        'ERR_ACCEL_SHAPE',
        /8/,
      );
      expectError(() => Tensor.empty(device, 'float8' as never, [1]), 'ERR_ACCEL_DTYPE', /float8/);
      expectError(
        () => Tensor.from(device, new Float32Array(5), [2, 3]),
        'ERR_ACCEL_SHAPE',
        /20 bytes.*\[2, 3\] of 24/,
      );
      expectError(
        () => Tensor.from(device, new Int32Array(1), [1], 'float32'),
        'ERR_ACCEL_DTYPE',
        /Int32Array/,
      );
      expectError(
        () => Tensor.from(device, new Uint16Array(1), [1]),
        'ERR_ACCEL_DTYPE',
        /bfloat16 or float16/,
      );
      using x = Tensor.empty(device, 'float32', [2]);
      expectError(() => x.write(stream, new Float32Array(3)), 'ERR_ACCEL_SHAPE');
      expectError(() => x.write(stream, new Int32Array(2)), 'ERR_ACCEL_DTYPE');
    });
  });

  describe('dispose', () => {
    test('use afterwards is an error, disposing again is not', async () => {
      const x = Tensor.from(device, Float32Array.of(1), [1]);
      x.dispose();
      x.dispose();
      expect(x.disposed).toBe(true);
      expectError(() => x.view([1]), 'ERR_ACCEL_DISPOSED', /tensor was disposed/);
      expectError(() => x.write(stream, Float32Array.of(1)), 'ERR_ACCEL_DISPOSED');
      await expectRejection(x.read(stream), 'ERR_ACCEL_DISPOSED');
      const { ops } = await import('../ts/index.js');
      using y = Tensor.empty(device, 'float32', [1]);
      expectError(
        () => ops.add(stream, y, y, x),
        'ERR_ACCEL_DISPOSED',
        /^add: argument "b" was disposed/,
      );
    });

    test('a number of a disposed object never stands for a new one', () => {
      const old = Tensor.empty(device, 'float32', [1]);
      old.dispose();
      using next = Tensor.empty(device, 'float32', [2]);
      expectError(() => old.view([2]), 'ERR_ACCEL_DISPOSED');
      expect(next.view([2, 1]).shape).toEqual([2, 1]);
    });
  });
});

describe('memory of the CPU', () => {
  const device = Device.open();
  const stream = device.createStream();

  test('more memory than there is: wanted, free and the largest consumers', () => {
    using big = Tensor.empty(device, 'uint8', [3 << 22]);
    const error = expectError(
      () => Tensor.empty(device, 'float32', [2 ** 20, 2 ** 20]),
      'ERR_ACCEL_OUT_OF_MEMORY',
    );
    expect(error.message).toMatch(
      /float32 tensor \[1048576, 1048576\] needs 4.0 TiB, .* GiB of .* free/,
    );
    expect(error.message).toMatch(/Largest consumers: .*uint8 tensor \[12582912\] 12.0 MiB/);
    expect(big.size).toBe(3 << 22);
    expectError(() => Tensor.empty(device, 'uint8', [2 ** 30, 2 ** 30]), 'ERR_ACCEL_OUT_OF_MEMORY');
  });

  test('a tensor that is too large for one array cannot be read, but slices of it can', async () => {
    if (device.info.memory.free < 6 * 2 ** 30) return; // needs address space for 4.3 GB, of which 1 page is touched
    using x = Tensor.empty(device, 'uint8', [2 ** 16, 66_000]);
    using row = x.slice(65_535, 65_536);
    row.write(stream, new Uint8Array(66_000).fill(9));
    await expectRejection(x.read(stream), 'ERR_ACCEL_SHAPE', /4 GiB at most/);
    expect((await row.read(stream))[65_999]).toBe(9);
  });
});
