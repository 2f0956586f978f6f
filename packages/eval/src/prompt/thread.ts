import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { AccelError, type AccelErrorCode } from '@accel/core';
import type { BenchmarkConfig } from '../config/types.js';
import type { Prepared, PromptRequest, PromptSource } from './maker.js';
import type { PromptOptions } from './format.js';

/** What the thread is started with. */
export interface ThreadStart {
  readonly config: BenchmarkConfig;
  /** Where the model's config and tokenizer are. */
  readonly modelPath: string;
  /** Positions that the model may use, if not its own number. */
  readonly contextLength: number;
  readonly options: PromptOptions;
}

/** What it sends back. */
export type ThreadReply =
  | { readonly id: number; readonly prepared: Prepared | undefined }
  | { readonly id: number; readonly error: { readonly code?: string; readonly message: string } };

/** A request on its way. */
interface Waiting {
  readonly resolve: (prepared: Prepared | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** The compiled thread, which lies beside the compiled package; sources run in tests alone, and there without a thread. */
const ENTRY = new URL('./prompt-thread.js', import.meta.url);

/** Whether {@link PromptThread} can run: not from TypeScript sources. */
export const canUseThread: boolean = !import.meta.url.endsWith('.ts');

/**
 * Makes prompts on a thread of its own. Tokenizing 128K tokens takes most of a second; on this thread a GPU that decodes
 * would stand still meanwhile.
 */
export class PromptThread implements PromptSource {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #requests = 0;

  constructor(start: ThreadStart) {
    this.#worker = new Worker(fileURLToPath(ENTRY), { workerData: start });
    this.#worker.on('message', (reply: ThreadReply) => {
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if ('error' in reply) waiting?.reject(revive(reply.error));
      else waiting?.resolve(reply.prepared);
    });
    this.#worker.on('error', (error) => this.#fail(error));
    this.#worker.on('exit', () => {
      this.#fail(new AccelError('ERR_ACCEL_INTERNAL', 'The thread that makes prompts ended.'));
    });
  }

  prepare(request: PromptRequest): Promise<Prepared | undefined> {
    const id = this.#requests++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, request });
    });
  }

  #fail(error: unknown): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

/** Errors cross threads as data. */
function revive({ code, message }: { code?: string; message: string }): Error {
  return code === undefined ? new Error(message) : new AccelError(code as AccelErrorCode, message);
}
