import { decoderLayout, parts, readDecoder } from './decoder.js';
import type { Family } from './family.js';

/** Llama 1 to 3 and everything published as `LlamaForCausalLM`. */
export const llama: Family = {
  id: 'llama',
  architectures: ['LlamaForCausalLM'],
  read(config, name) {
    const { spec, attentionBias } = readDecoder(config, name, 'llama');
    const biases = (at: string) => ({ ...parts.qkvBias(at), ...parts.oBias(at) });
    return { spec, layout: attentionBias ? decoderLayout(biases) : decoderLayout() };
  },
};
