import type { ModelSpec } from '../config/spec.js';
import { decoderLayout, parts, readDecoder } from './decoder.js';
import type { Family, LayerNames } from './family.js';

/** Half of each head is rotated, in neighbouring pairs. */
const rotation = { rotaryShare: 0.5, interleaved: true, headDim: 128 } as const;

/** GLM-4 as transformers knows it: half of each head is rotated, and gate and up are one matrix. */
export const glm: Family = {
  id: 'glm',
  architectures: ['GlmForCausalLM'],
  read(config, name) {
    const { spec, attentionBias } = readDecoder(config, name, 'glm', rotation);
    return { spec, layout: decoderLayout((at) => names(at, spec, attentionBias)) };
  },
};

/** GLM-4-0414: as GLM, with norms of what attention and MLP add to the residual stream. */
export const glm4: Family = {
  id: 'glm4',
  architectures: ['Glm4ForCausalLM'],
  read(config, name) {
    const { spec, attentionBias } = readDecoder(config, name, 'glm4', rotation);
    const special = (at: string): Partial<LayerNames> => ({
      ...names(at, spec, attentionBias),
      attentionOutNorm: `${at}.post_self_attn_layernorm.weight`,
      mlpOutNorm: `${at}.post_mlp_layernorm.weight`,
    });
    return { spec, layout: decoderLayout(special) };
  },
};

/** Gate first, up second in one matrix; biases on queries, keys and values, never on the output. */
function names(
  at: string,
  { intermediateSize: size }: ModelSpec,
  attentionBias: boolean,
): Partial<LayerNames> {
  const name = `${at}.mlp.gate_up_proj.weight`;
  return {
    gate: { name, begin: 0, end: size, of: 2 * size },
    up: { name, begin: size, end: 2 * size, of: 2 * size },
    ...(attentionBias && parts.qkvBias(at)),
  };
}
