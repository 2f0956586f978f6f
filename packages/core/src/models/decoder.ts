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
import type { Architecture, ModelSpec } from '../config/spec.js';
import type { LayerNames, Layout } from './family.js';

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
  partial_rotary_factor: positive.max(1).nullish(),
  bos_token_id: optionalTokenId,
  eos_token_id: tokenIds,
});

/** What a family takes where its config is silent, and how it rotates. */
export interface DecoderDefaults {
  /** Of a head. Default hidden_size / num_attention_heads. */
  readonly headDim?: number;
  /** Share of a head's dimensions that is rotated. Default 1. */
  readonly rotaryShare?: number;
  /** Rotated pairs are neighbours. Default false. */
  readonly interleaved?: boolean;
}

/** A config of the usual keys. */
export interface DecoderConfig {
  readonly spec: ModelSpec;
  /** `attention_bias`; false where it is not given. */
  readonly attentionBias: boolean;
}

/**
 * Reads the config of a decoder-only transformer with the keys that transformers uses: grouped-query attention with rotary
 * positions, RMSNorm, SwiGLU. Families add what is special about them.
 * @throws AccelError `ERR_ACCEL_CONFIG` naming the key
 */
export function readDecoder(
  config: RawConfig,
  name: string,
  architecture: Architecture,
  defaults: DecoderDefaults = {},
): DecoderConfig {
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
  const headDim = values.head_dim ?? defaults.headDim ?? values.hidden_size / heads;
  assertEven(
    file,
    isGiven(values.head_dim) ? 'head_dim' : 'hidden_size / num_attention_heads',
    headDim,
    'head',
  );
  const act = values.hidden_act ?? 'silu';
  if (act !== 'silu' && act !== 'swish') {
    throw configError(file, 'hidden_act', `is "${act}"; only "silu" is supported.`);
  }
  if (values.mlp_bias === true) {
    throw configError(file, 'mlp_bias', 'is true; biases in the MLP are not supported.');
  }
  const rotaryDim = headDim * readRotaryShare(config, values.partial_rotary_factor, defaults);
  assertEven(file, 'head_dim · partial_rotary_factor', rotaryDim, 'rotated part of a head');
  const rope = readRope(config, values.max_position_embeddings);
  if (rope.scaling.kind === 'dynamic' && rotaryDim === 2) {
    throw configError(file, 'head_dim', 'is 2; dynamic rotary scaling needs at least 4.');
  }
  return {
    attentionBias: values.attention_bias ?? false,
    spec: {
      architecture,
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
      rotaryDim,
      ropeInterleaved: defaults.interleaved ?? false,
      normEps: values.rms_norm_eps,
      attentionScale: 1 / Math.sqrt(headDim),
      tiedEmbeddings: values.tie_word_embeddings ?? false,
      dtype: readDType(config),
    },
  };
}

/** The share of a head that is rotated: beside the other keys, or in `rope_parameters` (transformers 5). */
function readRotaryShare(
  config: RawConfig,
  beside: number | null | undefined,
  { rotaryShare = 1 }: DecoderDefaults,
): number {
  const { rope_parameters: inside } = checkConfig(
    z.looseObject({
      rope_parameters: z
        .looseObject({ partial_rotary_factor: positive.max(1).nullish() })
        .nullish(),
    }),
    config,
  );
  const share = inside?.partial_rotary_factor ?? beside ?? rotaryShare;
  // Families that rotate whole heads have no code for less, in transformers either.
  if (rotaryShare !== 1 || share === 1) return share;
  throw configError(config.file, 'partial_rotary_factor', 'must be 1 for a model of this family.');
}

function assertEven(file: string, key: string, value: number, what: string): void {
  if (Number.isInteger(value) && value % 2 === 0) return;
  throw configError(file, key, `is ${value}; a ${what} needs an even whole number of dimensions.`);
}

type Names<K extends keyof LayerNames> = (at: string) => Pick<LayerNames, K>;

/** Layer weights that only some checkpoints in transformers' layout have, of the layer whose names begin with `at`. */
export const parts: {
  readonly qkvBias: Names<'qBias' | 'kBias' | 'vBias'>;
  readonly oBias: Names<'oBias'>;
  readonly headNorms: Names<'qNorm' | 'kNorm'>;
} = {
  qkvBias: (at) => ({
    qBias: `${at}.self_attn.q_proj.bias`,
    kBias: `${at}.self_attn.k_proj.bias`,
    vBias: `${at}.self_attn.v_proj.bias`,
  }),
  oBias: (at) => ({ oBias: `${at}.self_attn.o_proj.bias` }),
  headNorms: (at) => ({
    qNorm: `${at}.self_attn.q_norm.weight`,
    kNorm: `${at}.self_attn.k_norm.weight`,
  }),
};

/**
 * The names that transformers gives a decoder's weights.
 * @param special the names in which a family differs, of the layer whose names begin with `at`
 */
export function decoderLayout(special: (at: string) => Partial<LayerNames> = () => ({})): Layout {
  return {
    embed: 'model.embed_tokens.weight',
    norm: 'model.norm.weight',
    lmHead: 'lm_head.weight',
    inside: 'model.',
    // Old conversions stored the rotary frequencies, which are computed from the config.
    unused: /\.rotary_emb\.inv_freq$/,
    layer(index) {
      const at = `model.layers.${String(index)}`;
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
        ...special(at),
      };
    },
  };
}
