import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ropeFrequencies } from '../../src/config/rope.js';
import type { ModelSpec } from '../../src/config/spec.js';
import { readGguf } from '../../src/gguf/open.js';
import { loadModel } from '../../src/index.js';
import { bindWeights } from '../../src/models/bind.js';
import { expectFailure } from '../shared.js';
import { folder } from '../weights/build.js';
import { ggufBytes, type GgufTensor, type GgufValue } from './writer.js';

const HIDDEN = 16;

/** Metadata of a tiny model. */
function metadata(arch: string): Record<string, GgufValue> {
  return {
    'general.architecture': { text: arch },
    [`${arch}.block_count`]: { u32: 2 },
    [`${arch}.context_length`]: { u32: 64 },
    [`${arch}.embedding_length`]: { u32: HIDDEN },
    [`${arch}.feed_forward_length`]: { u32: 12 },
    [`${arch}.attention.head_count`]: { u32: 2 },
    [`${arch}.attention.head_count_kv`]: { u32: 1 },
    [`${arch}.attention.layer_norm_rms_epsilon`]: { f32: 0.5 },
  };
}

function float(name: string, shape: readonly number[]): GgufTensor {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return { name, type: 0, shape, data: new Uint8Array(new Float32Array(size).fill(1).buffer) };
}

/** Tensors of a tiny Llama. */
function tensors(): GgufTensor[] {
  const layers = [0, 1].flatMap((layer) => {
    const at = `blk.${String(layer)}`;
    return [
      float(`${at}.attn_norm.weight`, [HIDDEN]),
      float(`${at}.attn_q.weight`, [HIDDEN, HIDDEN]),
      float(`${at}.attn_k.weight`, [8, HIDDEN]),
      float(`${at}.attn_v.weight`, [8, HIDDEN]),
      float(`${at}.attn_output.weight`, [HIDDEN, HIDDEN]),
      float(`${at}.ffn_norm.weight`, [HIDDEN]),
      float(`${at}.ffn_gate.weight`, [12, HIDDEN]),
      float(`${at}.ffn_up.weight`, [12, HIDDEN]),
      float(`${at}.ffn_down.weight`, [HIDDEN, 12]),
    ];
  });
  return [
    float('token_embd.weight', [10, HIDDEN]),
    float('output_norm.weight', [HIDDEN]),
    float('output.weight', [10, HIDDEN]),
    ...layers,
  ];
}

interface Changes {
  readonly values?: Record<string, GgufValue>;
  readonly tensors?: readonly GgufTensor[];
  readonly arch?: string;
}

/** Opens a file and binds its weights. */
function open({ values = {}, tensors: given = tensors(), arch = 'llama' }: Changes): ModelSpec {
  const bytes = ggufBytes({ metadata: { ...metadata(arch), ...values }, tensors: given });
  using dir = folder({ 'tiny.gguf': bytes });
  const { blueprint, weights } = readGguf(join(dir.path, 'tiny.gguf'));
  using source = weights;
  const bound = bindWeights(source, blueprint);
  for (const { data } of [bound.embed, bound.norm, bound.lmHead]) data.dispose();
  for (const layer of bound.layers) {
    for (const { data } of Object.values(layer) as { data: Disposable }[]) data[Symbol.dispose]();
  }
  return blueprint.spec;
}

const without = (name: string): GgufTensor[] => tensors().filter((tensor) => tensor.name !== name);

