import { setTimeout } from 'node:timers/promises';
import type { Queue, QueueEvents } from 'bullmq';
import { AccelError } from '@accel/core';
import { messageOf } from '../errors.js';
import { openBroker, queueError, queueName, type Broker, type QueueModel } from './queue-broker.js';
import { batchId, batchResultSchema, runPrefix, type QueuedBatch } from './queue-job.js';
import { answerDespiteLosses, WorkerLost } from './retry.js';
import type { EvalMethod, ExecuteOptions, Executor, Job, Outcome } from './types.js';
import { packJob, packMethod, unpackError } from './wire.js';

/** Options of {@link queueExecutor}. */
export interface QueueOptions {
  /** `redis://[user:password@]host[:port][/database]` of Redis or Valkey; `rediss://` for TLS. */
  readonly url: string;
  /** Name of the run. A coordinator with the same name and work takes over what an earlier one began. */
  readonly run: string;
  readonly model: QueueModel;
  readonly methods: readonly EvalMethod[];
  /** Jobs a worker answers together. */
  readonly batchSize: number;
  /** Default false. */
  readonly strict?: boolean;
  /** Batches in the queue at the same time: at least as many as there are workers. Default 32. */
  readonly inFlight?: number;
  /** How many workers a batch may kill before its jobs are tried alone, and each of those before it fails. Default 2. */
  readonly retries?: number;
  /** How often the state of a batch is looked up, in case that the broker was restarted or an event was missed. Default 5. */
  readonly pollSeconds?: number;
  /** Told when no worker is there and when the broker is away. */
  readonly onWarning?: (message: string) => void;
}

/** How long a broker may take to take batches back. */
const PATIENCE_MS = 5000;
/** Results that no coordinator has collected are kept so long. */
const KEEP_SECONDS = 7 * 24 * 3600;

/**
 * Answers jobs through a queue on Redis or Valkey, on whatever machines run `accel worker --queue` with the same model. A
 * batch whose worker dies goes back into the queue; a result stays there until a coordinator has collected it.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT, ERR_ACCEL_QUEUE when the client is not installed or the broker cannot be reached
 */
export async function queueExecutor(options: QueueOptions): Promise<Executor> {
  const broker = await openBroker(options.url);
  const { bullmq, connection, time } = broker;
  const name = queueName(options.model);
  const queue = new bullmq.Queue(name, { connection });
  const events = new bullmq.QueueEvents(name, { connection, lastEventId: `${time}-0` });
  const executor = new QueueExecutor(options, broker, queue, events);
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
  return executor;
}

class QueueExecutor implements Executor {
  readonly slots: number;
  readonly batchSize: number;
  readonly #options: QueueOptions;
  readonly #broker: Broker;
  readonly #queue: Queue;
  readonly #events: QueueEvents;
  /** Wakes whoever waits for a batch, by its id. */
  readonly #waiting = new Map<string, () => void>();
  #warned = '';

  constructor(options: QueueOptions, broker: Broker, queue: Queue, events: QueueEvents) {
    this.slots = options.inFlight ?? 32;
    this.batchSize = options.batchSize;
    this.#options = options;
    this.#broker = broker;
    this.#queue = queue;
    this.#events = events;
    const away = (error: Error): void =>
      this.#warn(`The broker at ${broker.shown} is away: ${error.message}. Waiting for it.`);
    queue.on('error', away);
    events.on('error', away);
    const wake = ({ jobId }: { jobId: string }): void => this.#waiting.get(jobId)?.();
    events.on('completed', wake);
    events.on('failed', wake);
  }

