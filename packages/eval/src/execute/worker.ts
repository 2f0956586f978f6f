import process from 'node:process';
import { z } from 'zod';
import { configError } from '../errors.js';
import { toWorkerSchema, type FromWorker } from './ipc.js';
import type { Executor } from './types.js';
import { packError, type WorkOrder } from './wire.js';

/** Makes what answers the jobs of an order. The order's policies are documents that this must read. */
export type OpenExecutor = (order: WorkOrder) => Promise<Executor>;

/**
 * Makes this process a worker of the process that started it with an IPC channel, as `processPool` does. Ends the process
 * when the parent closes the channel or dies.
 *
 * @returns never, in effect: the process ends first
 * @throws AccelError ERR_ACCEL_CONFIG when there is no IPC channel
 */
export async function serveParent(open: OpenExecutor): Promise<never> {
  if (process.send === undefined) {
    throw configError(
      'A worker of a process needs an IPC channel to it. Use accel eval --device, which starts workers by itself, or accel worker --queue.',
    );
  }
  let executor: Executor | undefined;
  let last = Promise.resolve();
  process.on('message', (message) => {
    last = last.then(async () => {
      tell(
        await answer(message).catch((error: unknown) => ({
          type: 'error',
          error: packError(error),
        })),
      );
    });
  });
  // Nobody is left to answer to, and native work must not keep the process (and its GPU memory) alive.
  process.once('disconnect', () => process.exit(0));
  return await new Promise<never>(() => undefined);

  async function answer(message: unknown): Promise<FromWorker> {
    const parsed = toWorkerSchema.safeParse(message);
    if (!parsed.success) {
      throw configError(
        `The parent process sent what this version does not understand: ${z.prettifyError(parsed.error)}`,
      );
    }
    if (parsed.data.type === 'open') {
      executor = await open(parsed.data.order);
      return { type: 'ready' };
    }
    if (executor === undefined) throw configError('The parent process sent jobs before its order.');
    const outcomes = await executor.run(parsed.data.jobs, {
      onPrefilled: (id, seconds) => tell({ type: 'prefilled', id, seconds }),
    });
    return { type: 'done', outcomes };
  }
}

function tell(message: FromWorker): void {
  if (process.connected) process.send?.(message);
}
