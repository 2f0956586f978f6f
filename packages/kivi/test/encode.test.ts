import { toFloat16 } from '@accel/kernels';
import { describeDevices, errorWith, generated } from '@accel/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  asHalf,
  referenceGroup,
  referenceValues,
  referenceWords,
  type ReferenceGroup,
} from '../src/reference.js';
import { kiviEncode } from '../src/ops.js';
import type { Bits } from '../src/settings.js';
import { KiviCache, type Packed } from './harness.js';

const GROUP = 16;
const ALL = { keys: { block: GROUP, keep: 0 }, values: { block: 1, keep: 0 } };

/** 16 numbers that halves hold, of a kind that is easy or hard to pack. */
const group: fc.Arbitrary<number[]> = fc.oneof(
  halves(fc.double({ min: -8, max: 8, noNaN: true })),
  // All the same.
  fc
    .double({ min: -100, max: 100, noNaN: true })
    .map((x) => new Array<number>(GROUP).fill(asHalf(x))),
  // Subnormal halves, whose scale is one or nothing.
  halves(fc.integer({ min: -1500, max: 1500 }).map((n) => n * 2 ** -24)),
  // A channel of outliers, and one alone.
  halves(fc.double({ min: -30000, max: 30000, noNaN: true })),
  fc
    .tuple(halves(fc.double({ min: -1, max: 1, noNaN: true })), fc.nat({ max: GROUP - 1 }))
    .map(([numbers, at]) => numbers.with(at, 3000)),
  // A span below half a unit of the offset, and codes that lie half-way.
  halves(fc.integer({ min: 0, max: 2 }).map((n) => 1024 + n)),
  halves(fc.integer({ min: 0, max: 6 }).map((n) => n / 2)),
);

function halves(number: fc.Arbitrary<number>): fc.Arbitrary<number[]> {
  return fc.array(number.map(asHalf), { minLength: GROUP, maxLength: GROUP });
}

const bitsOf: fc.Arbitrary<Bits> = fc.constantFrom(2, 4, 8);

describe('reference', () => {
  // The worked example of the specification.
  const numbers = [-1, -0.6, -0.5, -0.4, 0, 0.4, 0.5, 0.6, 1, 1.4, 1.5, 1.6, 2, 0.49, 1.51, -0.51];

  it('packs as published', () => {
    const two = referenceGroup(numbers, 2);
    expect(two).toMatchObject({ scale: 1, low: -1 });
    expect(two.codes).toEqual([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 1, 3, 0]);
    expect(referenceWords(two.codes, 2)).toEqual([0x37eaa540]);
    const four = referenceGroup(numbers, 4);
    expect(four.scale).toBe(asHalf(0.2));
    expect(referenceWords(four.codes, 4)).toEqual([0x88753220, 0x2d7fdcca]);
  });

  it('gives numbers back to within half a scale, and what half precision loses', () => {
    fc.assert(
      fc.property(group, bitsOf, (numbers, bits) => {
        const packed = referenceGroup(numbers, bits);
        const span = Math.max(...numbers) - Math.min(...numbers);
        const most = 2 ** bits - 1;
        const bound = packed.scale / 2 + span * 2 ** -9 + most * 2 ** -24;
        for (const [i, x] of referenceValues(packed).entries())
          expect(Math.abs(x - (numbers[i] ?? NaN))).toBeLessThanOrEqual(bound);
        expect(Math.max(...packed.codes)).toBeLessThanOrEqual(most);
      }),
    );
  });

  it('refuses what half precision does not hold', () => {
    expect(() => referenceGroup([0, NaN], 2)).toThrow(RangeError);
    expect(() => referenceGroup([0, 65520], 2)).toThrow(RangeError);
    expect(() => referenceGroup([-40000, 40000], 2)).toThrow(RangeError);
    expect(referenceGroup([0, 65504], 2).scale).toBe(asHalf(65504 / 3));
  });
});