  async run(jobs: readonly Job[], options: ExecuteOptions = {}): Promise<Outcome[]> {
    // Dead workers are counted in the queue, where restarts of this process do not make them forgotten.
    return answerDespiteLosses(jobs, 1, (batch) => this.#answer(batch, options.signal));
  }

  async #answer(jobs: readonly Job[], signal: AbortSignal | undefined): Promise<Outcome[]> {
    const { run, model, methods, batchSize, strict = false, retries = 2 } = this.#options;
    const used = new Set(jobs.map(({ method }) => method));
    const batch: QueuedBatch = {
      files: model.files,
      order: {
        methods: methods.filter(({ name }) => used.has(name)).map(packMethod),
        batchSize,
        strict,
      },
      jobs: jobs.map(packJob),
      retries,
    };
    const id = batchId(run, batch);
    try {
      const { returnvalue, failedReason } = await this.#finished(id, batch, signal);
      const result = batchResultSchema.safeParse(returnvalue);
      await this.#queue.remove(id);
      if (!result.success) {
        throw new WorkerLost(
          failedReason ?? 'it left a result that this version does not understand',
        );
      }
      if ('error' in result.data) throw unpackError(result.data.error);
      if ('lost' in result.data) throw new WorkerLost(`${result.data.lost} workers died with it`);
      return result.data.outcomes;
    } catch (error) {
      if (error instanceof WorkerLost || AccelError.isInstance(error)) throw error;
      throw queueError(`The queue at ${this.#broker.shown} failed: ${messageOf(error)}`, error);
    }
  }

  /** Puts a batch into the queue, unless it is there, and waits until a worker is through with it. */
  async #finished(
    id: string,
    batch: QueuedBatch,
    signal: AbortSignal | undefined,
  ): Promise<{ returnvalue?: unknown; failedReason?: string }> {
    for (;;) {
      // Before the state is looked up, so that no event falls in between.
      const woken = this.#sleep(id, signal);
      const state = await this.#queue.getJobState(id);
      if (state === 'completed' || state === 'failed') {
        this.#wake(id);
        const job = await this.#queue.getJob(id);
        if (job !== undefined) return job;
      } else if (state === 'unknown') {
        await this.#queue.add('batch', batch, {
          jobId: id,
          attempts: 1 + batch.retries,
          removeOnComplete: { age: KEEP_SECONDS },
          removeOnFail: { age: KEEP_SECONDS },
        });
      } else if (state === 'waiting') {
        await this.#lookForWorkers();
      }
      await woken;
      if (signal?.aborted === true) {
        // One that a worker has begun cannot be removed: its result will be there when the run goes on.
        await this.#queue.remove(id).catch(() => 0);
        throw new AccelError('ERR_ACCEL_ABORTED', 'The run was stopped.', { cause: signal.reason });
      }
    }
  }

  #sleep(id: string, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', wake);
        this.#waiting.delete(id);
        resolve();
      };
      const timer = globalThis.setTimeout(wake, 1000 * (this.#options.pollSeconds ?? 5));
      signal?.addEventListener('abort', wake);
      this.#waiting.set(id, wake);
      if (signal?.aborted === true) wake();
    });
  }

  #wake(id: string): void {
    this.#waiting.get(id)?.();
  }

  async #lookForWorkers(): Promise<void> {
    const { name } = this.#options.model;
    if ((await this.#queue.getWorkersCount()) > 0) return;
    this.#warn(
      `No worker has ${name} (${queueName(this.#options.model)}). Start some with: accel worker --queue ${this.#broker.shown} --model-path ...`,
    );
  }

  #warn(message: string): void {
    if (message === this.#warned) return;
    this.#warned = message;
    this.#options.onWarning?.(message);
  }

  /** Takes what no worker has begun out of the queue. Finished results stay, for the next coordinator of the run. */
  async [Symbol.asyncDispose](): Promise<void> {
    // A broker that is away must not keep this process alive.
    await Promise.race([this.#takeBack(), setTimeout(PATIENCE_MS, undefined, { ref: false })]);
    await Promise.all([this.#events.close(), this.#queue.close()]);
  }

  async #takeBack(): Promise<void> {
    const own = runPrefix(this.#options.run);
    const ids = await this.#queue.getRanges(['waiting', 'delayed']);
    for (const id of ids.filter((each) => each.startsWith(own))) await this.#queue.remove(id);
  }
}
