import { AccelError } from '@accel/core';
import type * as bullmqPackage from 'bullmq';
import type { Redis as RedisClient } from 'ioredis';
import { argumentError, messageOf } from '../errors.js';

/** The model that a run is about: workers that have another one never see its jobs. */
export interface QueueModel {
  /** For messages. */
  readonly name: string;
  /** Digest of the model's files, as `modelFingerprint` makes it. */
  readonly files: string;
  /** What it computes in, `float32` for example: another format gives other answers. */
  readonly dtype: string;
}

/** What is used of BullMQ. */
export type BullMq = Pick<
  typeof bullmqPackage,
  'Queue' | 'QueueEvents' | 'Worker' | 'WaitingError' | 'UnrecoverableError'
>;

/** BullMQ, and how to reach the broker with it. */
export interface Broker {
  readonly bullmq: BullMq;
  readonly connection: { readonly url: string };
  /** The broker's clock when it was asked, in milliseconds: where to start reading its events. */
  readonly time: number;
  /** The URL without its password. */
  readonly shown: string;
}

const CONNECT_MS = 5000;

/** The queue of a model: workers take from one queue, so a job cannot reach a worker with another model. */
export function queueName({ files, dtype }: QueueModel): string {
  return `accel-eval-${files}-${dtype}`;
}

/**
 * Loads the client and makes sure that a broker answers.
 *
 * @param url `redis://[user:password@]host[:port][/database]` of Redis or Valkey, `rediss://` for TLS
 * @throws AccelError ERR_ACCEL_ARGUMENT for no such URL; ERR_ACCEL_QUEUE when the client is not installed or the broker cannot
 * be reached
 */
export async function openBroker(url: string): Promise<Broker> {
  const shown = withoutPassword(url);
  const { bullmq, Redis } = await loadClients();
  const probe = new Redis(url, {
    lazyConnect: true,
    connectTimeout: CONNECT_MS,
    retryStrategy: () => null,
  });
  // The error of a refused connection comes as an event; connect() only says that it is closed.
  let reason: unknown;
  probe.on('error', (error) => (reason = error));
  try {
    await probe.connect();
    const [seconds = 0] = await probe.time();
    return { bullmq, connection: { url }, time: seconds * 1000, shown };
  } catch (error) {
    throw queueError(
      `The broker at ${shown} does not answer: ${messageOf(reason ?? error)}. Start a Redis or Valkey server there, or check the address and password.`,
      reason ?? error,
    );
  } finally {
    probe.disconnect();
  }
}

/** The queue cannot be used. */
export function queueError(message: string, cause?: unknown): AccelError {
  return new AccelError('ERR_ACCEL_QUEUE', message, { cause });
}

async function loadClients(): Promise<{ bullmq: BullMq; Redis: typeof RedisClient }> {
  try {
    const [bullmq, { Redis }] = await Promise.all([import('bullmq'), import('ioredis')]);
    return { bullmq, Redis };
  } catch (error) {
    throw queueError(
      `A queue needs the packages bullmq and ioredis, which are not installed with this one. Add them with: npm i bullmq@6 ioredis@6 (${messageOf(error)})`,
      error,
    );
  }
}

function withoutPassword(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^rediss?:$/.test(url.protocol)) {
    // Not printed: it may hold a password all the same.
    throw argumentError(
      'The URL of the queue is not one; it looks like redis://localhost:6379, or rediss:// for TLS.',
    );
  }
  return `${url.protocol}//${url.host}${url.pathname === '/' ? '' : url.pathname}`;
}
