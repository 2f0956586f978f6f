import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AccelError, type AccelErrorCode } from '@accel/kernels';
import { expect } from 'vitest';

/** Folder with goldens and models that are not part of the repository. */
export const shared =
  process.env['ACCEL_SHARED'] ?? fileURLToPath(new URL('../../../../shared', import.meta.url));

/** Why tests over {@link shared} do not run, or false. */
export const missing = existsSync(join(shared, 'golden'))
  ? false
  : `no goldens at ${shared} (set ACCEL_SHARED to their folder)`;

/** The AccelError that an action fails with. */
export async function failure(action: () => unknown): Promise<AccelError> {
  try {
    await action();
  } catch (error) {
    if (AccelError.isInstance(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

/** Expects an AccelError with this code and these words in its message. */
export async function expectFailure(
  action: () => unknown,
  code: AccelErrorCode,
  ...words: (string | RegExp)[]
): Promise<void> {
  const error = await failure(action);
  expect({ code: error.code, message: error.message }).toMatchObject({ code });
  for (const word of words) expect(error.message).toMatch(word);
}
