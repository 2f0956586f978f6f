import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readModelConfig } from '../../src/config/model-config.js';
import type { ModelSpec } from '../../src/config/spec.js';
import { expectFailure, missing, shared } from '../shared.js';
import { folder } from '../weights/build.js';

const base = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  vocab_size: 100,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
};

async function parse(changes: object = {}, generation?: unknown): Promise<ModelSpec> {
  using dir = folder({
    'config.json': JSON.stringify({ ...base, ...changes }),
    ...(generation !== undefined && { 'generation_config.json': JSON.stringify(generation) }),
  });
  return (await readModelConfig(dir.path)).spec;
}

describe('a Llama config', () => {
  test('with only what is needed gets the defaults of transformers', async () => {
    expect(await parse()).toMatchObject({
      architecture: 'llama',
      layers: 2,
      heads: 4,
      kvHeads: 4,
      headDim: 16,
      hiddenSize: 64,
      intermediateSize: 128,
      vocabSize: 100,
      contextLength: 2048,
      eosTokenIds: [],
      ropeTheta: 10_000,
      rope: { kind: 'default' },
      rotaryDim: 16,
      normEps: 1e-5,
      attentionScale: 0.25,
      tiedEmbeddings: false,
      dtype: 'float32',
    });
  });

  test('ids come from both files', async () => {
    const spec = await parse(
      { eos_token_id: 7, bos_token_id: null },
      { eos_token_id: [8, 7], bos_token_id: 3 },
    );
    expect(spec.eosTokenIds).toEqual([7, 8]);
    expect(spec.bosTokenId).toBe(3);
    expect((await parse({ eos_token_id: [1, 2] }, {})).eosTokenIds).toEqual([1, 2]);
  });

  test('unknown keys do not matter', async () => {
    expect((await parse({ pretraining_tp: 1, quantum: { x: [] }, head_dim: null })).headDim).toBe(
      16,
    );
  });

  test('both spellings of rotary settings and dtype', async () => {
    const old = await parse({
      rope_theta: 5e5,
      rope_scaling: { type: 'linear', factor: 4 },
      torch_dtype: 'bfloat16',
    });
    const now = await parse({
      rope_parameters: { rope_type: 'linear', factor: 4, rope_theta: 5e5 },
      dtype: 'bfloat16',
    });
    expect(now).toEqual({ ...old, name: now.name });
    expect(old).toMatchObject({
      ropeTheta: 5e5,
      rope: { kind: 'linear', factor: 4 },
      contextLength: 8192,
      dtype: 'bfloat16',
    });
  });

  test('each kind of rotary scaling', async () => {
    const llama3 = {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 512,
    };
    expect((await parse({ rope_scaling: llama3 })).rope).toEqual({
      kind: 'llama3',
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContext: 512,
    });
    const dynamic = await parse({ rope_scaling: { type: 'dynamic', factor: 2 } });
    expect(dynamic.rope).toEqual({ kind: 'dynamic', factor: 2, originalContext: 2048 });
    expect(dynamic.contextLength).toBeGreaterThan(1e9);
    const yarn = await parse({
      rope_scaling: { type: 'yarn', factor: 4, original_max_position_embeddings: 2048 },
    });
    expect(yarn.contextLength).toBe(8192);
    expect(yarn.rope).toMatchObject({ kind: 'yarn', betaFast: 32, betaSlow: 1, truncate: true });
    expect((await parse({ rope_scaling: null })).rope).toEqual({ kind: 'default' });
  });

  test('the name is what the checkpoint calls itself, else the folder', async () => {
    expect((await parse({ _name_or_path: 'meta-llama/Llama-3.1-8B' })).name).toBe(
      'meta-llama/Llama-3.1-8B',
    );
    expect((await parse({ _name_or_path: '/home/someone/x' })).name).toMatch(/^accel-core-/);
  });

  test.skipIf(missing)('of every golden Llama checkpoint', async () => {
    const read = async (name: string): Promise<ModelSpec> =>
      (await readModelConfig(join(shared, 'golden/models', name))).spec;
    expect(await read('llama-llama3rope')).toMatchObject({
      kvHeads: 2,
      headDim: 16,
      ropeTheta: 5e5,
      dtype: 'bfloat16',
      rope: { kind: 'llama3' },
    });
    expect(await read('llama-tied')).toMatchObject({
      tiedEmbeddings: true,
      ropeTheta: 1e5,
      kvHeads: 4,
    });
    expect(await read('llama-dynamic')).toMatchObject({
      ropeTheta: 1e4,
      dtype: 'bfloat16',
      rope: { kind: 'dynamic', factor: 4, originalContext: 32 },
    });
    expect(await read('llama-linear')).toMatchObject({
      kvHeads: 1,
      rope: { kind: 'linear', factor: 4 },
    });
  });
});

