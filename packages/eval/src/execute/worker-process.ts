import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fromWorkerSchema, type FromWorker, type ToWorker } from './ipc.js';
import { WorkerLost } from './retry.js';
import type { ExecuteOptions, Job, Outcome } from './types.js';
import { packJob, unpackError, type WorkOrder } from './wire.js';

/** The command line of a worker. */
export interface WorkerCommand {
  /** A Node.js executable: the IPC channel is Node's. */
  readonly command: string;
  readonly args: readonly string[];
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** How long a worker may take to end by itself. */
const PATIENCE_MS = 2000;
/** Of what a worker wrote to standard error, the last characters are kept to explain its death. */
const TAIL = 2000;

/** One child process that answers batches, one at a time. When it has died, it stays dead. */
export class WorkerProcess {
  readonly #child: ChildProcess;
  #tail = '';
  #died: WorkerLost | undefined;
  #waiting: PromiseWithParts | undefined;
  #onPrefilled: ExecuteOptions['onPrefilled'];

  private constructor({ command, args, env }: WorkerCommand) {
    this.#child = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#tail = (this.#tail + text).slice(-TAIL);
    });
    this.#child.on('message', (message) => this.#hear(message));
    this.#child.on('error', (error) => this.#end(`${command} cannot be started: ${error.message}`));
    // Not 'exit': what it wrote last comes after that.
    this.#child.on('close', (code, signal) => {
      const how =
        signal === null ? `ended with exit code ${code ?? 'unknown'}` : `was killed by ${signal}`;
      const said = this.#tail.trim();
      this.#end(said === '' ? `it ${how}` : `it ${how} and wrote: ${said}`);
    });
  }

  /**
   * Starts a worker and waits until it is ready.
   *
   * @throws WorkerLost when it died before; the AccelError that the worker answered to the order
   */
  static async start(
    command: WorkerCommand,
    order: WorkOrder,
    signal?: AbortSignal,
  ): Promise<WorkerProcess> {
    const worker = new WorkerProcess(command);
    try {
      await worker.#ask({ type: 'open', order }, signal);
      return worker;
    } catch (error) {
      worker.kill();
      throw error;
    }
  }

  /** False when it has died, of itself or because it was killed. */
  get alive(): boolean {
    return this.#died === undefined;
  }

  /** @throws WorkerLost when it dies meanwhile; the AccelError that the worker answered */
  async run(jobs: readonly Job[], options: ExecuteOptions = {}): Promise<Outcome[]> {
    this.#onPrefilled = options.onPrefilled;
    const answer = await this.#ask({ type: 'run', jobs: jobs.map(packJob) }, options.signal);
    if (answer.type === 'done' && answer.outcomes.length === jobs.length) return answer.outcomes;
    this.kill();
    throw new WorkerLost('it did not answer every job of the batch');
  }

  kill(): void {
    this.#child.kill('SIGKILL');
    this.#end('it was stopped');
  }

  /** Lets it end by itself; kills it when it does not. */
  async close(): Promise<void> {
    if (!this.alive) return;
    // Not 'close', which does not come when it is this side that closes the channel.
    const gone = once(this.#child, 'exit');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), PATIENCE_MS);
    this.#child.disconnect();
    await gone;
    clearTimeout(timer);
  }

  async #ask(message: ToWorker, signal: AbortSignal | undefined): Promise<FromWorker> {
    signal?.throwIfAborted();
    const abort = (): void => this.kill();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await new Promise<FromWorker>((resolve, reject) => {
        if (this.#died !== undefined) throw this.#died;
        this.#waiting = { resolve, reject };
        // A failed send is followed by the end of the process, which tells more.
        this.#child.send(message, () => undefined);
      });
    } finally {
      this.#waiting = undefined;
      signal?.removeEventListener('abort', abort);
    }
  }

  #hear(message: unknown): void {
    const { success, data } = fromWorkerSchema.safeParse(message);
    if (!success) {
      this.#child.kill('SIGKILL');
      this.#end('it answered what this version does not understand');
    } else if (data.type === 'prefilled') {
      this.#onPrefilled?.(data.id, data.seconds);
    } else if (data.type !== 'error') {
      this.#waiting?.resolve(data);
    } else if (data.error.code === 'ERR_ACCEL_INTERNAL') {
      // A defect, or a GPU context that is broken for good: a new process may do better.
      this.#child.kill('SIGKILL');
      this.#end(data.error.message);
    } else {
      this.#waiting?.reject(unpackError(data.error));
    }
  }

  #end(reason: string): void {
    this.#died ??= new WorkerLost(reason);
    this.#waiting?.reject(this.#died);
  }
}

interface PromiseWithParts {
  resolve(message: FromWorker): void;
  reject(error: Error): void;
}
