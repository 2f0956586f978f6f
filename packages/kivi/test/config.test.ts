import { readMethodConfig, type ModelSpec } from '@accel/core';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { kiviFormat } from '../src/format.js';
import { kivi, method } from '../src/index.js';
import { layoutFor } from '../src/layout.js';
import { settingsFrom, type KiviOptions } from '../src/settings.js';

const GQA = { heads: 32, kvHeads: 8, headDim: 128 };
const MHA = { heads: 32, kvHeads: 32, headDim: 128 };

describe('configs', () => {
  it('paper.yaml has the values of the paper', async () => {
    const [part] = await readMethodConfig(method.presets.paper, method);
    expect(part).toMatchObject({ id: 'kivi', slot: 'codec', residual: 128 });
    expect(part?.options).toEqual({ bits: 2, group: 32, residual: 128, guarded: false });
  });

  it('loom.yaml has the values of the seed toolkit, under its keys', async () => {
    const [part] = await readMethodConfig(method.presets.loom, method);
    expect(part?.options).toMatchObject({ keyBits: 2, valueBits: 2, group: 32, residual: 32 });
  });

  it('says what it means for others', () => {
    expect(kivi()).toMatchObject({
      id: 'kivi',
      slot: 'codec',
      needs: [],
      packedRows: 'forbidden',
      residual: 128,
      lossy: true,
    });
    expect(kivi().options).toEqual({ bits: 'auto', group: 32, residual: 128, guarded: true });
  });

  it('runs where its groups divide the head dimension', () => {
    const supports = (headDim: number): string | undefined =>
      method.supports?.({ ...GQA, headDim } as ModelSpec);
    expect(supports(128)).toBeUndefined();
    expect(supports(64)).toBeUndefined();
    expect(supports(80)).toContain('80');
  });
});

describe('bits', () => {
  const bitsOf = (options: KiviOptions, spec: typeof GQA): [number, number] => {
    const { keyBits, valueBits } = layoutFor(settingsFrom(options), spec, spec.headDim);
    return [keyBits, valueBits];
  };

  it('are 4 where query heads share keys and 2 elsewhere, unless they are given', () => {
    expect(bitsOf({}, GQA)).toEqual([4, 4]);
    expect(bitsOf({}, MHA)).toEqual([2, 2]);
    expect(bitsOf({ bits: 8 }, MHA)).toEqual([8, 8]);
    expect(bitsOf({ keyBits: 8 }, GQA)).toEqual([8, 4]);
    expect(bitsOf({ bits: 2, valueBits: 4 }, GQA)).toEqual([2, 4]);
  });
});

describe('format', () => {
  it.each([
    { bits: 2, group: 32, keys: 1536, values: 768 },
    { bits: 4, group: 32, keys: 2560, values: 1280 },
    { bits: 8, group: 128, keys: 16896, values: 2112 },
  ] as const)(
    'of $bits bits in groups of $group takes so many bytes',
    ({ bits, group, keys, values }) => {
      const { items } = kiviFormat(settingsFrom({ bits, group }), {
        spec: GQA,
        channels: 128,
        header: 0,
      });
      expect(items.keys).toEqual({ rows: group, bytes: keys, header: 0 });
      expect(items.values).toEqual({ rows: 16, bytes: values });
      // Bits of a number: its code, and a scale and a minimum of 16 bits for each group.
      expect((8 * keys) / (group * 128)).toBe(bits + 32 / group);
      expect((8 * values) / (16 * 128)).toBe(bits + 32 / group);
    },
  );

  it('rounds pruned channels up to whole steps', () => {
    const { items, key } = kiviFormat(settingsFrom({ bits: 2 }), {
      spec: GQA,
      channels: 77,
      header: 160,
    });
    expect(items.keys).toEqual({ rows: 32, bytes: (32 * 80) / 4 + 4 * 80, header: 160 });
    expect(key).toContain('/77/160/');
  });

  it('keeps a key plain unless told otherwise', () => {
    const format = (options: KiviOptions, recent?: number): ReturnType<typeof kiviFormat> =>
      kiviFormat(settingsFrom(options), { spec: GQA, channels: 128, header: 0, recent });
    expect(format({ residual: 64 })).toMatchObject({
      rules: { keys: { block: 64, keep: 1 }, values: { block: 1, keep: 64 } },
      encodes: 'everyStep',
      idleRows: 64,
    });
    expect(format({ residual: 64, guarded: false })).toMatchObject({
      rules: { keys: { block: 64, keep: 0 } },
      idleRows: 63,
    });
    expect(format({ residual: 64 }).key).not.toBe(format({ residual: 64, guarded: false }).key);
    expect(format({ residual: 64 }, 0)).toMatchObject({ rules: { keys: { block: 64, keep: 1 } } });
    // A channels part wants its newest keys whole.
    expect(format({ residual: 64, guarded: false }, 32)).toMatchObject({
      rules: { keys: { block: 64, keep: 32 }, values: { block: 1, keep: 64 } },
      idleRows: 95,
    });
  });

  it('refuses a head that is not whole groups', () => {
    const spec = { ...GQA, headDim: 96 };
    const format = (): unknown =>
      kiviFormat(settingsFrom({ group: 64 }), { spec, channels: 96, header: 0 });
    expect(format).toThrow(errorWith('ERR_ACCEL_POLICY', '96'));
  });
});
