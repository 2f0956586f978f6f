import { compose, full, loadModel, type Model, type Sequence } from '@accel/core';
import { pyramidkv } from '@accel/pyramidkv';
import { snapkv } from '@accel/snapkv';
import {
  byteTokens,
  describeDevices,
  draw,
  errorWith,
  expectClose,
  expectSideBySide,
  writeTinyCheckpoint,
  type SideBySide,
  type TinyCheckpointOptions,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { kivi, type KiviOptions } from '../src/index.js';

const SIZES = { heads: 4, kvHeads: 2, headDim: 64, layers: 2, contextLength: 1 << 16 } as const;

describeDevices('KIVI inside the engine', (device) => {
  const withModel = async (
    body: (model: Model) => Promise<void>,
    dtype: 'float32' | 'bfloat16' = 'float32',
    sizes: TinyCheckpointOptions = SIZES,
  ): Promise<void> => {
    using checkpoint = writeTinyCheckpoint(sizes);
    using model = await loadModel(checkpoint.path, { device, dtype, kvBytes: 128 << 20 });
    await body(model);
    expect(model.pool.usedBytes).toBe(0);
  };
  const prompt = (count: number, seed = 3): Int32Array => byteTokens(count, seed);
  const packedRows = ({ state, model }: Sequence): number[][] =>
    Array.from({ length: model.spec.layers }, (_, layer) => {
      const { keys, values } = state.kv.encodedRows(layer, 1);
      return [keys, values];
    });

  it('attends to a prompt before packing it, then packs while decoding as published', () =>
    withModel(async (model) => {
      using plain = model.sequence({ policy: full });
      using sequence = model.sequence({
        policy: compose(kivi({ bits: 2, residual: 32, guarded: false })),
        strict: true,
      });
      await plain.append(prompt(150));
      await sequence.append(prompt(150));
      expect(await sequence.logits()).toEqual(await plain.logits());
      expect(packedRows(sequence)).toEqual([
        [128, 118],
        [128, 118],
      ]);
      await draw(sequence, 12);
      // The last token drawn is not in the cache yet.
      expect(packedRows(sequence)[1]).toEqual([160, 129]);
      const { kernels, parts, layers } = sequence.receipt();
      expect(Object.keys(kernels).some((name) => name.startsWith('kivi_attention'))).toBe(true);
      expect(parts[0]).toMatchObject({ id: 'kivi', acted: 2 + 11 * 2, idleRows: 31 });
      expect(layers[0]).toMatchObject({ rowsKept: [161, 161], encodedKeys: [160, 160] });
    }));

  it('with 8 bits answers as the full cache does', () =>
    withModel(async (model) => {
      using plain = model.sequence({ policy: full });
      using sequence = model.sequence({ policy: compose(kivi({ bits: 8, residual: 32 })) });
      const bits4 = compose(kivi({ bits: 4, residual: 32 }));
      using coarse = model.sequence({ policy: bits4 });
      const differences: number[] = [];
      for (const one of [plain, sequence, coarse]) {
        await one.append(prompt(300));
        await one.append(prompt(40, 6));
      }
      const want = await plain.logits();
      for (const one of [sequence, coarse]) {
        const got = await one.logits();
        const squares = got.reduce((sum, x, i) => sum + (x - (want[i] ?? 0)) ** 2, 0);
        differences.push(Math.sqrt(squares / want.reduce((sum, x) => sum + x * x, 0)));
      }
      const [fine = 1, rough = 0] = differences;
      expect(fine).toBeLessThan(0.02);
      expect(rough).toBeGreaterThan(4 * fine);
    }));

  it('reads a later turn over packed rows as its tokens one by one', () =>
    withModel(async (model) => {
      // Nothing is packed during the turn, so both ways see the same cache.
      const policy = compose(kivi({ bits: 4, group: 32, residual: 64 }));
      using parent = model.sequence({ policy });
      await parent.append(prompt(130));
      expect(packedRows(parent)[0]).toEqual([128, 66]);
      const turn = prompt(20, 9);
      using whole = parent.fork();
      await whole.append(turn, { logits: turn.length });
      const all = await whole.logits();
      const { vocabSize } = model.spec;
      for (const length of [1, 7, 20]) {
        using part = parent.fork();
        await part.append(turn.subarray(0, length));
        const row = all.subarray((length - 1) * vocabSize, length * vocabSize);
        expectClose(row, await part.logits(), { abs: 2e-4, rel: 0 }, `token ${length} of the turn`);
      }
    }));

  it('gives a fork the packed rows of its parent, and each its own later ones', () =>
    withModel(async (model) => {
      using parent = model.sequence({ policy: compose(kivi({ bits: 4, residual: 32 })) });
      // The last value item is part full, so both go on in a page that they share.
      await parent.append(prompt(107));
      using fork = parent.fork();
      using twin = parent.fork();
      const used = model.pool.usedBytes;
      const first = await draw(fork, 40);
      await parent.append(prompt(50, 9));
      await draw(parent, 10);
      expect(await draw(twin, 40)).toEqual(first);
      expect(packedRows(twin)).toEqual(packedRows(fork));
      expect(model.pool.usedBytes).toBeGreaterThan(used);
    }));

  it('decodes sequences with other settings, and without any, side by side', () =>
    withModel(async (model) => {
      const select = snapkv({ budget: { tokens: 48 }, observe: 16 });
      const cases: SideBySide[] = [
        { policy: compose(kivi({ bits: 2, residual: 32 })), length: 150 },
        { policy: compose(kivi({ bits: 2, residual: 32 })), length: 5 },
        { policy: compose(kivi({ bits: 2, residual: 64 })), length: 63 },
        { policy: compose(kivi({ bits: 4, group: 64, residual: 64 })), length: 90 },
        { policy: full, length: 70 },
        { policy: compose(select, kivi({ bits: 2, residual: 32 })), length: 120 },
      ];
      await expectSideBySide(model, cases, 40);
    }));

  it('packs what a selection has left, layer by layer', () =>
    withModel(async (model) => {
      const select = snapkv({ budget: { tokens: 160 }, observe: 16 });
      const policy = compose(select, pyramidkv(), kivi({ bits: 4, residual: 32 }));
      using sequence = model.sequence({ policy, strict: true });
      await sequence.append(prompt(600));
      const { layers } = sequence.receipt();
      for (const { rowsKept, encodedKeys, encodedValues } of layers) {
        expect(encodedKeys).toEqual(rowsKept.map((rows) => Math.floor((rows - 1) / 32) * 32));
        expect(encodedValues).toEqual(rowsKept.map((rows) => Math.max(0, rows - 32)));
      }
      expect(new Set(layers.map(({ rowsKept }) => rowsKept[0])).size).toBe(2);
      const positions = await sequence.view().positions(1, 0);
      expect(positions.at(-1)).toBe(599);
      await draw(sequence, 40);
      expect((await sequence.view().positions(1, 0)).at(-1)).toBe(638);
    }));

  it('does as published where 4 bits are advised, and 2', async () => {
    const bytes = async (sizes: TinyCheckpointOptions, options: KiviOptions): Promise<number> => {
      let measured = 0;
      await withModel(
        async (model) => {
          using sequence = model.sequence({ policy: compose(kivi(options)) });
          await sequence.append(prompt(1000));
          measured = sequence.receipt().kv.measuredBytes;
        },
        'bfloat16',
        sizes,
      );
      return measured;
    };
    expect(await bytes(SIZES, {})).toBe(await bytes(SIZES, { bits: 4 }));
    const mha = { ...SIZES, kvHeads: 4 };
    expect(await bytes(mha, {})).toBe(await bytes(mha, { bits: 2 }));
  });

  describe('takes, of 32K tokens,', () => {
    it.each([
      { bits: 2, share: 5.2 },
      { bits: 4, share: 3.1 },
    ] as const)(
      'at most 1/$share of bfloat16 at $bits bits, as the arithmetic says',
      { timeout: 120_000 },
      async ({ bits, share }) => {
        await withModel(
          async (model) => {
            const policy = compose(kivi({ bits, group: 32, residual: 128 }));
            using sequence = model.sequence({ policy });
            await sequence.append(prompt(32768));
            const { measuredBytes, arithmeticBytes, fullBytes } = sequence.receipt().kv;
            expect(measuredBytes).toBeLessThanOrEqual(fullBytes / share);
            expect(Math.abs(measuredBytes / arithmeticBytes - 1)).toBeLessThanOrEqual(0.05);
            expect(model.pool.usedBytes).toBe(measuredBytes);
          },
          'bfloat16',
          { heads: 2, kvHeads: 1, headDim: 64, layers: 1, hiddenSize: 16, contextLength: 1 << 16 },
        );
      },
    );
  });

  it('refuses a model whose heads are not whole groups', () =>
    withModel(
      async (model) => {
        expect(() => model.sequence({ policy: compose(kivi({ group: 32 })) })).toThrow(
          errorWith('ERR_ACCEL_POLICY', 'head dimension'),
        );
        await Promise.resolve();
      },
      'float32',
      { ...SIZES, headDim: 48 },
    ));
});
