import { z } from 'zod';
import {
  checkConfig,
  configError,
  isGiven,
  listIds,
  optionalTokenId,
  positive,
  type RawConfig,
  readDType,
  size,
  tokenIds,
} from '../config/hf-config.js';
import type { ModelSpec } from '../config/spec.js';
import type { Family, FusedRows, LayerNames, Layout } from './family.js';

const schema = z.looseObject({
  hidden_size: size,
  ffn_hidden_size: size,
  num_layers: size.max(4096),
  num_attention_heads: size,
  kv_channels: size,
  multi_query_attention: z.boolean().nullish(),
  multi_query_group_num: size.nullish(),
  padded_vocab_size: size,
  seq_length: size,
  layernorm_epsilon: positive,
  rope_ratio: positive.nullish(),
  add_qkv_bias: z.boolean().nullish(),
  add_bias_linear: z.boolean().nullish(),
  rmsnorm: z.boolean().nullish(),
  post_layer_norm: z.boolean().nullish(),
  apply_residual_connection_post_layernorm: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  bos_token_id: optionalTokenId,
  eos_token_id: tokenIds,
});
type Values = z.infer<typeof schema>;

/**
 * ChatGLM2, ChatGLM3 and GLM-4 in the layout of their own code, `model_type: chatglm`: the network of `glm` under other
 * keys and names, with queries, keys and values in one matrix.
 */
export const chatglm: Family = {
  id: 'chatglm',
  architectures: ['ChatGLMModel', 'ChatGLMForConditionalGeneration'],
  read(config, name) {
    const values = checkConfig(schema, config);
    refuse(config.file, values);
    const spec = specOf(config, name, values);
    return { spec, layout: layoutOf(spec, values.add_qkv_bias ?? false) };
  },
};

/** Switches of the original code that no published checkpoint of these models has the other way. */
function refuse(file: string, values: Values): void {
  const expected = {
    add_bias_linear: false,
    rmsnorm: true,
    post_layer_norm: true,
    apply_residual_connection_post_layernorm: false,
  } as const;
  for (const [key, value] of Object.entries(expected)) {
    const given = values[key];
    if (isGiven(given) && given !== value) {
      throw configError(
        file,
        key,
        `is ${JSON.stringify(given)}; only ${String(value)} is supported.`,
      );
    }
  }
}

function specOf(config: RawConfig, name: string, values: Values): ModelSpec {
  const { file } = config;
  const heads = values.num_attention_heads;
  const shared = values.multi_query_attention ?? false;
  if (shared && !isGiven(values.multi_query_group_num)) {
    throw configError(
      file,
      'multi_query_group_num',
      'is missing, and multi_query_attention is true.',
    );
  }
  const kvHeads = shared ? (values.multi_query_group_num ?? heads) : heads;
  if (heads % kvHeads !== 0) {
    throw configError(
      file,
      'multi_query_group_num',
      `(${kvHeads}) must divide num_attention_heads (${heads}).`,
    );
  }
  if (values.kv_channels % 4 !== 0) {
    throw configError(
      file,
      'kv_channels',
      `is ${values.kv_channels}; half of a head is rotated in pairs, so it must be a multiple of 4.`,
    );
  }
  return {
    architecture: 'chatglm',
    name,
    layers: values.num_layers,
    heads,
    kvHeads,
    headDim: values.kv_channels,
    hiddenSize: values.hidden_size,
    intermediateSize: values.ffn_hidden_size,
    vocabSize: values.padded_vocab_size,
    contextLength: values.seq_length,
    ...(isGiven(values.bos_token_id) && { bosTokenId: values.bos_token_id }),
    eosTokenIds: listIds(values.eos_token_id),
    ropeTheta: 10_000 * (values.rope_ratio ?? 1),
    rope: { kind: 'default' },
    rotaryDim: values.kv_channels / 2,
    ropeInterleaved: true,
    normEps: values.layernorm_epsilon,
    attentionScale: 1 / Math.sqrt(values.kv_channels),
    tiedEmbeddings: values.tie_word_embeddings ?? false,
    dtype: readDType(config),
  };
}

function layoutOf(spec: ModelSpec, qkvBias: boolean): Layout {
  const q = spec.heads * spec.headDim;
  const kv = spec.kvHeads * spec.headDim;
  const ffn = spec.intermediateSize;
  return {
    embed: 'transformer.embedding.word_embeddings.weight',
    norm: 'transformer.encoder.final_layernorm.weight',
    lmHead: 'transformer.output_layer.weight',
    // Not transformer.rotary_pos_emb: the frequencies stored there are a leftover, those without rope_ratio.
    inside: 'transformer.encoder.',
    layer(index): LayerNames {
      const at = `transformer.encoder.layers.${String(index)}`;
      const fused = `${at}.self_attention.query_key_value`;
      const mlp = `${at}.mlp.dense_h_to_4h.weight`;
      const rows = (name: string, of: number, begin: number, end: number): FusedRows => ({
        name,
        begin,
        end,
        of,
      });
      const qkv = (name: string) => ({
        q: rows(name, q + 2 * kv, 0, q),
        k: rows(name, q + 2 * kv, q, q + kv),
        v: rows(name, q + 2 * kv, q + kv, q + 2 * kv),
      });
      const biases = qkv(`${fused}.bias`);
      return {
        inputNorm: `${at}.input_layernorm.weight`,
        ...qkv(`${fused}.weight`),
        ...(qkvBias && { qBias: biases.q, kBias: biases.k, vBias: biases.v }),
        o: `${at}.self_attention.dense.weight`,
        postNorm: `${at}.post_attention_layernorm.weight`,
        gate: rows(mlp, 2 * ffn, 0, ffn),
        up: rows(mlp, 2 * ffn, ffn, 2 * ffn),
        down: `${at}.mlp.dense_4h_to_h.weight`,
      };
    },
  };
}
