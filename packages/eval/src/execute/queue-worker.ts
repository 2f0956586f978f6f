import type { Job as QueueJob } from 'bullmq';
import { z } from 'zod';
import { messageOf } from '../errors.js';
import { openBroker, queueError, queueName, type QueueModel } from './queue-broker.js';
import { batchSchema, type BatchResult } from './queue-job.js';
import type { OpenExecutor } from './worker.js';
import { packError } from './wire.js';

/** Options of {@link serveQueue}. */
export interface QueueWorkerOptions {
  /** As in `queueExecutor`. */
  readonly url: string;
  /** The model that this worker has. */
  readonly model: QueueModel;
  /** Makes what answers a batch; it is disposed after it. */
  readonly open: OpenExecutor;
  /** Finish the batch that is under way, then return. */
  readonly finish?: AbortSignal;
  /** Give the batch that is under way back, then return. */
  readonly stop?: AbortSignal;
  /** A worker that has not been heard of for so long counts as dead. Default 15. */
  readonly lockSeconds?: number;
  /** Told of each batch that is done, and when the broker is away. */
  readonly onMessage?: (message: string) => void;
}

/** BullMQ has its own limit on lost workers, a setting of workers; ours comes with each batch instead. */
const NO_LIMIT = 1_000_000;

/**
 * Answers batches from a queue until it is told to end.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT, ERR_ACCEL_QUEUE when the client is not installed or the broker cannot be reached
 */
export async function serveQueue(options: QueueWorkerOptions): Promise<void> {
  const { url, model, open, finish, stop, lockSeconds = 15, onMessage = () => undefined } = options;
  const { bullmq, connection, shown } = await openBroker(url);
  const lockMs = lockSeconds * 1000;
  const worker = new bullmq.Worker<unknown, BatchResult>(queueName(model), processBatch, {
    connection,
    lockDuration: lockMs,
    stalledInterval: lockMs / 2,
    maxStalledCount: NO_LIMIT,
  });
  worker.on('error', (error) => onMessage(`The broker at ${shown} is away: ${messageOf(error)}`));
  try {
    await worker.waitUntilReady();
    onMessage(`Serving ${model.name} (${queueName(model)}) from ${shown}`);
    await anyOf(finish, stop);
  } finally {
    await worker.close();
  }

  async function processBatch(job: QueueJob<unknown>, token?: string): Promise<BatchResult> {
    const parsed = batchSchema.safeParse(job.data);
    if (!parsed.success) {
      throw new bullmq.UnrecoverableError(
        `a worker of another version took it: ${z.prettifyError(parsed.error)}`,
      );
    }
    const { files, order, jobs, retries } = parsed.data;
    if (files !== model.files) {
      throw queueError(
        `This worker has the model ${model.files} (${model.name}) and was given a job for ${files}.`,
      );
    }
    const lost = job.attemptsMade + job.stalledCounter;
    if (lost > retries) return { lost };
    try {
      await using executor = await open(order);
      const started = performance.now();
      const outcomes = await executor.run(jobs, { signal: stop });
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      onMessage(`${jobs.length} answered in ${seconds} s: ${jobs[0]?.id ?? ''}`);
      return { outcomes };
    } catch (error) {
      if (stop?.aborted === true) {
        await job.moveToWait(token);
        throw new bullmq.WaitingError();
      }
      const packed = packError(error);
      // A defect, or a GPU context that is broken for good: another worker may do better.
      if (packed.code === 'ERR_ACCEL_INTERNAL') throw error;
      return { error: packed };
    }
  }
}

async function anyOf(...signals: readonly (AbortSignal | undefined)[]): Promise<void> {
  const signal = AbortSignal.any(signals.filter((each) => each !== undefined));
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
}
