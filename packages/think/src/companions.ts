import { AccelError, type JsonObject, type JsonValue, type Part } from '@accel/core';
import { snapkv } from '@accel/snapkv';
import { think } from './think.js';

/** Keys of the seed toolkit's `think_config.json` that are about which rows stay. SnapKV understands them. */
const SELECTION = ['max_capacity_prompt', 'window_size', 'kernel_size', 'pooling'] as const;

/**
 * ThinK's part, and SnapKV's if the config says which rows stay: under `snapkv`, or with the keys of the seed toolkit, whose
 * ThinK is SnapKV with pruned keys. Without either all rows stay.
 *
 * @throws AccelError `ERR_ACCEL_POLICY` or `ERR_ACCEL_BUDGET` for an option of either
 */
export function partsFrom(config: JsonObject): readonly Part[] {
  const own: Record<string, JsonValue | undefined> = {};
  const selection: Record<string, JsonValue | undefined> = { ...selectionOf(config.snapkv) };
  for (const [key, value] of Object.entries(config)) {
    if (key === 'snapkv') continue;
    const of = (SELECTION as readonly string[]).includes(key) ? selection : own;
    of[key] = value;
  }
  // Both are checked by the methods' own functions.
  const part = think(own);
  const selects = config.snapkv !== undefined || SELECTION.some((key) => key in config);
  return selects ? [snapkv(selection), part] : [part];
}

function selectionOf(options: JsonValue | undefined = {}): JsonObject {
  if (typeof options === 'object' && options !== null && !Array.isArray(options))
    return options as JsonObject;
  throw new AccelError(
    'ERR_ACCEL_POLICY',
    `ThinK: snapkv is ${JSON.stringify(options)}; give an object with the options of SnapKV.`,
  );
}
