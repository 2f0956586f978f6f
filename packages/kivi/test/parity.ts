import type { DType } from '@accel/kernels';
import {
  describeGolden,
  errorWith,
  expectClose,
  goldenConfigErrors,
  tokenMajor,
  type GoldenCase,
  type Tolerance,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { kiviFormat } from '../src/format.js';
import { kivi } from '../src/index.js';
import { referenceSchedule } from '../src/reference.js';
import { settingsFrom, type Bits, type KiviOptions } from '../src/settings.js';
import { KiviCache, type Packed } from './harness.js';
import { attention, rowsOf, unpackedKeys, unpackedValues } from './math.js';

const DTYPES = ['float32', 'float16', 'bfloat16'] as const;
const ALL = { keys: { block: 16, keep: 0 }, values: { block: 1, keep: 0 } };

/** KIVI against `golden/kivi`: words, scales and minima to the bit, the schedule, and outputs. */
export function parity(device: string): void {
  describeGolden('kivi', (cases) => {
    for (const golden of cases) {
      describe(golden.id, () => {
        if (golden.has('args')) schedule(device, golden);
        else if (golden.has('x')) edges(device, golden);
        else if (golden.has('qk')) products(device, golden);
        else if (golden.has('lengths')) stream(device, golden);
        else quantise(device, golden);
      });
    }
    configErrors(device);
  });
}

/** Whole heads, token-major. */
function tokens(golden: GoldenCase, name: string, from = 0, to?: number): Float32Array {
  const shape = golden.tensor(name).shape as [number, number, number];
  return tokenMajor(golden.floats(name), shape, from, to ?? shape[1]);
}

/** Compares packed rows with outputs whose names end in `suffix`. */
function expectPacked(
  golden: GoldenCase,
  packed: Packed,
  kind: 'key' | 'value',
  suffix: string,
): void {
  const name = (what: string): string => `${what}_${suffix}`;
  expect(packed[`${kind}Codes`], 'codes').toEqual(golden.tensor(name('codes')).data);
  expect(packed[`${kind}Scales`], 'scales').toEqual(golden.tensor(name('scale')).data);
  expect(packed[`${kind}Minima`], 'minima').toEqual(golden.tensor(name('min')).data);
}

/** A prompt and decode steps; attention first, packing afterwards. */
function stream(device: string, golden: GoldenCase): void {
  const [heads, kvHeads, dim] = ['Hq', 'Hkv', 'D'].map((name) => golden.param(name)) as [
    number,
    number,
    number,
  ];
  const options: KiviOptions = {
    keyBits: golden.param('k_bits') as Bits,
    valueBits: golden.param('v_bits') as Bits,
    group: golden.param('group') as 32,
    residual: golden.param('residual'),
    guarded: false,
  };
  it.each(DTYPES)('packs at the same steps, to the same bits: %s', async (dtype: DType) => {
    using kivis = new KiviCache(device, { heads, kvHeads, dim, dtype }, options);
    const prompt = golden.param('prompt');
    const lengths = golden.lists('lengths');
    const flush = golden.tensor('flush').data as Uint8Array;
    kivis.append(tokens(golden, 'k', 0, prompt), tokens(golden, 'v', 0, prompt));
    kivis.encode();
    expect(kivis.lengths).toEqual(lengths[0]);
    const exact = golden.tolerance.o as { abs16: number } & Exclude<Tolerance, string>;
    // Outputs of 16 bits are rounded themselves.
    const rel = dtype === 'bfloat16' ? 2 ** -8 : 2 ** -11;
    const tolerance = dtype === 'float32' ? exact : { abs: exact.abs16, rel };
    for (let step = 0; step < golden.param('decode_steps'); step++) {
      const at = prompt + step;
      kivis.append(tokens(golden, 'k', at, at + 1), tokens(golden, 'v', at, at + 1));
      const { out } = await kivis.attend(tokens(golden, 'q', step, step + 1));
      expectClose(out, tokens(golden, 'o', step, step + 1), tolerance, `output of step ${step}`);
      const [keys = 0, , values = 0] = kivis.lengths;
      kivis.encode();
      expect(kivis.lengths).toEqual(lengths[step + 1]);
      const packed = [kivis.lengths[0] !== keys, kivis.lengths[2] !== values].map(Number);
      expect(packed).toEqual([...flush.subarray(2 * step, 2 * step + 2)]);
    }
    if (!golden.has('codes_k')) return;
    const packed = await kivis.read();
    expectPacked(golden, packed, 'key', 'k');
    expectPacked(golden, packed, 'value', 'v');
  });
}

/** Keys or values alone, with several numbers of bits and sizes of groups. */
function quantise(device: string, golden: GoldenCase): void {
  const of = golden.has('k') ? 'k' : 'v';
  const combos = golden.params.combos as { bits: Bits; group: 32 }[];
  describe.each(combos)('$bits bits, groups of $group', ({ bits, group }) => {
    // Key channels do not know of heads; values of a head need whole groups.
    const together = golden.param('D') % group === 0 ? 1 : golden.param('Hkv');
    const [kvHeads, dim] = [golden.param('Hkv') / together, golden.param('D') * together];
    it.each(DTYPES)('%s', async (dtype) => {
      const rules = of === 'k' ? { keys: { block: group, keep: 0 } } : { values: ALL.values };
      const shape = { heads: kvHeads, kvHeads, dim, dtype };
      using kivis = new KiviCache(device, shape, { bits, group, residual: group }, rules);
      kivis.append(tokens(golden, of), tokens(golden, of));
      kivis.encode();
      const packed = await kivis.read();
      const suffix = `b${bits}_g${group}`;
      expectPacked(golden, packed, of === 'k' ? 'key' : 'value', suffix);
      if (!golden.has(`dequant_${suffix}`)) return;
      const unpacked = of === 'k' ? unpackedKeys : unpackedValues;
      const numbers = unpacked(packed, kvHeads, dim, bits);
      golden.expectClose(`dequant_${suffix}`, numbers.flat(2));
    });
  });
}

/** Hand-made groups, once as value rows and once as key channels. */
function edges(device: string, golden: GoldenCase): void {
  const x = golden.floats('x');
  const count = golden.tensor('x').shape[0] ?? 0;
  const dim = 32;
  const cases = [2, 4].flatMap((bits) =>
    (['float32', 'float16'] as const).map((dtype) => ({ bits: bits as Bits, dtype })),
  );
  it.each(cases)('$bits bits in $dtype', async ({ bits, dtype }) => {
    const shape = { heads: 1, kvHeads: 1, dim, dtype };
    using kivis = new KiviCache(device, shape, { bits, residual: 32 }, ALL);
    // Key channel c is group c; what is left over is constant.
    const keys = Float32Array.from(
      { length: dim * dim },
      (_, i) => x[(i % dim) * dim + Math.floor(i / dim)] ?? 0,
    );
    const values = new Float32Array(dim * dim);
    values.set(x);
    kivis.append(keys, values);
    kivis.encode();
    const packed = await kivis.read();
    const words = golden.tensor(`codes_b${bits}`).data;
    const [scale, low] = ['scale', 'min'].map((name) => golden.tensor(`${name}_b${bits}`).data);
    expect(packed.keyCodes.subarray(0, words.length)).toEqual(words);
    expect(packed.keyScales.subarray(0, count)).toEqual(scale);
    expect(packed.keyMinima.subarray(0, count)).toEqual(low);
    expect(packed.valueCodes.subarray(0, words.length)).toEqual(words);
    expect(packed.valueScales.subarray(0, count)).toEqual(scale);
    expect(packed.valueMinima.subarray(0, count)).toEqual(low);
  });
}

/** Products with packed rows, and attention over nothing else. */
function products(device: string, golden: GoldenCase): void {
  const [heads, kvHeads, dim, rows] = ['Hq', 'Hkv', 'D', 'T'].map((name) => golden.param(name)) as [
    number,
    number,
    number,
    number,
  ];
  const group = heads / kvHeads;
  const [q, a] = [golden.floats('q'), golden.floats('a')];
  const line = (data: Float32Array, head: number, width: number): number[] => [
    ...data.subarray(head * width, (head + 1) * width),
  ];
  it('packs to the same bits, which stand for the same products and attention', async () => {
    const bits = golden.param('k_bits') as Bits;
    const rules = { ...ALL, keys: { block: 32, keep: 0 } };
    using kivis = new KiviCache(device, { heads, kvHeads, dim }, { bits, residual: 32 }, rules);
    kivis.append(tokens(golden, 'k'), tokens(golden, 'v'));
    kivis.encode();
    expect(kivis.lengths).toEqual([rows, 0, rows, 0]);
    const packed = await kivis.read();
    expectPacked(golden, packed, 'key', 'k');
    expectPacked(golden, packed, 'value', 'v');
    const keys = unpackedKeys(packed, kvHeads, dim, bits);
    const values = unpackedValues(packed, kvHeads, dim, bits);
    const all = Array.from({ length: heads }, (_, head) => head);
    const qk = all.flatMap((head) => {
      const query = line(q, head, dim);
      return (keys[Math.floor(head / group)] ?? []).map((key) =>
        key.reduce((sum, x, c) => sum + x * (query[c] ?? NaN), 0),
      );
    });
    golden.expectClose('qk', qk);
    const av = all.flatMap((head) => {
      const weights = line(a, head, rows);
      const of = values[Math.floor(head / group)] ?? [];
      return Array.from({ length: dim }, (_, c) =>
        weights.reduce((sum, weight, row) => sum + weight * (of[row]?.[c] ?? NaN), 0),
      );
    });
    golden.expectClose('av', av);
    const { out, lse } = await kivis.attend(q);
    for (const head of all) {
      const kvHead = Math.floor(head / group);
      const want = attention([line(q, head, dim)], keys[kvHead] ?? [], values[kvHead] ?? []);
      const got = out.subarray(head * dim, (head + 1) * dim);
      expectClose(got, want.out.flat(), { abs: 1e-5, rel: 1e-4 }, `head ${head}`);
      expect(lse[head]).toBeCloseTo(want.lse[0] ?? NaN, 4);
    }
    expect(rowsOf(out, heads, dim, 0)).toHaveLength(1);
  });
}

/** How many rows are packed after each of 300 steps. */
function schedule(device: string, golden: GoldenCase): void {
  const steps = golden.param('steps');
  const lengths = golden.lists('lengths');
  const args = golden.lists('args') as [number, number, number][];
  it.each(args.map(([prompt, residual, group], row) => ({ prompt, residual, group, row })))(
    'prompt $prompt, residual $residual, group $group',
    ({ prompt, residual, group, row }) => {
      const options = { bits: 2, group: group as 32, residual, guarded: false } as const;
      const shape = { heads: 1, kvHeads: 1, dim: group };
      using kivis = new KiviCache(device, shape, options);
      const append = (count: number): void => {
        const zero = new Float32Array(count * group);
        kivis.append(zero, zero);
        kivis.encode();
      };
      append(prompt);
      for (let step = 0; step <= steps; step++) {
        const want = lengths[row * (steps + 1) + step];
        expect(kivis.lengths, `step ${step}`).toEqual(want);
        const { keys, values } = referenceSchedule(kivis.rows, settingsFrom(options));
        expect([keys, values]).toEqual([want?.[0], want?.[2]]);
        if (step < steps) append(1);
      }
    },
  );
}

function configErrors(device: string): void {
  it('refuses what must be refused', async () => {
    const errors = goldenConfigErrors('kivi');
    expect(errors).toHaveLength(3);
    for (const { params } of errors) {
      const { residual, group, D: headDim } = params;
      if (residual !== undefined) {
        expect(() => kivi({ residual, group: group as 32 })).toThrow(errorWith('ERR_ACCEL_POLICY'));
      } else if (headDim !== undefined) {
        const spec = { heads: 4, kvHeads: 2, headDim };
        const settings = settingsFrom({ group });
        expect(() => kiviFormat(settings, { spec, channels: headDim, header: 0 })).toThrow(
          errorWith('ERR_ACCEL_POLICY'),
        );
      } else {
        expect(params).toHaveProperty('span');
        for (const of of ['key', 'value']) {
          using kivis = new KiviCache(
            device,
            { heads: 1, kvHeads: 1, dim: 32 },
            { residual: 32 },
            ALL,
          );
          const wide = new Float32Array(32 * 32);
          wide.set([-32752, 32768]);
          wide.set([-32752, 32768].reverse(), 32);
          const zero = new Float32Array(32 * 32);
          kivis.append(of === 'key' ? wide : zero, of === 'key' ? zero : wide);
          kivis.encode();
          await expect(kivis.cache.stream.synchronize()).rejects.toMatchObject({
            code: 'ERR_ACCEL_ARGUMENT',
          });
        }
      }
    }
  });
}
