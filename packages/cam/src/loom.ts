import { AccelError, type JsonObject } from '@accel/core';

/** Keys of the seed toolkit's `CAM_config.json`. */
const KEYS = ['max_capacity_prompt', 'window_size'] as const;

/**
 * Translates a config of the seed toolkit. There CaM works on the prompt alone: values are folded into the next
 * `window_size` rows, compared with one denominator, and then `max_capacity_prompt` rows stay. Options under our names
 * win.
 *
 * @returns the config itself when it has no such key
 * @throws AccelError `ERR_ACCEL_BUDGET` when one of the two is missing or the capacity does not exceed the window
 */
export function fromLoom(config: JsonObject): JsonObject {
  if (!KEYS.some((key) => key in config)) return config;
  const { max_capacity_prompt: capacity, window_size: observe, ...rest } = config;
  if (!isCount(capacity) || !isCount(observe) || capacity <= observe) {
    throw new AccelError(
      'ERR_ACCEL_BUDGET',
      `CaM: max_capacity_prompt ${JSON.stringify(capacity)} and window_size ${JSON.stringify(observe)} must be given together, as whole numbers, the first larger than the second.`,
    );
  }
  return {
    at: 'prompt',
    observe,
    minPrompt: capacity,
    denominator: 'fixed',
    snapkv: { budget: { tokens: capacity } },
    ...rest,
  };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}
