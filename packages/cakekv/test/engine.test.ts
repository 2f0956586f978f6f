import {
  compose,
  generateBatch,
  appendBatch,
  loadModel,
  type Model,
  type Sequence,
} from '@accel/core';
import { snapkv } from '@accel/snapkv';
import {
  describeDevices,
  generated,
  writeTinyCheckpoint,
  type TinyCheckpoint,
} from '@accel/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cakeBudget, cakekv, type CakekvOptions } from '../src/index.js';
import { referencePool } from '../src/reference.js';
import { cascadeOf, probe } from './probe.js';

const [LAYERS, WINDOW, CAPACITY, TOKENS] = [6, 16, 64, 400];
const OPTIONS = { budget: { tokens: CAPACITY }, observe: WINDOW, gamma: 50 } as const;

const tokens = (count: number, seed: number): Int32Array =>
  Int32Array.from(generated(seed, count), (x) => Math.floor((x + 1) * 127));
const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);

async function draw(sequence: Sequence, count: number): Promise<number[]> {
  const ids: number[] = [];
  for await (const { id } of sequence.generate({ maxTokens: count, ignoreEos: true })) ids.push(id);
  return ids;
}

/** Rows of every layer; all heads of a layer have equally many. */
function rowsOf(sequence: Sequence): number[] {
  return Array.from({ length: sequence.model.spec.layers }, (_, layer) => {
    const heads = Array.from({ length: sequence.model.spec.kvHeads }, (_, head) =>
      sequence.view().rows(layer, head),
    );
    expect(new Set(heads).size).toBe(1);
    return heads[0] ?? 0;
  });
}

async function positionsOf(sequence: Sequence): Promise<number[][][]> {
  const { layers, kvHeads } = sequence.model.spec;
  const all: number[][][] = [];
  for (let layer = 0; layer < layers; layer++) {
    const heads: number[][] = [];
    for (let head = 0; head < kvHeads; head++)
      heads.push([...(await sequence.view().positions(layer, head))]);
    all.push(heads);
  }
  return all;
}

