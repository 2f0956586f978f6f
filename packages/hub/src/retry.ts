import { setTimeout as sleep } from 'node:timers/promises';
import type { AccelError } from '@accel/kernels';

/** How often and how soon something that failed by chance is tried again. */
export interface RetryPolicy {
  /** Tries in a row that may bring nothing. Default 5. */
  readonly attempts?: number;
  /** Wait before the second try in ms; it doubles each time, up to 16 times as much. Default 500. */
  readonly delayMs?: number;
}

/** Something that may well succeed at the next try. When it does not, its `failure` is what the caller gets. */
export class Transient extends Error {
  readonly failure: AccelError;
  /** What the server asked to wait, in ms. */
  readonly waitMs: number | undefined;

  constructor(failure: AccelError, waitMs?: number) {
    super(failure.message);
    this.failure = failure;
    this.waitMs = waitMs;
  }
}

/** Longest wait that a server may ask for; above, it is better to tell the user. */
const LONGEST_WAIT_MS = 60_000;

/**
 * Calls until it works, fails for good, or fails by chance too often in a row.
 * @param progress grows while work gets done; a try that brought something does not count as failed
 */
export async function retrying<T>(
  call: () => Promise<T>,
  policy: RetryPolicy,
  signal: AbortSignal,
  progress: () => number = () => 0,
): Promise<T> {
  const { attempts = 5, delayMs = 500 } = policy;
  for (let failed = 0; ;) {
    const before = progress();
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof Transient)) throw error;
      failed = progress() > before ? 0 : failed + 1;
      if (failed >= attempts || (error.waitMs ?? 0) > LONGEST_WAIT_MS) throw error.failure;
      const wait = error.waitMs ?? delayMs * Math.min(2 ** Math.max(0, failed - 1), 16);
      await sleep(wait, undefined, { signal });
    }
  }
}