describe('a config that cannot be used names the key', () => {
  const cases: [string, object, RegExp][] = [
    ['missing', { hidden_size: undefined }, /hidden_size: .*expected number/],
    ['of the wrong type', { num_hidden_layers: '2' }, /num_hidden_layers/],
    ['zero', { vocab_size: 0 }, /vocab_size/],
    ['a fraction', { intermediate_size: 1.5 }, /intermediate_size/],
    ['absurdly many layers', { num_hidden_layers: 1e9 }, /num_hidden_layers/],
    ['negative epsilon', { rms_norm_eps: -1 }, /rms_norm_eps/],
    [
      'kv heads that do not divide',
      { num_key_value_heads: 3 },
      /num_key_value_heads \(3\) must divide/,
    ],
    ['odd head size', { head_dim: 15 }, /head_dim is 15/],
    [
      'heads that do not divide the hidden size',
      { num_attention_heads: 3 },
      /hidden_size \/ num_attention_heads/,
    ],
    ['another activation', { hidden_act: 'gelu' }, /hidden_act is "gelu"/],
    ['biases in the MLP', { mlp_bias: true }, /mlp_bias is true/],
    [
      'weights that are quantised',
      { quantization_config: { quant_method: 'gptq', bits: 4 } },
      /quantised \(gptq\).*GGUF/,
    ],
    ['fp8 weights', { quantization_config: { quant_method: 'fp8' } }, /quantised \(fp8\)/],
    ['quantised in no known way', { quantization_config: 4 }, /unnamed method/],
    ['partial rotation', { partial_rotary_factor: 0.5 }, /partial_rotary_factor/],
    ['unknown dtype', { torch_dtype: 'int8' }, /torch_dtype is "int8"/],
    [
      'unknown rotary scaling',
      { rope_scaling: { type: 'longrope' } },
      /rope_scaling.rope_type is "longrope"; supported/,
    ],
    [
      'scaling without its factor',
      { rope_scaling: { rope_type: 'linear' } },
      /rope_scaling.factor is missing/,
    ],
    ['factor below 1', { rope_scaling: { type: 'linear', factor: 0.5 } }, /rope_scaling.factor/],
    [
      'llama3 without its context',
      { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 } },
      /original_max_position_embeddings is missing/,
    ],
    [
      'llama3 bands upside down',
      {
        rope_scaling: {
          rope_type: 'llama3',
          factor: 8,
          low_freq_factor: 4,
          high_freq_factor: 4,
          original_max_position_embeddings: 64,
        },
      },
      /must be above/,
    ],
    ['rotary settings that are no object', { rope_scaling: 'linear' }, /rope_scaling/],
    ['negative id', { eos_token_id: [-1] }, /eos_token_id/],
  ];
  test.each(cases)('%s', async (_, changes, words) => {
    await expectFailure(() => parse(changes), 'ERR_ACCEL_CONFIG', words, 'config.json');
  });

  test('in generation_config.json too', async () => {
    await expectFailure(
      () => parse({}, { eos_token_id: 'x' }),
      'ERR_ACCEL_CONFIG',
      'generation_config.json',
      'eos_token_id',
    );
  });

  test('or is not JSON, or missing', async () => {
    using broken = folder({ 'config.json': '{"a":' });
    await expectFailure(() => readModelConfig(broken.path), 'ERR_ACCEL_CONFIG', 'not valid JSON');
    using list = folder({ 'config.json': '[]' });
    await expectFailure(() => readModelConfig(list.path), 'ERR_ACCEL_CONFIG', 'JSON object');
    using empty = folder({});
    await expectFailure(() => readModelConfig(empty.path), 'ERR_ACCEL_FILE', 'There is no');
  });
});

test('an unknown architecture lists the known ones', async () => {
  await expectFailure(
    () => parse({ architectures: ['MambaForCausalLM'] }),
    'ERR_ACCEL_ARCHITECTURE',
    'MambaForCausalLM',
    'Supported: LlamaForCausalLM',
  );
  await expectFailure(
    () => parse({ architectures: null, model_type: 'gpt2' }),
    'ERR_ACCEL_ARCHITECTURE',
    'gpt2',
  );
  expect((await parse({ architectures: null, model_type: 'llama' })).architecture).toBe('llama');
});
