import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  appendBatch,
  compose,
  full,
  generateBatch,
  loadModel,
  type Model,
  type Sequence,
} from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { counting, talliesOf } from './parts.js';
import { largestDifference, needleDir, someTokens } from './support.js';

const fromPrompt = { kind: 'attention', reduce: 'mean', of: 'stream' } as const;
const policy = compose(
  counting([
    fromPrompt,
    { kind: 'attention', reduce: 'sum', of: 'steps' },
    { kind: 'lastAttention', reduce: 'mean' },
    { kind: 'own' },
    { kind: 'attention', reduce: 'mean', of: 'prompts' },
  ]),
);

const total = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0);

async function draw(sequence: Sequence, count: number): Promise<void> {
  for await (const _ of sequence.generate({ maxTokens: count, ignoreEos: true })) continue;
}

describeDevices('tallies', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needleDir, { device, dtype: 'float32' });
  });
  afterAll(() => {
    model.dispose();
  });
  const tokens = (count: number, seed: number) => someTokens(count, model.spec.vocabSize, seed);

  test('every query gives away 1 in all, in prompts, steps and later turns', async () => {
    using sequence = model.sequence({ policy });
    await sequence.append(tokens(150, 1));
    await draw(sequence, 6); // the last token drawn has not gone through the model
    await sequence.append(tokens(30, 2));
    await draw(sequence, 3);
    const rows = sequence.view().rows(0, 0);
    const steps = 5 + 2;
    const group = model.spec.heads / model.spec.kvHeads;
    for (const layer of [0, 3, 7]) {
      for (const values of await talliesOf(sequence, layer, 0)) {
        expect(values).toHaveLength(rows);
        expect(total(values)).toBeCloseTo(rows, 2);
      }
      for (const values of await talliesOf(sequence, layer, 1))
        expect(total(values)).toBeCloseTo(steps * group, 3);
      for (const values of await talliesOf(sequence, layer, 2))
        expect(total(values)).toBeCloseTo(1, 4);
      for (const values of await talliesOf(sequence, layer, 3)) expect(total(values)).toBe(0);
      for (const values of await talliesOf(sequence, layer, 4))
        expect(total(values)).toBeCloseTo(rows - steps, 2);
    }
  });

  test('do not depend on the chunks of a prompt, nor on whether tokens come one by one', async () => {
    const prompt = tokens(90, 3);
    const run = async (chunkTokens: number, turns: number[]): Promise<Float32Array[][]> => {
      using own = await loadModel(needleDir, { device, dtype: 'float32', chunkTokens });
      using sequence = own.sequence({ policy });
      let from = 0;
      for (const to of turns) {
        await sequence.append(prompt.subarray(from, to));
        from = to;
      }
      return await Promise.all([0, 7].map((layer) => talliesOf(sequence, layer, 0)));
    };
    const whole = await run(512, [90]);
    for (const [chunk, turns] of [
      [7, [90]],
      [64, [90]],
      [512, [1, 2, 50, 90]],
    ] as const) {
      const other = await run(chunk, [...turns]);
      for (const [layer, heads] of whole.entries())
        for (const [head, values] of heads.entries())
          expect(largestDifference(values, other[layer]?.[head] ?? [])).toBeLessThan(1e-4);
    }
  });

  test('max and first reduce over the query heads of the whole prompt', async () => {
    const own = compose(
      counting([
        { kind: 'attention', reduce: 'max', of: 'stream' },
        { kind: 'attention', reduce: 'first', of: 'stream' },
        fromPrompt,
      ]),
    );
    using small = await loadModel(needleDir, { device, dtype: 'float32', chunkTokens: 16 });
    using sequence = small.sequence({ policy: own });
    await sequence.append(tokens(70, 4));
    const [max = [], first = [], mean = []] = await Promise.all(
      [0, 1, 2].map((which) => talliesOf(sequence, 2, which)),
    );
    for (const head of max.keys()) {
      expect(total(first[head] as Float32Array)).toBeCloseTo(70, 2);
      for (const [row, value] of (max[head] as Float32Array).entries()) {
        // Of two query heads the larger is twice the mean less the smaller.
        const other = 2 * (mean[head]?.[row] ?? 0) - value;
        expect(other).toBeLessThanOrEqual(value + 1e-5);
        const one = first[head]?.[row] ?? 0;
        expect(Math.min(Math.abs(one - value), Math.abs(one - other))).toBeLessThan(1e-4);
      }
    }
  });

  test('are the same in a batch of other policies as alone', async () => {
    const policies = [full, policy, compose(counting([fromPrompt])), policy];
    const prompts = [40, 64, 33, 90].map((length, i) => tokens(length, 10 + i));
    const alone: (Float32Array[] | undefined)[] = [];
    for (const [i, own] of policies.entries()) {
      using sequence = model.sequence({ policy: own });
      await sequence.append(prompts[i] ?? []);
      await draw(sequence, 5);
      alone.push(own === full ? undefined : await talliesOf(sequence, 4, 0));
    }
    const sequences = policies.map((own) => model.sequence({ policy: own }));
    await appendBatch(sequences.map((sequence, i) => ({ sequence, tokens: prompts[i] ?? [] })));
    for await (const _ of generateBatch(sequences, { maxTokens: 5, ignoreEos: true })) continue;
    for (const [i, sequence] of sequences.entries()) {
      const want = alone[i];
      if (want === undefined) continue;
      for (const [head, values] of (await talliesOf(sequence, 4, 0)).entries())
        expect(largestDifference(values, want[head] ?? [])).toBeLessThan(1e-4);
    }
    for (const sequence of sequences) sequence.dispose();
    expect(model.pool.usedBytes).toBe(0);
  });

  test('of a fork and its parent are their own', async () => {
    using parent = model.sequence({ policy });
    await parent.append(tokens(60, 5));
    await draw(parent, 2);
    const before = await talliesOf(parent, 1, 0);
    using fork = parent.fork();
    await draw(fork, 8);
    expect(await talliesOf(parent, 1, 0)).toEqual(before);
    await draw(parent, 8);
    const after = await talliesOf(parent, 1, 0);
    expect(await talliesOf(fork, 1, 0)).toEqual(after);
  });

  test('go back when a turn fails', async () => {
    using sequence = model.sequence({ policy });
    await sequence.append(tokens(50, 6));
    const before = await talliesOf(sequence, 0, 0);
    const controller = new AbortController();
    const aborted = sequence.append(tokens(40, 7), {
      signal: controller.signal,
      onProgress: () => {
        controller.abort();
      },
    });
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ACCEL_ABORTED' });
    expect(await talliesOf(sequence, 0, 0)).toEqual(before);
  });
});