describeDevices('CakeKV inside the engine', (device) => {
  let checkpoint: TinyCheckpoint;
  let model: Model;
  beforeAll(async () => {
    checkpoint = writeTinyCheckpoint({ layers: LAYERS, contextLength: 32768 });
    // Chunks, so that the window begins in the chunk before the last.
    const options = { device, dtype: 'float32', kvBytes: 32 << 20, chunkTokens: 131 } as const;
    model = await loadModel(checkpoint.path, options);
  });
  afterAll(() => {
    model.dispose();
    checkpoint.dispose();
  });
  const sequenceWith = (options: CakekvOptions = {}): Sequence =>
    model.sequence({ policy: compose(...cakekv({ ...OPTIONS, ...options })), strict: true });

  describe('the cascade', () => {
    it.each([
      { title: 'equal temperatures', taus: { tau1: 1, tau2: 1 }, seed: 5 },
      { title: 'Llama 3.1’s temperatures', taus: { tau1: 1.6, tau2: 0.4 }, seed: 25 },
    ])('keeps what the arithmetic says, in every layer: $title', async ({ taus, seed }) => {
      const ids = tokens(TOKENS, seed);
      const want = cascadeOf(await probe(model, ids, { window: WINDOW }), {
        capacity: CAPACITY,
        window: WINDOW,
        ...taus,
      });
      // Else rounding decides.
      expect(want.margin).toBeGreaterThan(1e-3);
      using sequence = sequenceWith(taus);
      await sequence.append(ids);
      const receipt = sequence.receipt();
      expect(receipt.layers.map(({ rowsKept }) => rowsKept)).toEqual(
        want.rows.map((rows) => [rows, rows]),
      );
      expect(rowsOf(sequence)).toEqual(want.rows);
      // Layers really differ, nothing is lost beyond what does not divide, and nothing is given away twice.
      expect(new Set(want.rows).size).toBeGreaterThan(2);
      expect(sum(want.rows)).toBeLessThanOrEqual(LAYERS * CAPACITY);
      expect(sum(want.rows)).toBeGreaterThan(LAYERS * (CAPACITY - 1));

      // While decoding a layer fills up to its share, then one row leaves at every token.
      await draw(sequence, 41);
      expect(rowsOf(sequence)).toEqual(want.decode);
      expect(sequence.receipt().parts.map(({ id, acted }) => [id, acted > 0])).toEqual([
        ['cakekv', true],
        ['cakekv', true],
      ]);
    });

    it('keeps the best rows of the first layer', async () => {
      const ids = tokens(TOKENS, 6);
      const [first] = await probe(model, ids, { window: WINDOW, gamma: OPTIONS.gamma });
      using sequence = sequenceWith();
      await sequence.append(ids);
      const [rows = 0] = rowsOf(sequence);
      for (const [head, positions] of ((await positionsOf(sequence))[0] ?? []).entries()) {
        const past = first?.indicator.subarray(head * TOKENS, (head + 1) * TOKENS - WINDOW) ?? [];
        const pooled = referencePool(past, 5);
        const best = [...pooled.keys()].sort(
          (a, b) => (pooled[b] ?? 0) - (pooled[a] ?? 0) || a - b,
        );
        const want = best.slice(0, rows - WINDOW).sort((a, b) => a - b);
        expect(positions.slice(0, -WINDOW)).toEqual(want);
        expect(positions.slice(-WINDOW)).toEqual(
          Array.from({ length: WINDOW }, (_, i) => TOKENS - WINDOW + i),
        );
      }
    });

    it('bounds the cache during the prompt: to the budget and two layers', async () => {
      const ids = tokens(3000, 7);
      model.pool.resetPeak();
      using sequence = sequenceWith();
      await sequence.append(ids);
      const cascading = model.pool.peakBytes;
      model.pool.resetPeak();
      using once = sequenceWith({ cascading: false });
      await once.append(ids);
      const [before, after] = [cascading, model.pool.peakBytes - sequence.view().bytes().measured];
      expect(before).toBeLessThan((after * 3) / LAYERS);
    });

    it('without one, allocates once, and ends at most a row away', async () => {
      const ids = tokens(TOKENS, 8);
      using cascading = sequenceWith();
      using once = sequenceWith({ cascading: false });
      await cascading.append(ids);
      await once.append(ids);
      for (const [layer, rows] of rowsOf(once).entries())
        expect(Math.abs(rows - (rowsOf(cascading)[layer] ?? 0))).toBeLessThanOrEqual(1);
      expect(sum(rowsOf(once))).toBe(LAYERS * CAPACITY);
    });
  });

  it('is SnapKV with means when no layer is preferred and variance has no weight', async () => {
    const ids = tokens(TOKENS, 9);
    const snap = snapkv({ budget: { tokens: CAPACITY }, observe: WINDOW });
    using plain = model.sequence({ policy: compose(snap) });
    using cake = sequenceWith({ gamma: 0, tau1: 1e12, tau2: 1e12 });
    await plain.append(ids);
    await cake.append(ids);
    expect(await positionsOf(cake)).toEqual(await positionsOf(plain));
  });

  it('gives its budgets to another selector, which keeps its own best rows', async () => {
    const ids = tokens(TOKENS, 10);
    const want = cascadeOf(await probe(model, ids, { window: WINDOW }), {
      capacity: CAPACITY,
      window: WINDOW,
    });
    const snap = snapkv({ budget: { tokens: CAPACITY }, observe: WINDOW });
    const policy = compose(snap, cakeBudget({ observe: WINDOW }));
    using sequence = model.sequence({ policy, strict: true });
    await sequence.append(ids);
    expect(rowsOf(sequence)).toEqual(want.rows);
    using plain = model.sequence({ policy: compose(snap) });
    await plain.append(ids);
    for (const [layer, heads] of (await positionsOf(plain)).entries()) {
      for (const [head, positions] of heads.entries()) {
        const shared = [...(await sequence.view().positions(layer, head))];
        const [less, more] =
          shared.length < positions.length ? [shared, positions] : [positions, shared];
        expect(more).toEqual(expect.arrayContaining(less));
      }
    }
    await draw(sequence, 9);
    expect(rowsOf(sequence)).toEqual(want.rows.map((rows) => rows + 8));
  });

  describe('later turns', () => {
    it('are cut to the shares of the first prompt, by what their own queries attend to', async () => {
      using sequence = sequenceWith();
      await sequence.append(tokens(TOKENS, 11));
      await draw(sequence, 50);
      const shares = rowsOf(sequence);
      await sequence.append(tokens(150, 12));
      expect(rowsOf(sequence)).toEqual(shares);
      const positions = await positionsOf(sequence);
      for (const heads of positions) {
        for (const head of heads) {
          const newest = Array.from({ length: WINDOW }, (_, i) => TOKENS + 50 + 150 - WINDOW + i);
          expect(head.slice(-WINDOW)).toEqual(newest);
        }
      }
      expect(positions.flat(2).some((position) => position >= TOKENS + 50)).toBe(true);
      // One token, and the one drawn last: fewer queries than the window.
      await sequence.append([7]);
      expect(rowsOf(sequence)).toEqual(shares);
      await draw(sequence, 5);
      expect(rowsOf(sequence)).toEqual(shares);
    });

    it('begin to share equally when the first prompt fits', async () => {
      using sequence = sequenceWith();
      await sequence.append(tokens(CAPACITY + WINDOW, 13));
      expect(rowsOf(sequence)).toEqual(new Array<number>(LAYERS).fill(CAPACITY + WINDOW));
      await draw(sequence, 2);
      expect(rowsOf(sequence)).toEqual(new Array<number>(LAYERS).fill(CAPACITY));
      await sequence.append(tokens(TOKENS, 14));
      expect(rowsOf(sequence)).toEqual(new Array<number>(LAYERS).fill(CAPACITY));
    });

    it('find a share of the prompt never below the window and one row', async () => {
      for (const [count, kept] of [
        [5, 5],
        [WINDOW + 1, WINDOW + 1],
        [2 * WINDOW + 1, 2 * WINDOW + 1],
        [100, WINDOW + 1],
      ] as const) {
        using sequence = sequenceWith({ budget: { keep: 0.1 }, tau1: 1e12, tau2: 1e12 });
        await sequence.append(tokens(count, 15));
        expect(rowsOf(sequence)).toEqual(new Array<number>(LAYERS).fill(kept));
      }
    });
  });

  describe('sharing', () => {
    it.each(['positional', 'reference'] as const)(
      'a fork and its parent go on as one would have alone: %s order',
      async (decodeOrder) => {
        const begin = async (): Promise<Sequence> => {
          const sequence = sequenceWith({ decodeOrder });
          await sequence.append(tokens(TOKENS, 16));
          await draw(sequence, 20);
          return sequence;
        };
        using alone = await begin();
        const ids = await draw(alone, 30);
        const want = await positionsOf(alone);
        using parent = await begin();
        using fork = parent.fork();
        using other = parent.fork();
        await other.append(tokens(120, 17));
        await draw(other, 10);
        expect(await draw(fork, 30)).toEqual(ids);
        expect(await draw(parent, 30)).toEqual(ids);
        expect(await positionsOf(fork)).toEqual(want);
        expect(await positionsOf(parent)).toEqual(want);
      },
    );

    it('a batch gives each sequence what it gets alone', async () => {
      const prompts = [tokens(TOKENS, 18), tokens(70, 19), tokens(222, 20)];
      const alone: { ids: number[]; positions: number[][][] }[] = [];
      for (const prompt of prompts) {
        using sequence = sequenceWith();
        await sequence.append(prompt);
        const ids = await draw(sequence, 24);
        alone.push({ ids, positions: await positionsOf(sequence) });
      }
      const sequences = prompts.map(() => sequenceWith());
      try {
        await appendBatch(sequences.map((sequence, i) => ({ sequence, tokens: prompts[i] ?? [] })));
        const ids = prompts.map((): number[] => []);
        for await (const { sequence, id } of generateBatch(sequences, {
          maxTokens: 24,
          ignoreEos: true,
        }))
          ids[sequence]?.push(id);
        for (const [i, sequence] of sequences.entries()) {
          expect(ids[i]).toEqual(alone[i]?.ids);
          expect(await positionsOf(sequence)).toEqual(alone[i]?.positions);
        }
      } finally {
        for (const sequence of sequences) sequence.dispose();
      }
    });
  });
});
