import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readModelConfig } from '../../src/config/model-config.js';
import { type ModelSpec, windowOf } from '../../src/config/spec.js';
import type { Blueprint, FusedRows } from '../../src/models/family.js';
import { families } from '../../src/models/families.js';
import { expectFailure, missing, shared } from '../shared.js';
import { folder } from '../weights/build.js';

const sizes = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 100,
  max_position_embeddings: 1024,
  rms_norm_eps: 1e-5,
};

async function read(architecture: string, changes: object = {}): Promise<Blueprint> {
  using dir = folder({
    'config.json': JSON.stringify({ architectures: [architecture], ...sizes, ...changes }),
  });
  return await readModelConfig(dir.path);
}

const windows = (spec: ModelSpec): number[] =>
  Array.from({ length: spec.layers }, (_, layer) => windowOf(spec, layer));

describe('mistral', () => {
  test('slides in all layers, or in none when the config says null', async () => {
    const { spec } = await read('MistralForCausalLM', { sliding_window: 24 });
    expect(windows(spec)).toEqual([24, 24, 24, 24]);
    expect((await read('MistralForCausalLM', { sliding_window: null })).spec.slidingWindow).toBe(
      undefined,
    );
  });

  test('without a word slides over 4096, as in transformers', async () => {
    expect((await read('MistralForCausalLM')).spec.slidingWindow?.tokens).toBe(4096);
  });
});

describe('qwen', () => {
  test.each(['Qwen2ForCausalLM', 'Qwen3ForCausalLM'])(
    '%s: a window counts only when it is used',
    async (architecture) => {
      const window = { sliding_window: 16, max_window_layers: 3 };
      const unused = await read(architecture, { ...window, use_sliding_window: false });
      expect(unused.spec.slidingWindow).toBeUndefined();
      const used = await read(architecture, { ...window, use_sliding_window: true });
      expect(windows(used.spec)).toEqual([0, 0, 0, 16]);
      const beyond = { ...window, use_sliding_window: true, max_window_layers: 4 };
      expect((await read(architecture, beyond)).spec.slidingWindow).toBeUndefined();
    },
  );

  test('qwen2 has biases whatever the config says, qwen3 head norms, and biases on request', async () => {
    const { layout } = await read('Qwen2ForCausalLM', { attention_bias: false });
    expect(layout.layer(1)).toMatchObject({ kBias: 'model.layers.1.self_attn.k_proj.bias' });
    expect(layout.layer(1).oBias).toBeUndefined();
    const qwen3 = (await read('Qwen3ForCausalLM')).layout.layer(0);
    expect(qwen3).toMatchObject({ qNorm: 'model.layers.0.self_attn.q_norm.weight' });
    expect(qwen3.qBias).toBeUndefined();
    const biased = await read('Qwen3ForCausalLM', { attention_bias: true });
    expect(biased.layout.layer(0).oBias).toBe('model.layers.0.self_attn.o_proj.bias');
  });
});

test('llama with attention_bias has all four biases', async () => {
  const names = (await read('LlamaForCausalLM', { attention_bias: true })).layout.layer(2);
  expect(Object.keys(names).filter((key) => key.endsWith('Bias'))).toEqual([
    'qBias',
    'kBias',
    'vBias',
    'oBias',
  ]);
});

describe('layer_types of transformers 5', () => {
  const types = (...kinds: string[]) => ({ layer_types: kinds, sliding_window: 8 });
  const [full, slide] = ['full_attention', 'sliding_attention'];

  test('go before the rule of the family', async () => {
    const some = types(full, full, slide, slide);
    expect(windows((await read('MistralForCausalLM', some)).spec)).toEqual([0, 0, 8, 8]);
    const none = types(full, full, full, full);
    expect((await read('MistralForCausalLM', none)).spec.slidingWindow).toBeUndefined();
  });

  test('that cannot be run are refused', async () => {
    const fails = async (changes: object, words: RegExp): Promise<void> =>
      await expectFailure(() => read('MistralForCausalLM', changes), 'ERR_ACCEL_CONFIG', words);
    await fails(types(slide, full, slide, full), /alternates/);
    await fails(types(full), /names 1 layers of 4/);
    await fails(types(full, full, full, 'chunked_attention'), /chunked_attention/);
    await fails({ ...types(full, full, full, slide), sliding_window: null }, /sliding_window/);
  });
});

