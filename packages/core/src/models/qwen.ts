import { z } from 'zod';
import { checkConfig, type RawConfig, size } from '../config/hf-config.js';
import type { ModelSpec, SlidingWindow } from '../config/spec.js';
import { decoderLayout, parts, readDecoder } from './decoder.js';
import type { Family } from './family.js';
import { readSlidingWindow } from './window.js';

/** Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, whatever the config says. */
export const qwen2: Family = {
  id: 'qwen2',
  architectures: ['Qwen2ForCausalLM'],
  read(config, name) {
    const { spec } = readDecoder(config, name, 'qwen2');
    return {
      spec: { ...spec, ...windowOfQwen(config, spec) },
      layout: decoderLayout(parts.qkvBias),
    };
  },
};

/** Qwen3: no biases, and an RMSNorm over each query and key head before it is rotated. */
export const qwen3: Family = {
  id: 'qwen3',
  architectures: ['Qwen3ForCausalLM'],
  read(config, name) {
    const { spec, attentionBias } = readDecoder(config, name, 'qwen3', { headDim: 128 });
    const special = (at: string) => ({
      ...parts.headNorms(at),
      ...(attentionBias && { ...parts.qkvBias(at), ...parts.oBias(at) }),
    });
    return { spec: { ...spec, ...windowOfQwen(config, spec) }, layout: decoderLayout(special) };
  },
};

const schema = z.looseObject({
  use_sliding_window: z.boolean().nullish(),
  sliding_window: size.nullish(),
  max_window_layers: z.int().min(0).nullish(),
});

/** `sliding_window` counts only with `use_sliding_window`, and then from layer `max_window_layers` on. */
function windowOfQwen(config: RawConfig, spec: ModelSpec): Pick<ModelSpec, 'slidingWindow'> {
  const values = checkConfig(schema, config);
  if (values.use_sliding_window !== true) return {};
  const window: SlidingWindow | undefined =
    values.sliding_window === null
      ? undefined
      : { tokens: values.sliding_window ?? 4096, fromLayer: values.max_window_layers ?? 28 };
  return readSlidingWindow(config, spec.layers, window);
}
