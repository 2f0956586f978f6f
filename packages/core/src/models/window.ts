import { z } from 'zod';
import { checkConfig, configError, type RawConfig, size } from '../config/hf-config.js';
import type { ModelSpec, SlidingWindow } from '../config/spec.js';

const schema = z.looseObject({
  sliding_window: size.nullish(),
  layer_types: z.array(z.string()).nullish(),
});

/**
 * The sliding window of a config, if any layer has one. Transformers 5 lists the kind of every layer in `layer_types`;
 * before, a family had a rule of its own.
 * @param fallback the family's rule, for configs without `layer_types`
 */
export function readSlidingWindow(
  config: RawConfig,
  layers: number,
  fallback: SlidingWindow | undefined,
): Pick<ModelSpec, 'slidingWindow'> {
  const { layer_types: types, sliding_window: tokens } = checkConfig(schema, config);
  if (types === null || types === undefined) return given(fallback, layers);
  const { file } = config;
  if (types.length !== layers) {
    throw configError(file, 'layer_types', `names ${types.length} layers of ${layers}.`);
  }
  const strange = types.find((type) => type !== 'full_attention' && type !== 'sliding_attention');
  if (strange !== undefined) {
    throw configError(
      file,
      'layer_types',
      `has "${strange}"; supported are full_attention and sliding_attention.`,
    );
  }
  const fromLayer = types.indexOf('sliding_attention');
  if (fromLayer < 0) return {};
  if (types.includes('full_attention', fromLayer)) {
    throw configError(
      file,
      'layer_types',
      'alternates between full and sliding attention; supported are models whose first layers attend fully and whose last ones slide.',
    );
  }
  if (tokens === null || tokens === undefined) {
    throw configError(file, 'sliding_window', 'is missing, and layer_types has sliding layers.');
  }
  return { slidingWindow: { tokens, fromLayer } };
}

function given(
  window: SlidingWindow | undefined,
  layers: number,
): Pick<ModelSpec, 'slidingWindow'> {
  return window === undefined || window.fromLayer >= layers ? {} : { slidingWindow: window };
}
