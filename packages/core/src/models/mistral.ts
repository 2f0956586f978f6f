import { z } from 'zod';
import { checkConfig, size } from '../config/hf-config.js';
import { decoderLayout, readDecoder } from './decoder.js';
import type { Family } from './family.js';
import { readSlidingWindow } from './window.js';

const schema = z.looseObject({ sliding_window: size.nullish() });

/** What transformers takes for a Mistral config that says nothing; `null` means that there is no window. */
const WINDOW = 4096;

/** Mistral: Llama, with a window that slides in all layers of the first models (Jiang et al. 2023, arXiv:2310.06825). */
export const mistral: Family = {
  id: 'mistral',
  architectures: ['MistralForCausalLM'],
  read(config, name) {
    const { spec } = readDecoder(config, name, 'mistral');
    const { sliding_window: tokens = WINDOW } = checkConfig(schema, config);
    const window = tokens === null ? undefined : { tokens, fromLayer: 0 };
    return {
      spec: { ...spec, ...readSlidingWindow(config, spec.layers, window) },
      layout: decoderLayout(),
    };
  },
};
