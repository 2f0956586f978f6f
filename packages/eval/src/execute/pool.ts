import { AccelError } from '@accel/core';
import { argumentError } from '../errors.js';
import { answerDespiteLosses, WorkerLost } from './retry.js';
import type { EvalMethod, ExecuteOptions, Executor, Job, Outcome } from './types.js';
import { WorkerProcess, type WorkerCommand } from './worker-process.js';
import { packMethod, type WorkOrder } from './wire.js';

/** Options of {@link processPool}. */
export interface PoolOptions {
  /** One process each; what they load is theirs. */
  readonly workers: readonly WorkerCommand[];
  readonly methods: readonly EvalMethod[];
  /** Jobs a worker answers together. */
  readonly batchSize: number;
  /** Default false. */
  readonly strict?: boolean;
  /** How often a batch is tried again after its worker died, and then each of its jobs alone. Default 2. */
  readonly retries?: number;
  /** Told of every worker that died and is started again. */
  readonly onWarning?: (message: string) => void;
}

/** A place for a worker; empty before the first batch and after a death. */
interface Slot {
  readonly number: number;
  readonly command: WorkerCommand;
  process?: WorkerProcess | undefined;
}

type Stoppable = ExecuteOptions & { readonly signal: AbortSignal };

/**
 * Answers jobs in worker processes, one batch a process at a time. A process that dies gives its batch back and is started
 * again. Processes end with this one, however it ends.
 */
export function processPool(options: PoolOptions): Executor {
  return new ProcessPool(options);
}

class ProcessPool implements Executor {
  readonly slots: number;
  readonly batchSize: number;
  readonly #order: WorkOrder;
  readonly #tries: number;
  readonly #warn: (message: string) => void;
  readonly #all: readonly Slot[];
  readonly #idle: Slot[];
  readonly #queue: ((slot: Slot) => void)[] = [];
  readonly #closing = new AbortController();

  constructor({
    workers,
    methods,
    batchSize,
    strict = false,
    retries = 2,
    onWarning,
  }: PoolOptions) {
    if (workers.length === 0) throw argumentError('A pool of workers needs at least one worker.');
    if (!Number.isSafeInteger(retries) || retries < 0) {
      throw argumentError(`retries is ${retries}; give a whole number of at least 0.`);
    }
    this.slots = workers.length;
    this.batchSize = batchSize;
    this.#order = { methods: methods.map(packMethod), batchSize, strict };
    this.#tries = 1 + retries;
    this.#warn = onWarning ?? (() => undefined);
    this.#all = workers.map((command, i): Slot => ({ number: i + 1, command }));
    this.#idle = [...this.#all];
  }

  async run(jobs: readonly Job[], options: ExecuteOptions = {}): Promise<Outcome[]> {
    const slot = this.#idle.shift() ?? (await new Promise<Slot>((free) => this.#queue.push(free)));
    const { signal: asked, ...rest } = options;
    const signal = AbortSignal.any([this.#closing.signal, ...(asked === undefined ? [] : [asked])]);
    try {
      return await answerDespiteLosses(jobs, this.#tries, (batch) =>
        this.#attempt(slot, batch, { ...rest, signal }),
      );
    } catch (error) {
      throw signal.aborted ? stopped(signal) : error;
    } finally {
      const next = this.#queue.shift();
      if (next === undefined) this.#idle.push(slot);
      else next(slot);
    }
  }

  async #attempt(slot: Slot, jobs: readonly Job[], options: Stoppable): Promise<Outcome[]> {
    if (slot.process?.alive !== true) slot.process = await this.#start(slot, options.signal);
    try {
      return await slot.process.run(jobs, options);
    } catch (error) {
      options.signal.throwIfAborted();
      if (error instanceof WorkerLost) {
        this.#warn(`Worker ${slot.number} was lost (${error.message}); its work is done again.`);
      }
      throw error;
    }
  }

  /** A worker that cannot even start would fail every job. */
  async #start(slot: Slot, signal: AbortSignal): Promise<WorkerProcess> {
    let reason = '';
    for (let i = 0; i < this.#tries; i++) {
      try {
        return await WorkerProcess.start(slot.command, this.#order, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof WorkerLost)) throw error;
        reason = error.message;
      }
    }
    throw new AccelError(
      'ERR_ACCEL_WORKER',
      `Worker ${slot.number} died ${this.#tries} times before it was ready. The last time: ${reason}`,
    );
  }

  /** Kills workers that are busy and lets the others end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#all.map(async (slot) => slot.process?.close()));
  }
}

function stopped(signal: AbortSignal): AccelError {
  return new AccelError('ERR_ACCEL_ABORTED', 'The workers were stopped.', { cause: signal.reason });
}