describe('what a file says about its model', () => {
  test('sizes, and what llama.cpp takes where it says nothing', () => {
    expect(open({})).toEqual({
      architecture: 'llama',
      name: 'tiny',
      layers: 2,
      heads: 2,
      kvHeads: 1,
      headDim: 8,
      hiddenSize: HIDDEN,
      intermediateSize: 12,
      vocabSize: 10,
      contextLength: 64,
      eosTokenIds: [],
      ropeTheta: 10_000,
      rope: { kind: 'default' },
      rotaryDim: 8,
      ropeInterleaved: true,
      normEps: 0.5,
      attentionScale: 1 / Math.sqrt(8),
      tiedEmbeddings: false,
      dtype: 'float32',
    });
  });

  test('a missing output matrix means tied embeddings', () => {
    expect(open({ tensors: without('output.weight') }).tiedEmbeddings).toBe(true);
  });

  test('name, scale, window, lists of equal numbers', () => {
    const spec = open({
      values: {
        'general.name': { text: 'A model' },
        'llama.attention.scale': { f32: 0.125 },
        'llama.attention.sliding_window': { u32: 16 },
        'llama.attention.head_count': { i32s: [2, 2] },
      },
    });
    expect(spec).toMatchObject({
      name: 'A model',
      attentionScale: 0.125,
      slidingWindow: { tokens: 16, fromLayer: 0 },
      heads: 2,
    });
  });

  test('linear and YaRN scaling', () => {
    const scaled = (type: string, more: Record<string, GgufValue> = {}): ModelSpec =>
      open({
        values: {
          'llama.rope.scaling.type': { text: type },
          'llama.rope.scaling.factor': { f32: 4 },
          ...more,
        },
      });
    expect(scaled('none').rope).toEqual({ kind: 'default' });
    expect(scaled('linear')).toMatchObject({
      rope: { kind: 'linear', factor: 4 },
      contextLength: 256,
    });
    const original = { 'llama.rope.scaling.original_context_length': { u32: 32 } };
    const yarn = {
      kind: 'yarn',
      factor: 4,
      originalContext: 32,
      betaFast: 32,
      betaSlow: 1,
      attentionFactor: 0.1 * Math.log(4) + 1,
      truncate: true,
    };
    expect(scaled('yarn', original)).toMatchObject({ rope: yarn, contextLength: 128 });
    const factor = { ...original, 'llama.rope.scaling.yarn_attn_factor': { f32: 0.5 } };
    expect(scaled('yarn', factor).rope).toEqual({ ...yarn, attentionFactor: 0.5 });
  });

  test('divisors of the frequencies, times a linear factor', () => {
    const factors = [...tensors(), float('rope_freqs.weight', [4])];
    expect(open({ tensors: factors }).rope).toEqual({ kind: 'factors', factors: [1, 1, 1, 1] });
    const frequencies = ropeFrequencies(
      { rope: { kind: 'factors', factors: [1, 2, 4] }, ropeTheta: 1000, rotaryDim: 6 },
      9,
    );
    expect(frequencies.scale).toBe(1);
    expect([...frequencies.invFreq]).toEqual([1, 1000 ** (-2 / 6) / 2, 1000 ** (-4 / 6) / 4]);
    const values = { 'llama.rope.scaling.factor': { f32: 2 } };
    expect(open({ tensors: factors, values }).rope).toEqual({
      kind: 'factors',
      factors: [2, 2, 2, 2],
    });
  });
});

describe('biases', () => {
  const bias = (layer: number): GgufTensor[] => [
    float(`blk.${String(layer)}.attn_q.bias`, [HIDDEN]),
    float(`blk.${String(layer)}.attn_k.bias`, [8]),
    float(`blk.${String(layer)}.attn_v.bias`, [8]),
    float(`blk.${String(layer)}.attn_output.bias`, [HIDDEN]),
  ];

  test('are added where the file has them', () => {
    open({ tensors: [...tensors(), ...bias(0), ...bias(1)] });
  });

  test('of some layers only are an error', async () => {
    await expectFailure(
      () => open({ tensors: [...tensors(), ...bias(0)] }),
      'ERR_ACCEL_WEIGHTS',
      'blk.1.attn_q.bias is missing',
    );
    await expectFailure(
      () => open({ tensors: [...tensors(), ...bias(1)] }),
      'ERR_ACCEL_WEIGHTS',
      'blk.1.attn_q.bias',
      'does not use',
    );
  });

  test('that the forward pass does not have are an error', async () => {
    const extra = float('blk.0.ffn_up.bias', [12]);
    await expectFailure(
      () => open({ tensors: [...tensors(), extra] }),
      'ERR_ACCEL_WEIGHTS',
      'blk.0.ffn_up.bias',
    );
  });
});

