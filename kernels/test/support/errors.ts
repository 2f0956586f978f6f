import { expect } from 'vitest';
import { AccelError, type AccelErrorCode } from '../../ts/index.js';

/** Expects `run` to throw an AccelError with this code whose message matches; returns the error. */
export function expectError(
  run: () => unknown,
  code: AccelErrorCode,
  message?: RegExp,
): AccelError {
  let thrown: unknown;
  try {
    run();
  } catch (error) {
    thrown = error;
  }
  return checkError(thrown, code, message);
}

/** As {@link expectError}, for a promise that must reject. */
export async function expectRejection(
  promise: Promise<unknown>,
  code: AccelErrorCode,
  message?: RegExp,
): Promise<AccelError> {
  const thrown: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  return checkError(thrown, code, message);
}

function checkError(thrown: unknown, code: AccelErrorCode, message?: RegExp): AccelError {
  expect(thrown).toBeInstanceOf(AccelError);
  const error = thrown as AccelError;
  expect(error.code, error.message).toBe(code);
  if (message !== undefined) expect(error.message).toMatch(message);
  return error;
}
