/** Temperatures of CakeKV's allocation. */
export interface Taus {
  readonly tau1: number;
  readonly tau2: number;
}

/** The authors' values, found by search for two sizes of the cache: `[tau1, tau2]` (antgroup/cakekv, model2tau.json). */
const TUNED: Readonly<Record<string, Readonly<Record<number, readonly [number, number]>>>> = {
  'llama3.1-8b-128k': { 1024: [1.6, 0.4], 128: [1.6, 0.6] },
  'llama2-7b-chat-4k': { 1024: [1.9, 1.8], 128: [0.9, 2.3] },
  'llama2-13b-chat-4k': { 1024: [0.5, 0.4], 128: [1.8, 2.0] },
  'mistral-0.3-7b-32k': { 1024: [0.8, 0.5], 128: [1.0, 0.8] },
  'qwen2.5-7b-instruct': { 1024: [1.5, 0.6], 128: [0.4, 0.6] },
};

/**
 * The authors' temperatures for a model and a cache size (rows per layer, window included); 1 and 1 for every other
 * model or size, as in the original.
 */
export function tunedTaus(model: string, cacheSize: unknown): Taus {
  const sizes = Object.hasOwn(TUNED, model) ? TUNED[model] : undefined;
  const [tau1, tau2] = (typeof cacheSize === 'number' ? sizes?.[cacheSize] : undefined) ?? [1, 1];
  return { tau1, tau2 };
}
