import type { AccelErrorCode } from '@accel/kernels';
import { expect } from 'vitest';

/**
 * For `toThrow`: an error with this code whose message contains `text`, or matches it.
 *
 * @example
 * expect(() => snapkv({ observe: 0 })).toThrow(errorWith('ERR_ACCEL_POLICY', 'observe'));
 */
export function errorWith(code: AccelErrorCode, text: string | RegExp = ''): Error {
  return expect.objectContaining({
    code,
    message: (typeof text === 'string'
      ? expect.stringContaining(text)
      : expect.stringMatching(text)) as unknown,
  }) as Error;
}
