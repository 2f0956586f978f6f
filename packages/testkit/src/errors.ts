import type { AccelErrorCode } from '@accel/kernels';
import { expect } from 'vitest';

/**
 * For `toThrow`: an error with this code whose message contains `text`.
 *
 * @example
 * expect(() => snapkv({ observe: 0 })).toThrow(errorWith('ERR_ACCEL_POLICY', 'observe'));
 */
export function errorWith(code: AccelErrorCode, text = ''): Error {
  return expect.objectContaining({
    code,
    message: expect.stringContaining(text) as unknown,
  }) as Error;
}
