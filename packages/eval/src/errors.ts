import { AccelError } from '@accel/core';

/** A caller's value is out of range. */
export function argumentError(message: string): AccelError {
  return new AccelError('ERR_ACCEL_ARGUMENT', message);
}

/** A benchmark config, a record file or a combination of settings cannot be used. */
export function configError(message: string, cause?: unknown): AccelError {
  return new AccelError('ERR_ACCEL_CONFIG', message, cause === undefined ? undefined : { cause });
}

/** A file is missing or cannot be read. */
export function fileError(message: string, cause?: unknown): AccelError {
  return new AccelError('ERR_ACCEL_FILE', message, cause === undefined ? undefined : { cause });
}

/** `error.message` of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
