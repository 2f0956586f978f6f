import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AccelError, Device, KvSequence, PagePool, Tensor } from '../../ts/index.js';
import type { DType, Stream } from '../../ts/index.js';
import { testDevices, whyNot } from './devices.js';

/** Float formats of activations. */
export type Float = 'float32' | 'bfloat16' | 'float16';

/** What an op left behind, by name. */
export type Outputs = Readonly<Record<string, ArrayLike<number>>>;

/** How far two devices may be apart: each element, and a quarter of that on average. */
export interface Nearness {
  readonly abs: number;
  readonly rel: number;
}

export const EXACT: Nearness = { abs: 0, rel: 0 };

/** Results that are rounded once: a unit in the last place, and the order of float32 sums of numbers near 1. */
export const ROUNDED: Readonly<Record<Float, Nearness>> = {
  float32: { abs: 2e-5, rel: 1e-5 },
  bfloat16: { abs: 4e-3, rel: 2 ** -7 },
  float16: { abs: 5e-4, rel: 2 ** -10 },
};

/** Results behind an intermediate in the format itself: probabilities, the two halves of a gate. */
export const TWICE: Readonly<Record<Float, Nearness>> = {
  float32: { abs: 4e-5, rel: 2e-5 },
  bfloat16: { abs: 2e-2, rel: 2 ** -6 },
  float16: { abs: 3e-3, rel: 2 ** -9 },
};

/** Token counts around every tile edge, and others. */
export const tokenCounts: fc.Arbitrary<number> = fc.oneof(
  fc.constantFrom(1, 2, 7, 8, 9, 16, 17, 127, 128, 129),
  fc.integer({ min: 1, max: 300 }),
  fc.constant(4097),
);
export const floatFormats: fc.Arbitrary<Float> = fc.constantFrom('float32', 'bfloat16', 'float16');

/** Normal numbers, reproducible (an LCG and Box and Muller's transform). */
export class Numbers {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  uniform(): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return (this.#state + 0.5) / 2 ** 32;
  }

  integer(below: number): number {
    return Math.floor(this.uniform() * below);
  }

  normal(count: number, scale = 1): Float32Array {
    const out = new Float32Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = scale * Math.sqrt(-2 * Math.log(this.uniform()));
      const angle = 2 * Math.PI * this.uniform();
      out[i] = radius * Math.cos(angle);
      if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
    }
    return out;
  }

  integers(count: number, below: number): Int32Array {
    return Int32Array.from({ length: count }, () => this.integer(below));
  }
}

/** One of the two devices, with everything a case puts on it; disposing it gives all of that back. */
export class Side implements Disposable {
  readonly device: Device;
  readonly stream: Stream;
  readonly #held: { dispose(): void }[] = [];

  constructor(id: string) {
    this.device = Device.open(id);
    this.stream = this.device.createStream();
  }

