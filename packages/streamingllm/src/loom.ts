import { AccelError, type JsonObject } from '@accel/core';

/** Keys of the seed toolkit's `streamingllm_config.json`. */
const KEYS = ['max_capacity_prompt', 'window_size'] as const;

/**
 * Translates a config of the seed toolkit. There, `max_capacity_prompt - window_size` first tokens and `window_size`
 * last ones stay, at their original positions, decided once when the prompt ends. Options under our names win.
 *
 * @returns the config itself when it has no such key
 * @throws AccelError `ERR_ACCEL_BUDGET` when one of the two is missing or the capacity does not exceed the window
 */
export function fromLoom(config: JsonObject): JsonObject {
  if (!KEYS.some((key) => key in config)) return config;
  const { max_capacity_prompt: capacity, window_size: recent, ...rest } = config;
  if (!isCount(capacity) || !isCount(recent) || capacity <= recent) {
    throw new AccelError(
      'ERR_ACCEL_BUDGET',
      `StreamingLLM: max_capacity_prompt ${JSON.stringify(capacity)} and window_size ${JSON.stringify(recent)} must be given together, as whole numbers, the first larger than the second.`,
    );
  }
  return {
    sink: capacity - recent,
    recent,
    positions: 'original',
    prefill: 'dense',
    trim: 'prompt',
    ...rest,
  };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}
