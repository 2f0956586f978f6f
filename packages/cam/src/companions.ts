import { AccelError, type JsonObject, type JsonValue, type Part } from '@accel/core';
import { snapkv } from '@accel/snapkv';
import { streamingllm } from '@accel/streamingllm';
import { cam } from './cam.js';
import { fromLoom } from './loom.js';
import type { CamOptions } from './settings.js';

/** The window that the original's streaming demo runs with. */
const WINDOW = { sink: 1, recent: 255 } as const;

/**
 * CaM's part and the selection it works on when no other is named: StreamingLLM while decoding; in its prompt form SnapKV
 * without pooling. The selection's options are under `streamingllm` or `snapkv`.
 *
 * @throws AccelError `ERR_ACCEL_POLICY` or `ERR_ACCEL_BUDGET` for an option of either
 */
export function partsFrom(config: JsonObject): readonly Part[] {
  const given = fromLoom(config);
  const key = given.at === 'prompt' ? 'snapkv' : 'streamingllm';
  const { [key]: selection, ...own } = given;
  // Checked by the methods' own functions.
  const part = cam(own as CamOptions);
  const options = optionsOf(key, selection);
  if (key === 'snapkv') {
    const pool = { size: 1 };
    return [part, snapkv({ observe: part.observe ?? 0, pool, ...options })];
  }
  const sized = 'recent' in options || 'budget' in options;
  const window = sized ? { sink: WINDOW.sink } : WINDOW;
  return [part, streamingllm({ ...window, ...options })];
}

function optionsOf(key: string, selection: JsonValue | undefined = {}): JsonObject {
  if (typeof selection === 'object' && selection !== null && !Array.isArray(selection))
    return selection as JsonObject;
  throw new AccelError(
    'ERR_ACCEL_POLICY',
    `CaM: ${key} is ${JSON.stringify(selection)}; give an object with the options of that method.`,
  );
}
