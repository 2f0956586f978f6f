import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cakeBudget, cakekv, method as cakekvMethod } from '@accel/cakekv';
import { cam, method as camMethod } from '@accel/cam';
import { compose, loadModel, type Model, type Policy, type Sequence } from '@accel/core';
import { h2o, method as h2oMethod } from '@accel/h2o';
import { kivi, method as kiviMethod } from '@accel/kivi';
import { l2compress, method as l2compressMethod } from '@accel/l2compress';
import { method as pyramidkvMethod, pyramidkv } from '@accel/pyramidkv';
import { method as snapkvMethod, snapkv } from '@accel/snapkv';
import { method as streamingllmMethod, streamingllm } from '@accel/streamingllm';
import { method as thinkMethod, think } from '@accel/think';
import { describeDevices, writeTinyCheckpoint, type TinyCheckpoint } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';

// What every method remembers between turns is in the file, so that a sequence goes on as if it had never been away.

const methods = [
  cakekvMethod,
  camMethod,
  h2oMethod,
  kiviMethod,
  l2compressMethod,
  pyramidkvMethod,
  snapkvMethod,
  streamingllmMethod,
  thinkMethod,
];
const budget = { tokens: 48 };
/** Becomes a number with the first prompt, and must be that number afterwards. */
const share = { keep: 0.3 };
const merging = cam({ gate: 'always', targets: 4 });

const policies: Readonly<Record<string, Policy>> = {
  SnapKV: compose(snapkv({ budget, observe: 8 })),
  'SnapKV in every turn': compose(snapkv({ budget: share, observe: 8, turns: 'every' })),
  H2O: compose(h2o({ budget, recent: 16 })),
  'H2O with a share': compose(h2o({ budget: share })),
  'H2O after the prompt': compose(h2o({ budget: share, evicts: 'prefillEnd' })),
  L2Compress: compose(l2compress({ budget })),
  'L2Compress after every token': compose(l2compress({ budget, evicts: 'everyStep' })),
  StreamingLLM: compose(streamingllm({ sink: 4, budget })),
  'StreamingLLM with a share': compose(streamingllm({ sink: 2, budget: share })),
  'StreamingLLM at original positions': compose(
    streamingllm({ budget: share, positions: 'original' }),
  ),
  'StreamingLLM, banded': compose(streamingllm({ budget, prefill: 'banded' })),
  'StreamingLLM before turns': compose(streamingllm({ budget: share, trim: 'turn' })),
  'SnapKV + PyramidKV': compose(
    snapkv({ budget, observe: 8, turns: 'every' }),
    pyramidkv({ beta: 10 }),
  ),
  'H2O + PyramidKV': compose(h2o({ budget, recent: 16 }), pyramidkv({ beta: 10 })),
  CakeKV: compose(...cakekv({ budget, observe: 8 })),
  'CakeKV with a share, in the order of the original': compose(
    ...cakekv({ budget: share, observe: 8, decodeOrder: 'reference' }),
  ),
  'SnapKV + CakeKV': compose(
    snapkv({ budget, observe: 8, turns: 'every' }),
    cakeBudget({ observe: 8 }),
  ),
  'H2O + CakeKV': compose(h2o({ budget, recent: 16 }), cakeBudget({ observe: 8 })),
  'StreamingLLM + CaM': compose(streamingllm({ sink: 4, budget }), merging),
  'H2O + PyramidKV + CaM': compose(h2o({ budget, recent: 16 }), pyramidkv(), merging),
  'CakeKV + CaM, drawn': compose(...cakekv({ budget, observe: 8 }), cam({ seed: 3 })),
  'SnapKV + CaM on the prompt': compose(
    snapkv({ budget, observe: 8 }),
    cam({ at: 'prompt', observe: 8 }),
  ),
  KIVI: compose(kivi({ group: 16, residual: 16 })),
  ThinK: compose(think({ recent: 8 })),
  'SnapKV + ThinK + KIVI': compose(
    snapkv({ budget, observe: 8 }),
    think({ recent: 8 }),
    kivi({ bits: 2, group: 16, residual: 16 }),
  ),
  'H2O + KIVI': compose(
    h2o({ budget, recent: 16, evicts: 'prefillEnd' }),
    kivi({ group: 16, residual: 16 }),
  ),
};

const tokens = (count: number, step: number): Int32Array =>
  Int32Array.from({ length: count }, (_, i) => (i * step + (i % 11) * 5) % 256);

async function draw(sequence: Sequence, maxTokens: number): Promise<number[]> {
  const ids: number[] = [];
  for await (const { id } of sequence.generate({ maxTokens, ignoreEos: true })) ids.push(id);
  return ids;
}

describeDevices('a saved sequence', (device) => {
  let checkpoint: TinyCheckpoint;
  let model: Model;
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'accel-saved-methods-'));
    // L2Compress leaves the first two layers alone.
    checkpoint = writeTinyCheckpoint({ layers: 4 });
    model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 64 << 20 });
  });
  afterAll(() => {
    expect(model.pool.usedBytes).toBe(0);
    model.dispose();
    checkpoint.dispose();
    rmSync(folder, { recursive: true });
  });

  /** Positions of the rows of all layers and heads. */
  async function rowsOf(sequence: Sequence): Promise<Int32Array[]> {
    const { layers, kvHeads } = model.spec;
    return await Promise.all(
      Array.from({ length: layers * kvHeads }, (_, i) =>
        sequence.view().positions(Math.floor(i / kvHeads), i % kvHeads),
      ),
    );
  }

  it.each(Object.entries(policies))('of %s goes on as it would have', async (_, policy) => {
    const path = join(folder, 'sequence');
    using sequence = model.sequence({ policy });
    await sequence.append(tokens(160, 37));
    await draw(sequence, 24);
    await sequence.save(path);
    using given = await model.restore(path, { policy });
    using made = await model.restore(path, { methods });
    expect(made.policy.toJSON()).toEqual(policy.toJSON());
    for (const restored of [given, made]) {
      expect(restored.receipt().parts).toEqual(sequence.receipt().parts);
      expect(await rowsOf(restored)).toEqual(await rowsOf(sequence));
    }
    const future = async (one: Sequence): Promise<unknown> => {
      const first = await draw(one, 12);
      await one.append(tokens(70, 41));
      const logits = await one.logits();
      return { first, logits, second: await draw(one, 12), rows: await rowsOf(one) };
    };
    const want = await future(sequence);
    expect(await future(given)).toEqual(want);
    expect(await future(made)).toEqual(want);
  });
});
