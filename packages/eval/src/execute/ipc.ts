import { z } from 'zod';
import { failureSchema, outcomesSchema } from './schemas.js';
import type { Failure, Job, Outcome } from './types.js';
import { jobsSchema, workOrderSchema, type WireJob, type WorkOrder } from './wire.js';

/** What a process says to its worker over the IPC channel: one order, then batches one after another. */
export type ToWorker<J = WireJob> =
  | { readonly type: 'open'; readonly order: WorkOrder }
  | { readonly type: 'run'; readonly jobs: J[] };

/** What a worker says: `ready` to the order, `done` to a batch, `error` to either. */
export type FromWorker =
  | { readonly type: 'ready' }
  | { readonly type: 'prefilled'; readonly id: string; readonly seconds: number }
  | { readonly type: 'done'; readonly outcomes: Outcome[] }
  | { readonly type: 'error'; readonly error: Failure };

/** Reads what a worker hears. */
export const toWorkerSchema: z.ZodType<ToWorker<Job>> = z.discriminatedUnion('type', [
  z.object({ type: z.literal('open'), order: workOrderSchema }),
  z.object({ type: z.literal('run'), jobs: jobsSchema }),
]);

/** Reads what a worker says. */
export const fromWorkerSchema: z.ZodType<FromWorker> = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ready') }),
  z.object({ type: z.literal('prefilled'), id: z.string(), seconds: z.number() }),
  z.object({ type: z.literal('done'), outcomes: outcomesSchema }),
  z.object({ type: z.literal('error'), error: failureSchema }),
]);
