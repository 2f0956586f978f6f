import {
  compose,
  freezePart,
  generateBatch,
  loadModel,
  type Allocator,
  type BudgetPart,
  type Model,
  type Policy,
} from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { describeDevices, generated, writeTinyCheckpoint } from '@accel/testkit';
import { expect, it } from 'vitest';
import { h2o } from '../src/index.js';

/** Gives layer l a fixed number of rows. */
function fixed(rows: readonly number[]): BudgetPart<'fixed', never> {
  const allocator = (): Allocator => ({
    prefillEnd: ({ layer }) => ({ rows: rows[layer] ?? 0 }),
    fork: allocator,
    dispose: () => undefined,
  });
  return freezePart({
    id: 'fixed',
    slot: 'budget',
    needs: [],
    provides: [],
    lossy: true,
    options: { rows },
    create: allocator,
  } satisfies BudgetPart<'fixed', never>);
}

describeDevices('H2O inside the engine', (device) => {
  const withModel = async (body: (model: Model) => Promise<void>): Promise<void> => {
    using checkpoint = writeTinyCheckpoint();
    using model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 32 << 20 });
    await body(model);
    expect(model.pool.usedBytes).toBe(0);
  };
  const prompt = (count: number, seed = 3): Int32Array =>
    Int32Array.from(generated(seed, count), (x) => Math.floor((x + 1) * 127));
  const policy = (tokens = 40): Policy => compose(h2o({ budget: { tokens }, recent: 12 }));

  it('keeps, in the first layer, the rows with the largest column sums of the whole prompt', () =>
    withModel(async (model) => {
      // Without eviction the tallies of the first layer are those that H2O decides on.
      using whole = model.sequence({ policy: policy(1000) });
      using cut = model.sequence({ policy: policy() });
      const ids = prompt(230);
      await whole.append(ids);
      await cut.append(ids);
      const { kvHeads } = model.spec;
      using tallies = Tensor.empty(model.device, 'float32', [kvHeads, 230]);
      ops.tallyRead(model.stream, tallies, whole.state.kv.kv(0), 0);
      const scores = (await tallies.read(model.stream)) as Float32Array;
      for (let head = 0; head < kvHeads; head++) {
        const of = scores.subarray(head * 230, (head + 1) * 230);
        expect(of.reduce((a, b) => a + b, 0)).toBeCloseTo(230, 2);
        const best = Array.from({ length: 218 }, (_, row) => row)
          .sort((a, b) => (of[b] ?? 0) - (of[a] ?? 0) || a - b)
          .slice(0, 28)
          .sort((a, b) => a - b);
        const recent = Array.from({ length: 12 }, (_, i) => 218 + i);
        expect([...(await cut.view().positions(0, head))]).toEqual([...best, ...recent]);
      }
    }));

  it('gives a fork its own scores, and the parent keeps its rows', () =>
    withModel(async (model) => {
      using parent = model.sequence({ policy: policy() });
      await parent.append(prompt(100));
      for await (const _ of parent.generate({ maxTokens: 5, ignoreEos: true }));
      const rows = async (sequence: typeof parent): Promise<number[][]> => {
        const all: number[][] = [];
        for (let layer = 0; layer < 2; layer++) {
          for (let head = 0; head < 2; head++)
            all.push([...(await sequence.view().positions(layer, head))]);
        }
        return all;
      };
      const before = await rows(parent);
      const drawn = async (sequence: typeof parent): Promise<number[]> => {
        const ids: number[] = [];
        for await (const { id } of sequence.generate({ maxTokens: 30, ignoreEos: true }))
          ids.push(id);
        return ids;
      };
      using fork = parent.fork();
      const first = await drawn(fork);
      expect(await rows(parent)).toEqual(before);
      expect(await drawn(parent)).toEqual(first);
      expect(await rows(parent)).toEqual(await rows(fork));
    }));

  it('decodes a batch of streams of different lengths as each alone', () =>
    withModel(async (model) => {
      const lengths = [20, 39, 40, 150];
      const run = async (together: boolean): Promise<number[][]> => {
        const sequences = lengths.map(() => model.sequence({ policy: policy() }));
        try {
          for (const [i, sequence] of sequences.entries())
            await sequence.append(prompt(lengths[i] ?? 1, i + 9));
          const ids: number[][] = sequences.map(() => []);
          const options = { maxTokens: 40, ignoreEos: true };
          if (together) {
            for await (const { sequence, id } of generateBatch(sequences, options))
              ids[sequence]?.push(id);
          } else {
            for (const [i, sequence] of sequences.entries()) {
              for await (const { id } of sequence.generate(options)) ids[i]?.push(id);
            }
          }
          const rows = sequences.map((sequence) => sequence.view().rows(1, 1));
          expect(rows).toEqual([40, 40, 40, 40]);
          return ids;
        } finally {
          for (const sequence of sequences) sequence.dispose();
        }
      };
      expect(await run(true)).toEqual(await run(false));
    }));

  it('lets a budget part share out rows over layers, and holds them while decoding', () =>
    withModel(async (model) => {
      using sequence = model.sequence({
        policy: compose(fixed([50, 30]), h2o({ budget: { tokens: 40 }, recent: 12 })),
        strict: true,
      });
      const rows = (): number[] => [0, 1].map((layer) => sequence.view().rows(layer, 1));
      await sequence.append(prompt(200));
      expect(rows()).toEqual([50, 30]);
      for await (const _ of sequence.generate({ maxTokens: 60, ignoreEos: true }));
      expect(rows()).toEqual([50, 30]);
      await sequence.append(prompt(70, 5));
      expect(rows()).toEqual([50, 30]);
    }));

  it('takes a share of the first prompt and holds it through later turns', () =>
    withModel(async (model) => {
      using sequence = model.sequence({ policy: compose(h2o({ budget: { keep: 0.2 } })) });
      await sequence.append(prompt(99));
      expect(sequence.view().rows(0, 0)).toBe(19);
      await sequence.append(prompt(50));
      expect(sequence.view().rows(0, 0)).toBe(19);
    }));
});
