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
  readRope,
  size,
  tokenIds,
} from '../config/hf-config.js';
import type { ModelSpec } from '../config/spec.js';
import type { Family } from './family.js';

// Far above any model; a damaged file must not make us list billions of names.
const layerCount = size.max(4096);

const schema = z.looseObject({
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: layerCount,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  vocab_size: size,
  max_position_embeddings: size,
  rms_norm_eps: positive,
  hidden_act: z.string().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  partial_rotary_factor: positive.nullish(),
  bos_token_id: optionalTokenId,
  eos_token_id: tokenIds,
});

/** Llama 1 to 3 and everything published as `LlamaForCausalLM`. */
export const llama: Family = {
  id: 'llama',
  architectures: ['LlamaForCausalLM'],
  parse,
  embed: 'model.embed_tokens.weight',
  norm: 'model.norm.weight',
  lmHead: 'lm_head.weight',
  names(layer) {
    const at = `model.layers.${String(layer)}`;
    return {
      inputNorm: `${at}.input_layernorm.weight`,
      q: `${at}.self_attn.q_proj.weight`,
      k: `${at}.self_attn.k_proj.weight`,
      v: `${at}.self_attn.v_proj.weight`,
      o: `${at}.self_attn.o_proj.weight`,
      postNorm: `${at}.post_attention_layernorm.weight`,
      gate: `${at}.mlp.gate_proj.weight`,
      up: `${at}.mlp.up_proj.weight`,
      down: `${at}.mlp.down_proj.weight`,
    };
  },
  // Old conversions stored the rotary frequencies, which are computed from the config.
  unused: /\.rotary_emb\.inv_freq$/,
};

function parse(config: RawConfig, name: string): ModelSpec {
  const { file } = config;
  const values = checkConfig(schema, config);
  const heads = values.num_attention_heads;
  const kvHeads = values.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0) {
    throw configError(
      file,
      'num_key_value_heads',
      `(${kvHeads}) must divide num_attention_heads (${heads}).`,
    );
  }
  const headDim = values.head_dim ?? values.hidden_size / heads;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw configError(
      file,
      isGiven(values.head_dim) ? 'head_dim' : 'hidden_size / num_attention_heads',
      `is ${headDim}; a rotated head needs an even whole number of dimensions.`,
    );
  }
  const act = values.hidden_act ?? 'silu';
  if (act !== 'silu' && act !== 'swish') {
    throw configError(file, 'hidden_act', `is "${act}"; only "silu" is supported.`);
  }
  for (const key of ['attention_bias', 'mlp_bias'] as const) {
    if (values[key] === true) {
      throw configError(file, key, 'is true; Llama models with biases are not supported.');
    }
  }
  if ((values.partial_rotary_factor ?? 1) !== 1) {
    throw configError(file, 'partial_rotary_factor', 'must be 1 for a Llama model.');
  }
  const rope = readRope(config, values.max_position_embeddings);
  if (rope.scaling.kind === 'dynamic' && headDim === 2) {
    throw configError(file, 'head_dim', 'is 2; dynamic rotary scaling needs at least 4.');
  }
  return {
    architecture: 'llama',
    name,
    layers: values.num_hidden_layers,
    heads,
    kvHeads,
    headDim,
    hiddenSize: values.hidden_size,
    intermediateSize: values.intermediate_size,
    vocabSize: values.vocab_size,
    contextLength: rope.contextLength,
    ...(isGiven(values.bos_token_id) && { bosTokenId: values.bos_token_id }),
    eosTokenIds: listIds(values.eos_token_id),
    ropeTheta: rope.theta,
    rope: rope.scaling,
    rotaryDim: headDim,
    ropeInterleaved: false,
    normEps: values.rms_norm_eps,
    attentionScale: 1 / Math.sqrt(headDim),
    tiedEmbeddings: values.tie_word_embeddings ?? false,
    dtype: readDType(config),
  };
}