  #hold<T extends { dispose(): void }>(resource: T): T {
    this.#held.push(resource);
    return resource;
  }

  floats(data: Float32Array, shape: readonly number[], dtype: DType = 'float32'): Tensor {
    return this.#hold(Tensor.from(this.device, data, shape, dtype));
  }

  doubles(data: Float64Array, shape: readonly number[]): Tensor {
    return this.#hold(Tensor.from(this.device, data, shape));
  }

  ints(data: Int32Array, shape: readonly number[] = [data.length]): Tensor {
    return this.#hold(Tensor.from(this.device, data, shape));
  }

  /** Filled with numbers that no op leaves behind by accident. */
  out(dtype: DType, shape: readonly number[]): Tensor {
    const size = shape.reduce((product, extent) => product * extent, 1);
    const junk =
      dtype === 'int32' ? new Int32Array(size).fill(-77) : new Float32Array(size).fill(-777);
    return this.#hold(Tensor.from(this.device, junk, shape, dtype));
  }

  caches(
    count: number,
    heads: number,
    headDim: number,
    dtype: Float,
    rows: number,
    tallies = 0,
  ): KvSequence[] {
    const pageBytes = Math.max(64, 16 * headDim * (dtype === 'float32' ? 4 : 2));
    // Keys, values and records, twice while rows are gathered, and room to append to.
    const capacityBytes = 6 * count * heads * (Math.ceil(rows / 16) + 10) * pageBytes;
    const pool = new PagePool(this.stream, { pageBytes, capacityBytes });
    const shape = { layers: 1, heads, headDim, dtype, tallies };
    const made = Array.from({ length: count }, () => this.#hold(new KvSequence(pool, shape)));
    this.#hold(pool);
    return made;
  }

  async read(tensors: Readonly<Record<string, Tensor>>): Promise<Outputs> {
    const entries = Object.entries(tensors).map(
      async ([name, tensor]) => [name, await tensor.read(this.stream)] as const,
    );
    return Object.fromEntries(await Promise.all(entries));
  }

  [Symbol.dispose](): void {
    for (const resource of this.#held) resource.dispose();
    this.stream.dispose();
  }
}

/** Fails with the worst element unless `got` is near `want`. Equal infinities agree, a NaN never does. */
export function expectNear(got: Outputs, want: Outputs, near: (name: string) => Nearness): void {
  expect(Object.keys(got)).toEqual(Object.keys(want));
  for (const [name, expected] of Object.entries(want)) {
    const actual = got[name] ?? [];
    expect(actual.length, name).toBe(expected.length);
    const { abs, rel } = near(name);
    let [worst, excess, sum, size] = [-1, 0, 0, 0];
    for (let i = 0; i < expected.length; i++) {
      const [a, b] = [actual[i] ?? NaN, expected[i] ?? NaN];
      if (a === b) continue;
      const over = Math.abs(a - b) - abs - rel * Math.abs(b);
      if (!(over <= excess)) [worst, excess] = [i, Number.isNaN(over) ? Infinity : over];
      sum += Math.abs(a - b);
      size += Math.abs(b);
    }
    if (worst >= 0)
      expect.fail(`${name}[${worst}] is ${actual[worst]}, on the CPU ${expected[worst]}`);
    const count = Math.max(1, expected.length);
    expect(sum / count, `${name}: mean difference`).toBeLessThanOrEqual(
      (abs + (rel * size) / count) / (count < 64 ? 1 : 4),
    );
  }
}

/** What an op does on one device, given numbers that are the same on both. */
export type Run<Shape> = (side: Side, shape: Shape, numbers: Numbers) => Promise<Outputs>;

const reason = testDevices().includes('cuda') ? whyNot('cuda') : 'ACCEL_TEST_DEVICE is cpu';
const seed = Number(process.env['ACCEL_FUZZ_SEED'] ?? 20_261_124);

/** A block of tests that need both devices; skipped, with the reason in its title, where there is no GPU. */
export function describeParity(name: string, body: () => void): void {
  if (reason === undefined) describe(`${name}, CUDA against CPU`, body);
  else describe.skip(`${name}, CUDA against CPU [skipped: ${reason}]`, body);
}

/** Runs an op of random shape on both devices and compares all it wrote. `ACCEL_FUZZ_SEED` gives other shapes. */
export function parity<Shape>(
  op: string,
  shapes: fc.Arbitrary<Shape>,
  near: (shape: Shape, name: string) => Nearness,
  run: Run<Shape>,
  numRuns = 30,
): void {
  test(op, { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.nat(), async (shape, data) => {
        using cpu = new Side('cpu');
        using cuda = new Side('cuda');
        const want = await run(cpu, shape, new Numbers(data));
        const got = await run(cuda, shape, new Numbers(data));
        expectNear(got, want, (name) => near(shape, name));
      }),
      { numRuns, seed },
    );
  });
}

/** Runs an op on bad data on both devices: the stream must fail with the same code, naming the op. */
export function sameFailure(title: string, op: string, run: (side: Side) => void): void {
  test(`${op}: ${title}`, async () => {
    const failure = async (id: string): Promise<AccelError> => {
      using side = new Side(id);
      try {
        run(side);
        await side.stream.synchronize();
      } catch (error) {
        if (!AccelError.isInstance(error)) throw error;
        await side.stream.synchronize(); // usable again
        return error;
      }
      return expect.fail(`no error on ${id}`);
    };
    const [cpu, cuda] = [await failure('cpu'), await failure('cuda')];
    expect(cuda.code).toBe(cpu.code);
    expect(cuda.message).toMatch(new RegExp(`^${op}`));
  });
}
