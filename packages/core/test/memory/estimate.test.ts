import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  appendBatch,
  compose,
  describeModel,
  estimateMemory,
  freezePart,
  full,
  generateBatch,
  loadModel,
  type Blueprint,
  type ModelSpec,
  type SelectPart,
} from '../../src/index.js';
import { ScratchArena } from '../../src/memory/arena.js';
import { heapBytes, poolBytes } from '../../src/memory/device.js';
import { decoderLayout } from '../../src/models/decoder.js';
import { oldest } from '../engine/parts.js';
import { missing, needleDir, shared, someTokens } from '../engine/support.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** meta-llama/Llama-3.1-8B. */
const spec: ModelSpec = {
  architecture: 'llama',
  name: '8B',
  layers: 32,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
  hiddenSize: 4096,
  intermediateSize: 14336,
  vocabSize: 128256,
  contextLength: 131072,
  eosTokenIds: [],
  ropeTheta: 500000,
  rope: { kind: 'default' },
  rotaryDim: 128,
  ropeInterleaved: false,
  normEps: 1e-5,
  attentionScale: 1 / Math.sqrt(128),
  tiedEmbeddings: false,
  dtype: 'bfloat16',
};
const llama: Blueprint = { spec, layout: decoderLayout() };
const cuda = { kind: 'cuda', isa: 'sm_00' } as const;

describe('the estimate for a model of 8 billion parameters', () => {
  it('has the weights and rows that everybody computes', () => {
    const { weights, kv, driver } = estimateMemory(llama, { tokens: 131072, decodeTokens: 0 });
    expect(weights).toBe(2 * 8_030_261_248);
    expect(kv).toEqual({
      peak: 16 * GIB,
      afterPrompt: 16 * GIB,
      afterDecode: 16 * GIB,
      perToken: 128 * 1024,
      tables: 0,
    });
    expect(driver).toBe(0);
  });

  it('counts tied embeddings once, and biases and norms where the family has them', () => {
    const tied = { ...llama, spec: { ...spec, tiedEmbeddings: true } };
    const matrix = 2 * 128256 * 4096;
    const bytes = (blueprint: Blueprint): number =>
      estimateMemory(blueprint, { tokens: 1 }).weights;
    expect(bytes(llama) - bytes(tied)).toBe(matrix);
    const biased = {
      spec,
      layout: decoderLayout((at) => ({ qBias: `${at}.b`, qNorm: `${at}.n` })),
    };
    expect(bytes(biased) - bytes(llama)).toBe(32 * 2 * (32 * 128 + 128));
  });

  it('on a GPU is made of whole blocks and chunks, and adds up', () => {
    const said = estimateMemory(llama, { tokens: 32000, batch: 3, target: cuda });
    const { weights, loading, kv, workspace, driver, total } = said;
    expect(driver).toBeUndefined();
    expect(loading).toBe(0);
    expect(kv.peak % (32 * MIB)).toBe(0);
    expect(weights % (2 * MIB)).toBe(0);
    expect(weights).toBeGreaterThan(2 * 8_030_261_248);
    const { tensors, temporary, scratch, idle } = workspace;
    expect(total).toBe(weights + kv.peak + kv.tables + tensors + temporary + scratch + idle);
  });

  it('needs less for prompts that are read one after the other', () => {
    const question = { tokens: 32768, batch: 8, target: cuda };
    const [one, all] = [false, true].map((together) =>
      estimateMemory(llama, { ...question, together }),
    );
    // Hidden states of all rows, and the table of their angles.
    const rows = 7 * 32768 * (2 * 4096 + 4 * 128 + 8);
    expect((all?.workspace.tensors ?? 0) - (one?.workspace.tensors ?? 0)).toBeCloseTo(rows, -7);
    expect(all?.kv).toEqual(one?.kv);
  });

  it('has the largest weight twice while one in another format is loaded', () => {
    const stored = (): { dtype: 'float32'; byteLength: number } => ({
      dtype: 'float32',
      byteLength: 4 * 128256 * 4096,
    });
    const { loading, weights, total } = estimateMemory(llama, {
      tokens: 1,
      decodeTokens: 0,
      chunkTokens: 1,
      target: cuda,
      stored,
    });
    expect(loading).toBe(4 * 128256 * 4096);
    expect(total).toBe(weights + loading);
  });

  it('never falls with more tokens, more sequences, or more decode steps', () => {
    const positive = fc.integer({ min: 1, max: 5000 });
    fc.assert(
      fc.property(positive, positive, fc.integer({ min: 1, max: 9 }), (tokens, more, batch) => {
        const of = (change: object): number =>
          estimateMemory(llama, { tokens, batch, target: cuda, ...change }).total;
        const base = of({});
        expect(of({ tokens: tokens + more })).toBeGreaterThanOrEqual(base);
        expect(of({ batch: batch + 1 })).toBeGreaterThan(base);
        expect(of({ decodeTokens: 256 + more })).toBeGreaterThanOrEqual(base);
      }),
      { numRuns: 30 },
    );
  });

  it.each([
    [{ tokens: 0 }, /tokens is 0/],
    [{ tokens: 1.5 }, /tokens is 1\.5/],
    [{ tokens: 1, batch: 0 }, /batch is 0/],
    [{ tokens: 1, chunkTokens: -1 }, /chunkTokens is -1/],
    [{ tokens: 1, decodeTokens: -1 }, /decodeTokens is -1/],
  ])('refuses %j', (question, message) => {
    expect(() => estimateMemory(llama, question)).toThrow(message);
  });

  it('says which part does not tell what it keeps', () => {
    const silent = freezePart({ ...oldest(10, 1), id: 'silent' }) as SelectPart<'silent', never>;
    expect(() => estimateMemory(llama, { tokens: 1, policy: compose(silent) })).toThrow(
      /silent \(slot select\) does not say how many rows it keeps/,
    );
  });
});

