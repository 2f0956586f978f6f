import {
  compose,
  freezePart,
  full,
  loadModel,
  type Model,
  type SelectPart,
  type Selector,
  type Sequence,
} from '@accel/core';
import { cakeBudget } from '@accel/cakekv';
import { ops, Tensor } from '@accel/kernels';
import { pyramidkv } from '@accel/pyramidkv';
import { snapkv } from '@accel/snapkv';
import {
  byteTokens,
  describeDevices,
  draw,
  expectClose,
  expectSideBySide,
  writeTinyCheckpoint,
  type SideBySide,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { think } from '../src/index.js';
import { thinkRead } from '../src/ops.js';
import { referenceChannels, referenceScores, type Matrix } from '../src/reference.js';
import { keptChannels, settingsFrom } from '../src/settings.js';

const LOGITS = { abs: 5e-4, rel: 0 };
const SIZES = { heads: 4, kvHeads: 2, headDim: 64, layers: 2 } as const;
const KEPT = keptChannels(settingsFrom({}), SIZES.headDim);

/** Channels that a layer's pruned keys have, by head. */
async function channelsOf(
  { state, model }: Sequence,
  layer: number,
  kept = KEPT,
): Promise<number[][]> {
  using list = Tensor.empty(model.device, 'int32', [SIZES.kvHeads, kept]);
  thinkRead(model.stream, list, null, state.kv.kv(layer), kept);
  const all = (await list.read(model.stream)) as Int32Array;
  return Array.from({ length: SIZES.kvHeads }, (_, head) => [
    ...all.subarray(head * kept, (head + 1) * kept),
  ]);
}

/** Keys and values of a plain layer, `[kvHeads, rows, headDim]`. */
async function rowsOf(
  { state, model }: Sequence,
  layer: number,
): Promise<{ k: Float32Array; v: Float32Array; rows: number }> {
  const rows = state.kv.rows(layer, 0);
  const shape = [SIZES.kvHeads, rows, SIZES.headDim];
  using k = Tensor.empty(model.device, 'float32', shape);
  using v = Tensor.empty(model.device, 'float32', shape);
  ops.kvRead(model.stream, k, v, null, state.kv.kv(layer));
  return {
    k: (await k.read(model.stream)) as Float32Array,
    v: (await v.read(model.stream)) as Float32Array,
    rows,
  };
}

/** Puts zeros into the channels that the first `pruned` keys of a plain layer are to lose. */
async function zero(
  sequence: Sequence,
  layer: number,
  channels: readonly (readonly number[])[],
  pruned: number,
): Promise<void> {
  const { kvHeads, headDim } = SIZES;
  const { k, v, rows } = await rowsOf(sequence, layer);
  const { kv } = sequence.state;
  const { device, stream } = sequence.model;
  const size = kvHeads * headDim;
  const tokenMajor = (data: Float32Array, whole: boolean): Float32Array =>
    Float32Array.from({ length: data.length }, (_, i) => {
      const [row, head, c] = [Math.floor(i / size), Math.floor(i / headDim) % kvHeads, i % headDim];
      const stays = whole || row >= pruned || channels[head]?.includes(c) === true;
      return stays ? (data[(head * rows + row) * headDim + c] ?? 0) : 0;
    });
  using keys = Tensor.from(device, tokenMajor(k, false), [rows, kvHeads, headDim]);
  using values = Tensor.from(device, tokenMajor(v, true), [rows, kvHeads, headDim]);
  using where = Tensor.from(
    device,
    Int32Array.from({ length: rows }, (_, i) => i),
    [rows],
  );
  kv.truncate(layer, 0);
  kv.reserve(layer, rows);
  ops.kvAppend(stream, kv.kv(layer), keys, values, where, Int32Array.of(rows));
}

/** A selector that evicts nothing and keeps the queries it is shown. */
function spy(seen: Map<number, Promise<Float32Array>>): SelectPart<'spy', 'observedWindow'> {
  const selector = (): Selector => ({
    idleRows: Infinity,
    prefillEnd: ({ layer, queries, stream }) => {
      if (queries === undefined) throw new Error('queries were asked for');
      seen.set(layer, queries.read(stream) as Promise<Float32Array>);
    },
    fork: selector,
    dispose: () => undefined,
  });
  return freezePart({
    id: 'spy',
    slot: 'select',
    needs: ['observedWindow'],
    provides: [],
    lossy: true,
    positions: 'original',
    evicts: 'prefillEnd',
    observe: 32,
    options: {},
    create: selector,
  } satisfies SelectPart<'spy', 'observedWindow'>);
}

describeDevices('ThinK inside the engine', (device) => {
  const withModel = async (body: (model: Model) => Promise<void>): Promise<void> => {
    using checkpoint = writeTinyCheckpoint(SIZES);
    using model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 64 << 20 });
    await body(model);
    expect(model.pool.usedBytes).toBe(0);
  };
  const prompt = (count: number, seed = 3): Int32Array => byteTokens(count, seed);

  it('chooses channels by the last queries of the prompt and all its keys', () =>
    withModel(async (model) => {
      const seen = new Map<number, Promise<Float32Array>>();
      using plain = model.sequence({ policy: compose(spy(seen)) });
      using sequence = model.sequence({ policy: compose(think()) });
      await plain.append(prompt(230));
      await sequence.append(prompt(230));
      const { heads, kvHeads, headDim } = SIZES;
      for (let layer = 0; layer < SIZES.layers; layer++) {
        const q = (await seen.get(layer)) ?? new Float32Array(0);
        const { k, rows } = await rowsOf(plain, layer);
        const matrix = (data: Float32Array, first: number, step: number, count: number): Matrix =>
          Array.from({ length: count }, (_, i) => [
            ...data.subarray(first + i * step, first + i * step + headDim),
          ]);
        const want = Array.from({ length: kvHeads }, (_, head) => {
          const group = [2 * head, 2 * head + 1].map((h) =>
            matrix(q, h * headDim, heads * headDim, 32),
          );
          const keys = matrix(k, head * rows * headDim, headDim, rows);
          return referenceChannels(referenceScores(group, keys, 'mean'), KEPT);
        });
        expect(await channelsOf(sequence, layer)).toEqual(want);
      }
    }));

  it('goes on as with zeros in the channels that old keys have lost', () =>
    withModel(async (model) => {
      using sequence = model.sequence({ policy: compose(think({ recent: 20 })), strict: true });
      using zeroed = model.sequence({ policy: full });
      using whole = model.sequence({ policy: full });
      for (const one of [sequence, zeroed, whole]) await one.append(prompt(150));
      // The prompt itself was read with whole keys.
      expectClose(await sequence.logits(), await whole.logits(), LOGITS, 'logits of the prompt');
      for (let layer = 0; layer < SIZES.layers; layer++) {
        expect(sequence.state.kv.encodedRows(layer, 1)).toEqual({ keys: 130, values: 0 });
        await zero(zeroed, layer, await channelsOf(sequence, layer), 130);
      }
      let apart = 0;
      for (const id of [3, 77, 200, 5, 9]) {
        for (const one of [sequence, zeroed, whole]) await one.append([id]);
        const got = await sequence.logits();
        expectClose(got, await zeroed.logits(), LOGITS, 'logits of a token');
        const exact = await whole.logits();
        apart = Math.max(apart, ...got.map((x, i) => Math.abs(x - (exact[i] ?? 0))));
      }
      // Pruning is not without effect.
      expect(apart).toBeGreaterThan(0.01);
      // A later turn of many tokens reads the same keys.
      for (const one of [sequence, zeroed]) await one.append(prompt(70, 8), { logits: 70 });
      expectClose(await sequence.logits(), await zeroed.logits(), LOGITS, 'logits of a later turn');
      expect(await draw(sequence, 20)).toEqual(await draw(zeroed, 20));
      // Nothing is pruned but the first prompt.
      expect(sequence.state.kv.encodedRows(0, 0).keys).toBe(130);
    }));

  it('changes nothing at a ratio of 0', () =>
    withModel(async (model) => {
      using sequence = model.sequence({ policy: compose(think({ ratio: 0, recent: 5 })) });
      using whole = model.sequence({ policy: full });
      const ids = [];
      for (const one of [sequence, whole]) {
        await one.append(prompt(100));
        const first = await draw(one, 12);
        await one.append(prompt(40, 6));
        ids.push([first, await draw(one, 12)]);
      }
      expect(ids[0]).toEqual(ids[1]);
      expect(sequence.state.kv.encodedRows(0, 0).keys).toBe(95);
    }));

  it('gives a fork the channels of its parent, and each its own later rows', () =>
    withModel(async (model) => {
      const policy = compose(
        snapkv({ budget: { tokens: 64 }, observe: 16 }),
        think({ recent: 16 }),
      );
      using parent = model.sequence({ policy });
      await parent.append(prompt(150));
      using fork = parent.fork();
      using twin = parent.fork();
      const first = await draw(fork, 30);
      await parent.append(prompt(20, 9));
      expect(await draw(twin, 30)).toEqual(first);
      expect(await channelsOf(fork, 1)).toEqual(await channelsOf(parent, 1));
    }));

  it('lets a fork of a sequence without a prompt choose its own', () =>
    withModel(async (model) => {
      using parent = model.sequence({ policy: compose(think({ recent: 8 })) });
      using fork = parent.fork();
      await fork.append(prompt(90, 4));
      await parent.append(prompt(60, 5));
      expect(fork.state.kv.encodedRows(0, 0).keys).toBe(82);
      expect(parent.state.kv.encodedRows(0, 0).keys).toBe(52);
      expect(await channelsOf(fork, 0)).not.toEqual(await channelsOf(parent, 0));
    }));

  it('decodes sequences with other ratios, and without any, side by side', () =>
    withModel(async (model) => {
      const select = snapkv({ budget: { tokens: 48 }, observe: 16 });
      const cases: SideBySide[] = [
        { policy: compose(think({ recent: 8 })), length: 150 },
        { policy: compose(think({ recent: 8 })), length: 5 },
        { policy: compose(think({ ratio: 0.6, recent: 8 })), length: 90 },
        { policy: full, length: 70 },
        { policy: compose(select, think({ recent: 8 })), length: 120 },
        { policy: compose(select), length: 120 },
      ];
      await expectSideBySide(model, cases, 25);
    }));

  describe('prunes what a selection has left', () => {
    const select = snapkv({ budget: { tokens: 80 }, observe: 16 });
    const part = think({ recent: 16 });
    it.each([
      { title: 'SnapKV', policy: compose(select, part) },
      { title: 'SnapKV and PyramidKV', policy: compose(select, pyramidkv(), part) },
      // CAKE's shares are settled after later layers have been read, when a layer's queries are gone.
      { title: 'SnapKV and CakeKV’s shares', policy: compose(select, cakeBudget(), part) },
    ])('by $title', ({ policy }) =>
      withModel(async (model) => {
        using sequence = model.sequence({ policy, strict: true });
        await sequence.append(prompt(300));
        const { layers, parts } = sequence.receipt();
        expect(parts.find(({ id }) => id === 'think')?.acted).toBe(SIZES.layers);
        for (const { rowsKept, encodedKeys, encodedValues } of layers) {
          expect(encodedKeys).toEqual(rowsKept.map((rows) => rows - 16));
          expect(encodedValues).toEqual([0, 0]);
        }
        expect(layers.reduce((sum, { rowsKept }) => sum + (rowsKept[0] ?? 0), 0)).toBe(160);
        await draw(sequence, 10);
        const kernels = Object.keys(sequence.receipt().kernels);
        expect(kernels.some((name) => name.startsWith('think_attention'))).toBe(true);
      }),
    );
  });

  it('takes at most 0.81 of the full cache at a ratio of 0.4, as the arithmetic says', () =>
    withModel(async (model) => {
      using sequence = model.sequence({ policy: compose(think()) });
      await sequence.append(prompt(4000));
      const { measuredBytes, arithmeticBytes, fullBytes } = sequence.receipt().kv;
      expect(measuredBytes / fullBytes).toBeLessThanOrEqual(0.81);
      expect(Math.abs(measuredBytes / arithmeticBytes - 1)).toBeLessThanOrEqual(0.05);
      expect(model.pool.usedBytes).toBe(measuredBytes);
    }));
});
