import { createHash } from 'node:crypto';
import { z } from 'zod';
import { failureSchema, outcomesSchema } from './schemas.js';
import type { Failure, Job, Outcome } from './types.js';
import { jobsSchema, workOrderSchema, type WireJob, type WorkOrder } from './wire.js';

/** A batch as it waits in the queue. */
export interface QueuedBatch<J = WireJob> {
  /** Digest of the model's files, once more: a worker checks what it takes. */
  readonly files: string;
  readonly order: WorkOrder;
  readonly jobs: J[];
  /** How many workers it may outlive before it is given up. */
  readonly retries: number;
}

/** What a worker leaves for the coordinator: outcomes, what would fail again for every job, or that it kills workers. */
export type BatchResult =
  { readonly outcomes: Outcome[] } | { readonly error: Failure } | { readonly lost: number };

/** Reads what a worker takes from the queue. */
export const batchSchema: z.ZodType<QueuedBatch<Job>> = z.object({
  files: z.string(),
  order: workOrderSchema,
  jobs: jobsSchema,
  retries: z.int().nonnegative(),
});

/** Reads what a worker left. */
export const batchResultSchema: z.ZodType<BatchResult> = z.union([
  z.object({ outcomes: outcomesSchema }),
  z.object({ error: failureSchema }),
  z.object({ lost: z.int() }),
]);

/**
 * Name of a batch in the queue, the same for the same work of the same run: a coordinator that was started again finds what
 * was finished meanwhile.
 */
export function batchId(run: string, batch: QueuedBatch): string {
  return `${runPrefix(run)}${digest(JSON.stringify(batch))}`;
}

/** How the names of all batches of a run begin. */
export function runPrefix(run: string): string {
  return `${digest(run)}-`;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 24);
}