describe('device memory', () => {
  it('is that of the tensors on a CPU', () => {
    expect(heapBytes('cpu', [1, 1000, MIB])).toBe(MIB + 1001);
    expect(poolBytes('cpu', 12345)).toBe(12345);
  });

  it('comes in units of 2 MiB, small tensors in slabs of 8 MiB, pages in chunks of 32 MiB', () => {
    expect(heapBytes('cuda', [])).toBe(0);
    expect(heapBytes('cuda', [MIB])).toBe(2 * MIB);
    expect(heapBytes('cuda', [2 * MIB + 1, 3 * MIB])).toBe(8 * MIB);
    expect(heapBytes('cuda', [1, 300, MIB - 1])).toBe(8 * MIB);
    // Eight sizes per doubling: a block of 65537 bytes is one of 72 KiB.
    const blocks = Math.floor((8 * MIB) / (72 * 1024));
    expect(heapBytes('cuda', new Array<number>(blocks).fill(65537))).toBe(8 * MIB);
    expect(heapBytes('cuda', new Array<number>(blocks + 1).fill(65537))).toBe(16 * MIB);
    expect(poolBytes('cuda', 32 * MIB + 1)).toBe(64 * MIB);
  });

  it('for scratch is one block in the end, and what proved too small before', () => {
    const arena = new ScratchArena();
    arena.op([1000, 2000]);
    expect([arena.bytes, arena.idle]).toEqual([4 * MIB, 0]);
    arena.op([3 * MIB, 3 * MIB]); // the second piece takes a block of its own
    expect([arena.bytes, arena.idle]).toEqual([0, 8 * MIB]);
    arena.op([3 * MIB, 3 * MIB]); // one block with a quarter to spare; 7.5 MiB in whole units
    expect([arena.bytes, arena.idle]).toEqual([8 * MIB, 8 * MIB]);
    arena.op([7 * MIB]);
    expect([arena.bytes, arena.idle]).toEqual([8 * MIB, 8 * MIB]);
  });
});

const models = missing === false ? readdirSync(join(shared, 'golden/models')) : [];
const checkpoints = models.filter((name) => !name.includes('.'));

describe.skipIf(missing !== false)('the estimate for a tiny checkpoint', () => {
  it.each(checkpoints)('%s is what it takes', async (name) => {
    const path = join(shared, 'golden/models', name);
    const { blueprint, parameters, files } = await describeModel(path);
    const question = { tokens: 100, batch: 2, decodeTokens: 5, chunkTokens: 64 };
    const said = estimateMemory(blueprint, { ...question, dtype: 'float32' });
    expect(said.weights).toBe(4 * parameters);
    if (files.formats.has('F32')) expect(files.bytes).toBe(4 * parameters);
    using model = await loadModel(path, { chunkTokens: 64, dtype: 'float32' });
    const sequences = [0, 1].map(() => model.sequence({ policy: full }));
    await appendBatch(
      sequences.map((sequence, i) => ({
        sequence,
        tokens: someTokens(100, model.spec.vocabSize, i + 1),
      })),
    );
    expect(model.pool.usedBytes).toBe(said.kv.afterPrompt);
    for await (const _ of generateBatch(sequences, { maxTokens: 6, ignoreEos: true }));
    expect(model.pool.usedBytes).toBe(said.kv.afterDecode);
    expect(model.pool.peakBytes).toBe(said.kv.peak);
    expect(model.runtime.workspace.bytes).toBe(said.workspace.tensors);
    for (const sequence of sequences) sequence.dispose();
  });
});

describe('a description', () => {
  it('of the embedded model', async () => {
    const { blueprint, parameters, files, tokenizer, stored } = await describeModel(needleDir);
    expect(blueprint.spec.layers).toBe(8);
    expect(parameters).toBe(6_951_168);
    expect(files).toEqual({
      format: 'safetensors',
      count: 1,
      bytes: 2 * parameters,
      formats: new Map([['BF16', 2 * parameters]]),
    });
    expect(tokenizer).toEqual({
      vocabSize: 4096,
      hasChatTemplate: false,
      stops: [{ id: 1, text: '<|end_of_text|>' }],
    });
    expect(stored(blueprint.layout.embed)?.dtype).toBe('bfloat16');
    expect(stored('no such tensor')).toBeUndefined();
  });
});
