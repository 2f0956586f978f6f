import { describe, expect, test } from 'vitest';
import { readModelConfig } from '../../src/config/model-config.js';
import { bindWeights, type StoredWeights } from '../../src/models/bind.js';
import { decoderLayout } from '../../src/models/decoder.js';
import type { LayerMap } from '../../src/models/family.js';
import { openWeights } from '../../src/weights/weights.js';
import { expectFailure } from '../shared.js';
import { floats, folder, safetensors } from '../weights/build.js';

const config = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 10,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
};

const names = (layer: number) => decoderLayout().layer(layer) as LayerMap<string>;

function shapes(): Record<string, number[]> {
  const all: Record<string, number[]> = {
    'model.embed_tokens.weight': [10, 8],
    'model.norm.weight': [8],
    'lm_head.weight': [10, 8],
  };
  for (const layer of [0, 1]) {
    const at = names(layer);
    Object.assign(all, {
      [at.inputNorm]: [8],
      [at.q]: [8, 8],
      [at.k]: [4, 8],
      [at.v]: [4, 8],
      [at.o]: [8, 8],
      [at.postNorm]: [8],
      [at.gate]: [12, 8],
      [at.up]: [12, 8],
      [at.down]: [8, 12],
    });
  }
  return all;
}

async function bind<T>(
  tensors: Record<string, number[]>,
  changes: object,
  use: (weights: StoredWeights) => T,
): Promise<T> {
  const { header, bytes } = floats(tensors);
  using dir = folder({
    'config.json': JSON.stringify({ ...config, ...changes }),
    'model.safetensors': safetensors(header, bytes),
  });
  const blueprint = await readModelConfig(dir.path);
  using weights = openWeights(dir.path);
  return use(bindWeights(weights, blueprint));
}

const without = (name: string): Record<string, number[]> =>
  Object.fromEntries(Object.entries(shapes()).filter(([key]) => key !== name));

describe('binding weights', () => {
  test('gives every tensor in its place', async () => {
    await bind(shapes(), {}, ({ embed, lmHead, layers }) => {
      expect(layers.length).toBe(2);
      expect(layers[1]?.down.shape).toEqual([8, 12]);
      expect(layers[0]?.k.shape).toEqual([4, 8]);
      expect(layers[0]?.qBias).toBeUndefined();
      expect(lmHead).not.toBe(embed);
    });
  });

  test('tied embeddings are one tensor, also when the file repeats it', async () => {
    for (const tensors of [shapes(), without('lm_head.weight')]) {
      await bind(tensors, { tie_word_embeddings: true }, ({ embed, lmHead }) => {
        expect(lmHead).toBe(embed);
      });
    }
  });

  test('rotary frequencies of old conversions are left out', async () => {
    const old = { ...shapes(), 'model.layers.0.self_attn.rotary_emb.inv_freq': [2] };
    await bind(old, {}, ({ layers }) => {
      expect(layers.length).toBe(2);
    });
  });

  const nothing = (): void => undefined;
  test('a missing tensor is named, with what to do', async () => {
    await expectFailure(
      () => bind(without('lm_head.weight'), {}, nothing),
      'ERR_ACCEL_WEIGHTS',
      'lm_head.weight is missing',
      'tie_word_embeddings',
    );
    await expectFailure(
      () => bind(without(names(1).up), {}, nothing),
      'ERR_ACCEL_WEIGHTS',
      'model.layers.1.mlp.up_proj.weight is missing',
    );
  });

  test('a wrong shape is named with both shapes', async () => {
    await expectFailure(
      () => bind({ ...shapes(), [names(0).k]: [8, 8] }, {}, nothing),
      'ERR_ACCEL_WEIGHTS',
      'k_proj.weight has shape [8, 8], but the configuration calls for [4, 8]',
    );
    await expectFailure(
      () => bind({ ...shapes(), 'model.norm.weight': [8, 1] }, {}, nothing),
      'ERR_ACCEL_WEIGHTS',
      '[8, 1]',
    );
  });

  test('a format that is no float is refused', async () => {
    const { header, bytes } = floats(shapes());
    const entry = header['model.norm.weight'];
    if (entry !== undefined) entry.dtype = 'I32';
    using dir = folder({
      'config.json': JSON.stringify(config),
      'model.safetensors': safetensors(header, bytes),
    });
    const blueprint = await readModelConfig(dir.path);
    using weights = openWeights(dir.path);
    await expectFailure(
      () => bindWeights(weights, blueprint),
      'ERR_ACCEL_WEIGHTS',
      'stored as I32',
    );
  });

  test('weights that would be left out of the forward pass are an error', async () => {
    const biased = { ...shapes(), 'model.layers.0.self_attn.q_proj.bias': [8] };
    await expectFailure(() => bind(biased, {}, nothing), 'ERR_ACCEL_WEIGHTS', 'q_proj.bias');
    await expectFailure(
      () => bind(shapes(), { num_hidden_layers: 1 }, nothing),
      'ERR_ACCEL_WEIGHTS',
      'model.layers.1',
      'num_hidden_layers',
    );
  });

  test('GPTQ and AWQ tensors are recognised', async () => {
    const packed = { ...without(names(0).q), 'model.layers.0.self_attn.q_proj.qweight': [8, 8] };
    await expectFailure(
      () => bind(packed, {}, nothing),
      'ERR_ACCEL_WEIGHTS',
      'q_proj.weight is missing',
      'GPTQ and AWQ',
    );
  });

  test('rows of one matrix become several weights', async () => {
    const glm = {
      architectures: ['GlmForCausalLM'],
      head_dim: 4,
      attention_bias: false,
    };
    const fused: Record<string, number[]> = {};
    for (const [name, shape] of Object.entries(shapes())) {
      if (/up_proj/.test(name)) continue;
      if (/gate_proj/.test(name)) fused[name.replace('gate_proj', 'gate_up_proj')] = [24, 8];
      else fused[name] = shape;
    }
    await bind(fused, glm, ({ layers }) => {
      expect(layers[0]?.gate.shape).toEqual([12, 8]);
      expect(layers[0]?.gate.data.shape).toEqual([12, 8]);
      expect(layers[1]?.up.data.byteLength).toBe(12 * 8 * 4);
    });
    await expectFailure(
      () => bind({ ...fused, 'model.layers.1.mlp.gate_up_proj.weight': [20, 8] }, glm, nothing),
      'ERR_ACCEL_WEIGHTS',
      'has shape [20, 8], but the configuration calls for [24, 8]',
    );
  });
});