describeDevices('kivi_encode', (device) => {
  /** Packs `[rows, kvHeads, dim]`, all of it. */
  const pack = async (
    keys: Float32Array,
    values: Float32Array,
    kvHeads: number,
    dim: number,
    bits: Bits,
  ): Promise<Packed> => {
    const shape = { heads: kvHeads, kvHeads, dim };
    using kivis = new KiviCache(device, shape, { bits, group: GROUP, residual: GROUP }, ALL);
    kivis.append(keys, values);
    kivis.encode();
    return await kivis.read();
  };
  const expectGroups = (
    packed: Packed,
    kind: 'key' | 'value',
    groups: readonly ReferenceGroup[],
    bits: Bits,
  ): void => {
    const bitsOfAll = (numbers: number[]): Uint16Array => toFloat16(Float32Array.from(numbers));
    expect([...packed[`${kind}Codes`]]).toEqual(
      groups.flatMap(({ codes }) => referenceWords(codes, bits)),
    );
    expect(packed[`${kind}Scales`]).toEqual(bitsOfAll(groups.map(({ scale }) => scale)));
    expect(packed[`${kind}Minima`]).toEqual(bitsOfAll(groups.map(({ low }) => low)));
  };

  it('packs any groups as the reference does, as keys and as values', async () => {
    const many = fc.array(group, { minLength: 16, maxLength: 16 });
    await fc.assert(
      fc.asyncProperty(many, bitsOf, async (numbers, bits) => {
        // Group i is row i of the values, and channel i of the keys.
        const values = Float32Array.from(numbers.flat());
        const keys = values.map((_, i) => values[(i % 16) * 16 + Math.floor(i / 16)] ?? NaN);
        const packed = await pack(keys, values, 1, 16, bits);
        const want = numbers.map((of) => referenceGroup(of, bits));
        expectGroups(packed, 'key', want, bits);
        expectGroups(packed, 'value', want, bits);
      }),
      { numRuns: 60 },
    );
  });

  it('gives a channel the same codes wherever it is', async () => {
    const [rows, dim] = [32, 32];
    const keys = generated(1, rows * dim, 4);
    const order = Array.from({ length: dim }, (_, c) => (c * 5 + 3) % dim);
    const moved = keys.map((_, i) => keys[i - (i % dim) + (order[i % dim] ?? 0)] ?? NaN);
    const [before, after] = [await pack(keys, keys, 1, dim, 4), await pack(moved, keys, 1, dim, 4)];
    for (const name of ['keyScales', 'keyMinima', 'keyCodes'] as const) {
      const width = before[name].length / dim;
      const lines = order.flatMap((c) => [...before[name].subarray(c * width, (c + 1) * width)]);
      expect([...after[name]], name).toEqual(lines);
    }
  });

  it('packs a value without looking at other rows', async () => {
    const [rows, dim] = [40, 32];
    const values = generated(2, rows * dim);
    const other = values.map((x, i) => (Math.floor(i / dim) === 17 ? x : 50 * x));
    const [a, b] = [await pack(values, values, 1, dim, 2), await pack(values, other, 1, dim, 2)];
    for (const name of ['valueScales', 'valueMinima', 'valueCodes'] as const) {
      const width = a[name].length / rows;
      const line = (packed: Packed): unknown => packed[name].subarray(17 * width, 18 * width);
      expect(line(a), name).toEqual(line(b));
    }
  });

  it.each([
    { bits: 2, dim: 48, kvHeads: 2, dtype: 'float32' },
    { bits: 4, dim: 64, kvHeads: 1, dtype: 'bfloat16' },
    { bits: 8, dim: 80, kvHeads: 3, dtype: 'float16' },
    { bits: 2, dim: 256, kvHeads: 1, dtype: 'bfloat16' },
  ] as const)(
    'packs a stream token by token as the prompt at once: $bits bits, $kvHeads × $dim, $dtype',
    async ({ bits, dim, kvHeads, dtype }) => {
      const rows = 150;
      const options = { bits, group: GROUP, residual: 32 } as const;
      const shape = { heads: kvHeads, kvHeads, dim, dtype };
      const [k, v] = [generated(3, rows * kvHeads * dim, 3), generated(4, rows * kvHeads * dim)];
      using whole = new KiviCache(device, shape, options);
      whole.append(k, v);
      whole.encode();
      using stream = new KiviCache(device, shape, options);
      const width = kvHeads * dim;
      for (let row = 0; row < rows; row++) {
        const part = (data: Float32Array): Float32Array =>
          data.subarray(row * width, (row + 1) * width);
        stream.append(part(k), part(v));
        stream.encode();
      }
      expect(whole.lengths).toEqual([128, 22, 118, 32]);
      expect(stream.lengths).toEqual(whole.lengths);
      expect(await stream.read()).toEqual(await whole.read());
    },
  );

  it.each([64, 128, 192, 1024])('packs the same over pages of %i bytes', async (pageBytes) => {
    const dim = 16;
    const options = { bits: 4, group: GROUP, residual: 32 } as const;
    const data = generated(5, 100 * dim);
    const packed: Packed[] = [];
    for (const shape of [{}, { pageBytes }]) {
      using kivis = new KiviCache(device, { heads: 1, kvHeads: 1, dim, ...shape }, options);
      for (const [from, to] of [
        [0, 70],
        [70, 71],
        [71, 100],
      ] as const) {
        kivis.append(data.subarray(from * dim, to * dim), data.subarray(from * dim, to * dim));
        kivis.encode();
      }
      packed.push(await kivis.read());
    }
    expect(packed[1]).toEqual(packed[0]);
  });

  it.each([
    { title: 'NaN', x: NaN, code: 'ERR_ACCEL_NAN' },
    { title: 'infinity', x: -Infinity, code: 'ERR_ACCEL_NAN' },
    { title: 'a number above the largest half', x: 70000, code: 'ERR_ACCEL_NAN' },
    { title: 'a span above the largest half', x: -65000, code: 'ERR_ACCEL_ARGUMENT' },
  ] as const)('refuses $title, among keys and among values', async ({ x, code }) => {
    for (const of of ['key', 'value'] as const) {
      const shape = { heads: 2, kvHeads: 2, dim: 16 };
      using kivis = new KiviCache(device, shape, { group: GROUP, residual: GROUP }, ALL);
      const good = new Float32Array(48 * 2 * 16).fill(1000);
      const bad = good.slice();
      bad[20 * 32 + 16 + 3] = x;
      kivis.append(of === 'key' ? bad : good, of === 'key' ? good : bad);
      kivis.encode();
      const message = expect.stringContaining(of === 'key' ? 'row 16' : 'row 20') as unknown;
      await expect(kivis.cache.stream.synchronize()).rejects.toMatchObject({ code, message });
    }
  });

  it.each([
    { title: 'bits that are none', layout: { keyBits: 3 }, text: '2, 4 or 8' },
    { title: 'a group that does not divide the head', layout: { group: 64 }, text: 'group' },
    { title: 'channels that are none', layout: { channels: 0 }, text: 'channels' },
    { title: 'other bits than the cache was made for', layout: { keyBits: 8 }, text: 'items' },
    { title: 'fewer channels without a list of them', layout: { channels: 16 }, text: 'items' },
  ])('refuses $title', ({ layout, text }) => {
    const shape = { heads: 1, kvHeads: 1, dim: 32 };
    using kivis = new KiviCache(device, shape, { bits: 2, residual: 32 });
    const wrong = { ...kivis.layout, ...layout } as typeof kivis.layout;
    const { stream } = kivis.cache;
    expect(() => {
      kiviEncode({ stream, kv: kivis.cache.kv.kv(0), keys: 0, values: 0 }, wrong);
    }).toThrow(errorWith('ERR_ACCEL_ARGUMENT', text));
  });

  it('refuses more rows than the limit', () => {
    const shape = { heads: 1, kvHeads: 1, dim: 32 };
    using kivis = new KiviCache(device, shape, { bits: 2, residual: 32 });
    kivis.append(new Float32Array(70 * 32), new Float32Array(70 * 32));
    const { kv, stream } = kivis.cache;
    expect(() => {
      kv.encode(0, kivis.format.rules, (args) => {
        kivis.format.encode({ stream, kv: args, keys: 1, values: 1 });
      });
    }).toThrow(errorWith('ERR_ACCEL_ARGUMENT', 'limits'));
  });
});