describe('what cannot be run is named', () => {
  const cases: [string, Changes, string, RegExp][] = [
    ['an architecture', { arch: 'gpt-oss' }, 'ARCHITECTURE', /gpt-oss.*llama, qwen2, qwen3/],
    ['experts', { values: { 'llama.expert_count': { u32: 8 } } }, 'CONFIG', /expert_count is 8/],
    [
      'a head that is not even',
      { values: { 'llama.attention.key_length': { u32: 3 } } },
      'CONFIG',
      /key_length is 3/,
    ],
    [
      'layers that differ',
      { values: { 'llama.attention.head_count_kv': { i32s: [1, 2] } } },
      'CONFIG',
      /head_count_kv differs from layer to layer/,
    ],
    [
      'heads that do not divide',
      { values: { 'llama.attention.head_count_kv': { u32: 4 } } },
      'CONFIG',
      /must divide/,
    ],
    [
      'no layers',
      { values: { 'llama.block_count': { u32: 0 } } },
      'CONFIG',
      /block_count is 0; it must be a whole number from 1 to 4096/,
    ],
    [
      'billions of layers',
      { values: { 'llama.block_count': { u32: 4_000_000_000 } } },
      'CONFIG',
      /from 1 to 4096/,
    ],
    [
      'a text for a number',
      { values: { 'llama.embedding_length': { text: '8' } } },
      'CONFIG',
      /embedding_length must be a number, not a string/,
    ],
    [
      'LongRoPE',
      { values: { 'llama.rope.scaling.type': { text: 'longrope' } } },
      'CONFIG',
      /"longrope"; supported are none, linear and yarn/,
    ],
    [
      'a pattern of windows',
      {
        values: {
          'llama.attention.sliding_window': { u32: 16 },
          'llama.attention.sliding_window_pattern': { u32: 6 },
        },
      },
      'CONFIG',
      /sliding_window_pattern/,
    ],
    [
      'an embedding model',
      { values: { 'llama.attention.causal': { bool: false } } },
      'CONFIG',
      /only decoders/,
    ],
    [
      'frequencies for another head',
      { tensors: [...tensors(), float('rope_freqs.weight', [3])] },
      'CONFIG',
      /rope_freqs.weight has 3 values/,
    ],
    ['a vocabulary alone', { tensors: [] }, 'WEIGHTS', /no matrix token_embd.weight/],
    [
      'a missing tensor',
      { tensors: without('blk.1.ffn_up.weight') },
      'WEIGHTS',
      /blk.1.ffn_up.weight is missing/,
    ],
    [
      'a tensor of another shape',
      { values: { 'llama.feed_forward_length': { u32: 13 } } },
      'WEIGHTS',
      /ffn_gate.weight has shape \[12, 16\].*\[13, 16\]/,
    ],
  ];
  test.each(cases)('%s', async (_, changes, code, words) => {
    await expectFailure(() => open(changes), `ERR_ACCEL_${code}` as 'ERR_ACCEL_CONFIG', words);
  });

  test('a missing key', async () => {
    const values = metadata('llama');
    const rest = Object.fromEntries(
      Object.entries(values).filter(([key]) => key !== 'llama.feed_forward_length'),
    );
    using dir = folder({ 'a.gguf': ggufBytes({ metadata: rest, tensors: tensors() }) });
    await expectFailure(
      () => readGguf(join(dir.path, 'a.gguf')),
      'ERR_ACCEL_CONFIG',
      'llama.feed_forward_length is missing',
    );
  });
});

describe('a split model', () => {
  const part = (no: number, count: number, given: readonly GgufTensor[]): Buffer =>
    ggufBytes({
      metadata: {
        ...(no === 0 && metadata('llama')),
        'split.no': { u32: no },
        'split.count': { u32: count },
      },
      tensors: given,
    });
  const half = 12;
  const files = {
    'm-00001-of-00002.gguf': part(0, 2, tensors().slice(0, half)),
    'm-00002-of-00002.gguf': part(1, 2, tensors().slice(half)),
  };
  const kvBytes = 1 << 20;

  test('is opened by any of its parts', async () => {
    using dir = folder(files);
    for (const name of Object.keys(files)) {
      using model = await loadModel(join(dir.path, name), { kvBytes });
      using sequence = model.sequence();
      await sequence.append([1, 2, 3]);
      expect((await sequence.logits()).every((value) => Number.isFinite(value))).toBe(true);
    }
  });

  test('needs all of them, under their own names', async () => {
    const first = files['m-00001-of-00002.gguf'];
    const open = async (given: Record<string, Uint8Array>, name: string): Promise<void> => {
      using dir = folder(given);
      using _ = await loadModel(join(dir.path, name), { kvBytes });
    };
    await expectFailure(
      () => open({ 'm-00001-of-00002.gguf': first }, 'm-00001-of-00002.gguf'),
      'ERR_ACCEL_FILE',
      'm-00002-of-00002.gguf is not there',
    );
    await expectFailure(
      () => open({ 'model.gguf': first }, 'model.gguf'),
      'ERR_ACCEL_WEIGHTS',
      'part 1 of 2 of a model by its metadata, and 1 of 1 by its name',
    );
    await expectFailure(
      () =>
        open(
          { 'm-00001-of-00002.gguf': first, 'm-00002-of-00002.gguf': first },
          'm-00001-of-00002.gguf',
        ),
      'ERR_ACCEL_WEIGHTS',
      'part 1 of 2',
    );
  });
});

test('paths that are no GGUF file', async () => {
  using dir = folder({ 'a.gguf': 'GGUF', 'b.gguf': '' });
  await expectFailure(() => loadModel(join(dir.path, 'none.gguf')), 'ERR_ACCEL_FILE', 'none.gguf');
  await expectFailure(() => loadModel(join(dir.path, 'a.gguf')), 'ERR_ACCEL_WEIGHTS', 'a.gguf');
  await expectFailure(() => loadModel(dir.path), 'ERR_ACCEL_FILE', 'a.gguf, b.gguf', 'one of them');
});
