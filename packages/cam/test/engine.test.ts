import {
  compose,
  generateBatch,
  loadModel,
  type Model,
  type Policy,
  type SelectPart,
  type Sequence,
} from '@accel/core';
import { h2o } from '@accel/h2o';
import { snapkv } from '@accel/snapkv';
import { ops, Tensor } from '@accel/kernels';
import { streamingllm } from '@accel/streamingllm';
import { describeDevices, generated, writeTinyCheckpoint } from '@accel/testkit';
import { expect, it } from 'vitest';
import { cam, type CamOptions } from '../src/index.js';

const PROMPT = 120;
const LAYERS = 2;

describeDevices('CaM inside the engine', (device) => {
  const withModel = async (body: (model: Model) => Promise<void>): Promise<void> => {
    using checkpoint = writeTinyCheckpoint({ layers: LAYERS });
    using model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 32 << 20 });
    await body(model);
    expect(model.pool.usedBytes).toBe(0);
  };
  const prompt = (count = PROMPT, seed = 3): Int32Array =>
    Int32Array.from(generated(seed, count), (x) => Math.floor((x + 1) * 127));
  const window = (): SelectPart => streamingllm({ sink: 3, recent: 37 });
  const merging = (options: CamOptions = {}, select: SelectPart = window()): Policy =>
    compose(select, cam(options));

  /** Ids drawn, logits after the last and all values of the cache. */
  const run = async (sequence: Sequence, steps = 60): Promise<unknown[]> => {
    const ids: number[] = [];
    for await (const { id } of sequence.generate({ maxTokens: steps, ignoreEos: true }))
      ids.push(id);
    return [ids, await sequence.logits(), await valuesOf(sequence)];
  };
  const valuesOf = async ({ model, state }: Sequence): Promise<Float32Array[]> => {
    const { kvHeads, headDim } = model.spec;
    const all: Float32Array[] = [];
    for (let layer = 0; layer < LAYERS; layer++) {
      const rows = state.kv.rows(layer, 0);
      using values = Tensor.empty(model.device, 'float32', [kvHeads, rows, headDim]);
      ops.kvRead(model.stream, null, values, null, state.kv.kv(layer));
      all.push((await values.read(model.stream)) as Float32Array);
    }
    return all;
  };
  const fresh = async (model: Model, policy: Policy, steps?: number): Promise<unknown[]> => {
    using sequence = model.sequence({ policy, strict: true });
    await sequence.append(prompt());
    return await run(sequence, steps);
  };

  it('with the gate shut is its selection alone, to the bit', () =>
    withModel(async (model) => {
      for (const select of [window(), h2o({ budget: { tokens: 40 } })]) {
        const alone = await fresh(model, compose(select));
        expect(await fresh(model, merging({ gate: 'never' }, select))).toEqual(alone);
        expect(await fresh(model, merging({ gate: 'always' }, select))).not.toEqual(alone);
      }
    }));

  it('repeats itself for a seed, and another seed gives other gates', () =>
    withModel(async (model) => {
      const first = await fresh(model, merging({ seed: 7 }));
      expect(await fresh(model, merging({ seed: 7 }))).toEqual(first);
      expect(await fresh(model, merging({ seed: 8 }))).not.toEqual(first);
    }));

  it('leaves the values of a fork’s parent alone', () =>
    withModel(async (model) => {
      using parent = model.sequence({ policy: merging({ gate: 'always' }) });
      await parent.append(prompt());
      await run(parent, 20);
      const before = await valuesOf(parent);
      using fork = parent.fork();
      const first = await run(fork, 40);
      expect(await valuesOf(parent)).toEqual(before);
      expect(await run(parent, 40)).toEqual(first);
    }));

  it('decodes a batch with neighbours of other policies as each alone', () =>
    withModel(async (model) => {
      const policies = [
        merging({ seed: 1 }),
        compose(window()),
        merging({ seed: 2 }),
        merging({ seed: 2 }, h2o({ budget: { tokens: 40 } })),
      ];
      const draw = async (together: boolean): Promise<number[][]> => {
        const sequences = policies.map((policy) => model.sequence({ policy }));
        try {
          for (const [i, sequence] of sequences.entries()) await sequence.append(prompt(60 + i, i));
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
          return ids;
        } finally {
          for (const sequence of sequences) sequence.dispose();
        }
      };
      expect(await draw(true)).toEqual(await draw(false));
    }));

  it('goes on merging in a later turn, and says so in the receipt', () =>
    withModel(async (model) => {
      using sequence = model.sequence({ policy: merging(), strict: true });
      await sequence.append(prompt());
      await run(sequence, 10);
      const acted = (): number =>
        sequence.receipt().parts.find(({ id }) => id === 'cam')?.acted ?? 0;
      // One row of each layer for each token that went into the full cache.
      expect(acted()).toBe(9 * LAYERS);
      await sequence.append(prompt(30, 8));
      expect(acted()).toBe(9 * LAYERS);
      await run(sequence, 6);
      expect(acted()).toBe(14 * LAYERS);
    }));

  it('is noticed by strict mode when no row ever leaves by itself', () =>
    withModel(async (model) => {
      using sequence = model.sequence({
        policy: merging({}, snapkv({ budget: { tokens: 40 }, observe: 8 })),
        strict: true,
      });
      await sequence.append(prompt());
      await run(sequence, 5);
      // Noticed when the next turn has been read.
      await expect(sequence.append(prompt(4))).rejects.toMatchObject({ code: 'ERR_ACCEL_STRICT' });
    }));

  it('on the prompt changes what decoding reads, and not the first token', () =>
    withModel(async (model) => {
      const select = snapkv({ budget: { tokens: 40 }, observe: 8, pool: { size: 1 } });
      const smearing = (options: CamOptions): Policy =>
        merging({ at: 'prompt', observe: 8, ...options }, select);
      const outcome = async (policy: Policy): Promise<[Float32Array, unknown]> => {
        using sequence = model.sequence({ policy, strict: true });
        await sequence.append(prompt());
        return [await sequence.logits(), await valuesOf(sequence)];
      };
      const [logits, values] = await outcome(compose(select));
      const smeared = await outcome(smearing({}));
      expect(smeared[0]).toEqual(logits);
      expect(smeared[1]).not.toEqual(values);
      expect(await outcome(smearing({ gate: 'never' }))).toEqual([logits, values]);
      // Prompts of fewer tokens than the budget are left alone.
      using short = model.sequence({ policy: smearing({ minPrompt: PROMPT + 1 }) });
      await short.append(prompt());
      expect(await valuesOf(short)).toEqual(values);
    }));
});
