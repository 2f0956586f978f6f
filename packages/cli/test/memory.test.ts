import {
  appendBatch,
  compose,
  estimateMemory,
  full,
  generateBatch,
  loadModel,
  readModelConfig,
  type Blueprint,
  type Policy,
} from '@accel/core';
import { cakeBudget, cakekv } from '@accel/cakekv';
import { cam } from '@accel/cam';
import { flexprefill } from '@accel/flexprefill';
import { h2o } from '@accel/h2o';
import { kivi } from '@accel/kivi';
import { l2compress } from '@accel/l2compress';
import { pyramidkv } from '@accel/pyramidkv';
import { snapkv } from '@accel/snapkv';
import { streamingllm } from '@accel/streamingllm';
import {
  byteTokens,
  describeDevices,
  writeTinyCheckpoint,
  type TinyCheckpoint,
} from '@accel/testkit';
import { think } from '@accel/think';
import { xattention } from '@accel/xattention';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

// Whether what @accel/core says about memory beforehand is what its pool and its workspace take, for every method. Budgets are
// small enough that rows leave.

const tokens = (count: number) => ({ budget: { tokens: count } });
/** Policies whose caches depend on lengths alone: every number must be exact. */
const exact: Readonly<Record<string, Policy>> = {
  full,
  snapkv: compose(snapkv(tokens(300))),
  'snapkv, a share, every turn': compose(snapkv({ budget: { keep: 0.3 }, turns: 'every' })),
  h2o: compose(h2o(tokens(200))),
  'h2o, a share': compose(h2o({ budget: { keep: 0.2 }, recent: 3 })),
  'h2o, once': compose(h2o({ ...tokens(200), evicts: 'prefillEnd' })),
  streamingllm: compose(streamingllm(tokens(150))),
  'streamingllm, banded': compose(streamingllm({ sink: 4, recent: 90, prefill: 'banded' })),
  'streamingllm, once': compose(
    streamingllm({ sink: 20, recent: 333, positions: 'original', trim: 'prompt' }),
  ),
  'streamingllm, before turns': compose(streamingllm({ ...tokens(150), trim: 'turn' })),
  l2compress: compose(l2compress(tokens(100))),
  'l2compress, every step': compose(
    l2compress({ ...tokens(100), evicts: 'everyStep', skipLayers: [1], sink: 2, recent: 7 }),
  ),
  'l2compress, long prompts': compose(l2compress({ budget: { keep: 0.5 }, pruneAfter: 1000 })),
  'snapkv, pyramidkv': compose(snapkv({ ...tokens(300), observe: 8 }), pyramidkv()),
  'snapkv, pyramidkv as first published': compose(
    snapkv({ ...tokens(120), observe: 8 }),
    pyramidkv({ mode: 'reference', beta: 5 }),
  ),
  'h2o, pyramidkv': compose(h2o(tokens(200)), pyramidkv({ beta: 3 })),
  'l2compress, pyramidkv': compose(l2compress(tokens(200)), pyramidkv()),
  'streamingllm, cam': compose(streamingllm({ sink: 1, recent: 255 }), cam()),
  'snapkv, cam on the prompt': compose(snapkv(tokens(300)), cam({ at: 'prompt' })),
  think: compose(think()),
  'snapkv, think': compose(snapkv(tokens(300)), think({ ratio: 0.6 })),
  kivi: compose(kivi({ bits: 2, residual: 64 })),
  'kivi, think': compose(kivi({ keyBits: 8, valueBits: 4 }), think()),
  'snapkv, pyramidkv, kivi': compose(snapkv(tokens(300)), pyramidkv(), kivi({ residual: 32 })),
  flexprefill: compose(flexprefill({ minBudget: 256 })),
  xattention: compose(xattention({ dense: 0 })),
  'xattention, snapkv, kivi': compose(xattention(), snapkv(tokens(300)), kivi()),
};
/** Policies that give layers what the prompt calls for: a few percent. */
const close: Readonly<Record<string, Policy>> = {
  cakekv: compose(...cakekv(tokens(300))),
  'cakekv, at the end': compose(...cakekv({ ...tokens(300), cascading: false })),
  'snapkv, cakekv': compose(snapkv(tokens(300)), cakeBudget()),
  'h2o, cakekv': compose(h2o(tokens(400)), cakeBudget()),
  'snapkv, cakekv, kivi': compose(snapkv(tokens(790)), cakeBudget(), kivi({ residual: 32 })),
};

