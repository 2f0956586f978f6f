import type { LayerEnd, ModelSpec, PartSetup, RopeFrequencies } from '@accel/core';
import type { TestCache } from './cache.js';

/** What a part's state is made with, for a test without a model. `rope` throws unless it is given. */
export function partSetup(
  cache: TestCache,
  spec: Partial<ModelSpec>,
  more: Partial<Pick<PartSetup, 'tallies' | 'rope'>> = {},
): PartSetup {
  const rope = (): RopeFrequencies => {
    throw new Error('this test gives no rotary frequencies');
  };
  return {
    // What methods read of a model's description.
    spec: { layers: 1, kvHeads: cache.heads, headDim: cache.headDim, ...spec } as ModelSpec,
    stream: cache.stream,
    device: cache.device,
    dtype: cache.dtype,
    tallies: [],
    rope,
    ...more,
  };
}

/** The end of a layer whose rows are all in `cache`; by default of a first prompt, of layer 0, with nothing evicted. */
export function layerEnd(cache: TestCache, fields: Partial<LayerEnd> = {}): LayerEnd {
  const layer = fields.layer ?? 0;
  const rows = cache.kv.rows(layer, 0);
  return {
    layer,
    phase: 'prefill',
    turn: 0,
    kv: cache.kv,
    rows,
    appended: rows,
    seen: rows,
    queries: undefined,
    scale: 1 / Math.sqrt(cache.headDim),
    slidingWindow: 0,
    stream: cache.stream,
    budget: undefined,
    merge: undefined,
    report: () => undefined,
    ...fields,
  };
}
