import type { Job, Outcome } from './types.js';

/** A worker went away with its jobs unanswered. Nothing is wrong with them as far as anyone knows. */
export class WorkerLost extends Error {
  override readonly name = 'WorkerLost';
}

/**
 * Has jobs answered although workers may die: a batch is tried again, and when it has killed every worker it is answered
 * one job at a time, so that a single deadly job fails alone.
 *
 * @param tries attempts of the batch, and of each job alone, at least 1
 * @param attempt throws {@link WorkerLost} when the worker went away; anything else ends the matter
 */
export async function answerDespiteLosses(
  jobs: readonly Job[],
  tries: number,
  attempt: (jobs: readonly Job[]) => Promise<Outcome[]>,
): Promise<Outcome[]> {
  let reason = '';
  for (let i = 0; i < tries; i++) {
    try {
      return await attempt(jobs);
    } catch (error) {
      if (!(error instanceof WorkerLost)) throw error;
      reason = error.message;
    }
  }
  if (jobs.length === 1) {
    const message = `Its worker was lost whenever it was tried. The last time: ${reason}`;
    return [{ failure: { code: 'ERR_ACCEL_WORKER', message } }];
  }
  const outcomes: Outcome[] = [];
  for (const job of jobs) outcomes.push(...(await answerDespiteLosses([job], tries, attempt)));
  return outcomes;
}