const CHUNK = 512;
let checkpoint: TinyCheckpoint;
let blueprint: Blueprint;
beforeAll(async () => {
  checkpoint = writeTinyCheckpoint({ layers: 5, headDim: 32, contextLength: 1 << 14 });
  blueprint = await readModelConfig(checkpoint.path);
});
afterAll(() => checkpoint.dispose());

interface Run {
  readonly tokens: number;
  readonly batch: number;
  readonly decodeTokens: number;
  readonly together?: boolean;
}

/** Shapes of runs: shorter than any budget, in one chunk, in several, more sequences, one after the other. */
const runs: readonly Run[] = [
  { tokens: 29, batch: 1, decodeTokens: 30 },
  { tokens: 509, batch: 1, decodeTokens: 3 },
  { tokens: 1843, batch: 1, decodeTokens: 40 },
  { tokens: 1100, batch: 3, decodeTokens: 0 },
  { tokens: 1100, batch: 2, decodeTokens: 18, together: false },
];

/** What a run takes, and what was said about it: pages and tensors, before a GPU rounds them. */
async function measure(device: string, policy: Policy, run: Run) {
  const { tokens: count, batch, decodeTokens, together = true } = run;
  const said = estimateMemory(blueprint, { ...run, policy, chunkTokens: CHUNK });
  using model = await loadModel(checkpoint.path, { device, chunkTokens: CHUNK });
  const sequences = Array.from({ length: batch }, () => model.sequence({ policy }));
  const items = sequences.map((sequence, i) => ({ sequence, tokens: byteTokens(count, i) }));
  if (together) await appendBatch(items);
  else for (const item of items) await appendBatch([item]);
  const afterPrompt = model.pool.usedBytes;
  if (decodeTokens > 0) {
    // The last token that is drawn does not go through the model.
    const options = { maxTokens: decodeTokens + 1, ignoreEos: true };
    for await (const _ of generateBatch(sequences, options));
  }
  const taken = {
    afterPrompt,
    afterDecode: model.pool.usedBytes,
    peak: model.pool.peakBytes,
    tensors: model.runtime.workspace.bytes,
  };
  for (const sequence of sequences) sequence.dispose();
  return { taken, said: { ...said.kv, tensors: said.workspace.tensors } };
}

describeDevices('the estimate', (device) => {
  describe.each(Object.entries(exact))('for %s', (_, policy) => {
    it.each(runs)('is what $batch × $tokens tokens take, then $decodeTokens', async (run) => {
      const { taken, said } = await measure(device, policy, run);
      expect(said).toMatchObject(taken);
    });
  });

  describe.each(Object.entries(close))('for %s', (_, policy) => {
    it.each(runs)('is near what $batch × $tokens tokens take, then $decodeTokens', async (run) => {
      const { taken, said } = await measure(device, policy, run);
      expect(said.tensors).toBe(taken.tensors);
      for (const key of ['afterPrompt', 'afterDecode', 'peak'] as const) {
        expect(said[key] / taken[key], key).toBeGreaterThan(0.95);
        expect(said[key] / taken[key], key).toBeLessThan(1.05);
      }
    });
  });
});

describe('growth', () => {
  const question = { tokens: 1000, batch: 1, chunkTokens: CHUNK };
  const grows = (policy: Policy): number =>
    estimateMemory(blueprint, { ...question, policy }).kv.perToken;
  const row = 5 * 2 * 2 * 32 * 4; // layers, heads, keys and values, channels, bytes

  it('of a whole cache is a row a token', () => {
    expect(grows(full)).toBe(row);
  });

  it('of a cache of fixed size is none', () => {
    expect(grows(compose(streamingllm(tokens(150))))).toBe(0);
    expect(grows(compose(h2o(tokens(150))))).toBe(0);
  });

  it('of packed rows is that of their codes', () => {
    // 2 bits a number, and 4 bytes for 32 of them.
    expect(grows(compose(kivi({ bits: 2 })))).toBeCloseTo((row * (2 + 1)) / 32, -1);
  });
});