describe('glm', () => {
  test.each(['GlmForCausalLM', 'Glm4ForCausalLM'])(
    '%s rotates half of a head in neighbouring pairs and has one matrix for gate and up',
    async (architecture) => {
      const { spec, layout } = await read(architecture, { head_dim: 32, attention_bias: true });
      expect(spec).toMatchObject({ rotaryDim: 16, ropeInterleaved: true });
      const { gate, up, qBias, oBias } = layout.layer(0);
      expect(gate).toEqual({
        name: 'model.layers.0.mlp.gate_up_proj.weight',
        begin: 0,
        end: 96,
        of: 192,
      });
      expect(up).toMatchObject({ begin: 96, end: 192 });
      expect(qBias).toBeDefined();
      expect(oBias).toBeUndefined();
    },
  );

  test('takes the rotated share from either place', async () => {
    const inside = { rope_parameters: { partial_rotary_factor: 0.25 }, head_dim: 32 };
    expect((await read('GlmForCausalLM', inside)).spec.rotaryDim).toBe(8);
    const beside = { partial_rotary_factor: 1, head_dim: 32 };
    expect((await read('GlmForCausalLM', beside)).spec.rotaryDim).toBe(32);
  });

  test('other families rotate whole heads', async () => {
    await expectFailure(
      () => read('Qwen2ForCausalLM', { partial_rotary_factor: 0.5 }),
      'ERR_ACCEL_CONFIG',
      'partial_rotary_factor',
    );
  });
});

describe('chatglm', () => {
  const config = {
    num_layers: 2,
    ffn_hidden_size: 40,
    kv_channels: 16,
    multi_query_attention: true,
    multi_query_group_num: 2,
    padded_vocab_size: 100,
    seq_length: 512,
    layernorm_epsilon: 1e-5,
    rope_ratio: 50,
    add_qkv_bias: true,
  };
  const chatglm = (changes: object = {}): Promise<Blueprint> =>
    read('ChatGLMModel', { ...config, ...changes });

  test('finds queries, keys and values in one matrix', async () => {
    const { spec, layout } = await chatglm();
    expect(spec).toMatchObject({ ropeTheta: 500_000, rotaryDim: 8, kvHeads: 2, headDim: 16 });
    const { q, k, v, vBias } = layout.layer(1) as unknown as Record<string, FusedRows>;
    expect([q?.begin, q?.end, k?.begin, k?.end, v?.begin, v?.end, v?.of]).toEqual([
      0, 64, 64, 96, 96, 128, 128,
    ]);
    expect(vBias?.name).toMatch(/query_key_value\.bias$/);
  });

  test('without shared heads has as many keys as queries', async () => {
    expect((await chatglm({ multi_query_attention: false })).spec.kvHeads).toBe(4);
  });

  test('that cannot be run names the key', async () => {
    const fails = async (changes: object, words: RegExp): Promise<void> =>
      await expectFailure(() => chatglm(changes), 'ERR_ACCEL_CONFIG', words);
    await fails({ add_bias_linear: true }, /add_bias_linear is true/);
    await fails({ rmsnorm: false }, /rmsnorm is false/);
    await fails({ multi_query_group_num: undefined }, /multi_query_group_num is missing/);
    await fails({ multi_query_group_num: 3 }, /must divide/);
    await fails({ kv_channels: 18 }, /kv_channels is 18/);
    await fails({ num_layers: undefined }, /num_layers/);
  });
});

test('every family has an architecture of its own', () => {
  const names = families.flatMap(({ architectures }) => architectures);
  expect(new Set(names).size).toBe(names.length);
  expect(families.map(({ id }) => id)).toEqual([
    'llama',
    'mistral',
    'qwen2',
    'qwen3',
    'glm',
    'glm4',
    'chatglm',
  ]);
});

test.skipIf(missing)('the golden checkpoints are of the families they are there for', async () => {
  const specOf = async (name: string): Promise<ModelSpec> =>
    (await readModelConfig(join(shared, 'golden/models', name))).spec;
  expect(await specOf('mistral')).toMatchObject({ architecture: 'mistral', headDim: 32 });
  expect((await specOf('mistral')).slidingWindow).toBeUndefined();
  expect((await specOf('mistral-sliding')).slidingWindow).toEqual({ tokens: 24, fromLayer: 0 });
  expect((await specOf('qwen2')).slidingWindow).toBeUndefined();
  expect(await specOf('qwen2-yarn')).toMatchObject({ rope: { kind: 'yarn' }, contextLength: 128 });
  expect(await specOf('qwen3')).toMatchObject({ tiedEmbeddings: true, headDim: 32 });
  expect(await specOf('glm4')).toMatchObject({ architecture: 'glm4', rotaryDim: 8 });
  expect(await specOf('chatglm')).toMatchObject({ architecture: 'chatglm', ropeTheta: 500_000 });
});
