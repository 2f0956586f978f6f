import { AccelError } from '@accel/kernels';

/** @internal Turns a failure of the file system into an AccelError. */
export function attempt<T>(file: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `Cannot read ${file}: ${(error as Error).message}. Check the path and its permissions.`,
      { cause: error },
    );
  }
}
