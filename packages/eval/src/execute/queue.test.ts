import type { ChildProcess } from 'node:child_process';
import process from 'node:process';
import { full } from '@accel/core';
import { missingRedis, RedisServer } from '@accel/testkit';
import { Queue } from 'bullmq';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { exitCode, FAKE_MODEL, fakeJob, kill, ScaleProcesses } from '../testing/scale.js';
import { queueName } from './queue-broker.js';
import { batchId, type QueuedBatch } from './queue-job.js';
import { queueExecutor, type QueueOptions } from './queue.js';
import type { Executor, Outcome } from './types.js';
import { packJob } from './wire.js';

const because = missingRedis === undefined ? '' : ` [skipped: ${missingRedis}]`;

describe.skipIf(missingRedis !== undefined)(`a queue on a real broker${because}`, () => {
  let redis: RedisServer;
  let processes: ScaleProcesses;
  beforeAll(async () => {
    [redis, processes] = await Promise.all([RedisServer.start(), ScaleProcesses.build()]);
  });
  afterEach(async () => {
    for (const pid of processes.workers()) process.kill(pid, 'SIGKILL');
    await processes.until(() => processes.workers().length === 0);
    processes.clear();
    await using raw = await rawQueue();
    await raw.queue.obliterate({ force: true });
  });
  afterAll(async () => {
    await processes.end();
    await redis.end();
  });

  const startWorker = (env?: Record<string, string>): ChildProcess =>
    processes.start(['queue', redis.url], env);

  function queue(options: Partial<QueueOptions> = {}): Promise<Executor> {
    return queueExecutor({
      url: redis.url,
      run: 'run 1',
      model: FAKE_MODEL,
      methods: [{ name: 'full', policy: full }],
      batchSize: 4,
      pollSeconds: 0.5,
      ...options,
    });
  }

  test('two workers answer in order, and nothing is left', async () => {
    startWorker();
    startWorker();
    await using executor = await queue({ inFlight: 5 });
    expect(executor.slots).toBe(5);
    const batches = [0, 2, 4, 6, 8].map((first) => [fakeJob(first, 'slow 20'), fakeJob(first + 1)]);
    const outcomes = await Promise.all(batches.map((jobs) => executor.run(jobs)));
    expect(predictions(outcomes.flat())).toEqual(
      batches.flat().map(({ id }, i) => `${id}: ${i} -1 2147483647`),
    );
    expect(await counts()).toEqual({ waiting: 0, active: 0, completed: 0, failed: 0, delayed: 0 });
  });

  test('what would fail every job is thrown with its code; what concerns one job is its failure', async () => {
    startWorker();
    await using executor = await queue();
    await expect(executor.run([fakeJob(0, 'strict')])).rejects.toMatchObject({
      code: 'ERR_ACCEL_STRICT',
    });
    expect(predictions(await executor.run([fakeJob(1, 'large'), fakeJob(2)]))).toEqual([
      'ERR_ACCEL_OUT_OF_MEMORY',
      'task_64/2/query-aware/full: 2 -1 2147483647',
    ]);
    const [defect] = await executor.run([fakeJob(3, 'defect')]);
    expect(defect).toMatchObject({ failure: { code: 'ERR_ACCEL_WORKER' } });
  });

  test('workers with another model leave jobs alone, and the coordinator says that none is there', async () => {
    startWorker({ ACCEL_TEST_FILES: 'another0another0' });
    await processes.until(() => processes.workers().length === 1);
    const onWarning = vi.fn();
    await using executor = await queue({ onWarning });
    const answer = executor.run([fakeJob(0)]);
    await processes.until(() => onWarning.mock.calls.length > 0);
    expect(onWarning.mock.calls[0]?.[0]).toMatch(
      /No worker has fake .*accel worker --queue redis:\/\/127\.0\.0\.1:\d+ /,
    );
    expect(processes.lines('done')).toEqual([]);
    startWorker();
    expect(predictions(await answer)[0]).toMatch(/^task_64\/0/);
  });

  test('a worker refuses a batch for another model that was put into its queue', async () => {
    startWorker();
    const batch: QueuedBatch = {
      files: 'another0another0',
      order: { methods: [], batchSize: 1, strict: false },
      jobs: [packJob(fakeJob(0))],
      retries: 0,
    };
    await using raw = await rawQueue();
    const job = await raw.queue.add('batch', batch, { jobId: batchId('run 2', batch) });
    await vi.waitFor(async () => expect(await job.getState()).toBe('failed'), 10_000);
    const failed = await raw.queue.getJob(job.id ?? '');
    expect(failed?.failedReason).toMatch(/has the model 0123456789abcdef .* for another0another0/);
    await failed?.remove();
  });

  test('a deadly job fails alone', async () => {
    // As a supervisor would: whenever a worker dies, the next is started.
    const over = new AbortController();
    const supervisor = (async () => {
      while (!over.signal.aborted) await exitCode(startWorker());
    })();
    await using executor = await queue({ retries: 0 });
    const outcomes = await executor.run([fakeJob(0), fakeJob(1, 'deadly')]);
    expect(predictions(outcomes)).toEqual([
      'task_64/0/query-aware/full: 0 -1 2147483647',
      'ERR_ACCEL_WORKER',
    ]);
    over.abort();
    for (const pid of processes.workers()) process.kill(pid, 'SIGKILL');
    await supervisor;
  });

  test('SIGTERM finishes the batch, SIGINT gives it back', async () => {
    await using executor = await queue();
    const first = startWorker();
    const answer = executor.run([fakeJob(0, 'slow 400'), fakeJob(1)]);
    await active(1);
    first.kill('SIGTERM');
    expect(await exitCode(first)).toBe(0);
    expect(processes.lines('done')).toHaveLength(2);
    expect(predictions(await answer)).toHaveLength(2);

    const second = startWorker();
    const again = executor.run([fakeJob(2, 'slow 500')]);
    await active(1);
    second.kill('SIGINT');
    expect(await exitCode(second)).toBe(0);
    expect(await counts()).toMatchObject({ waiting: 1, active: 0 });
    startWorker();
    expect(predictions(await again)[0]).toMatch(/^task_64\/2/);
  });

  test('an abort takes batches back that nobody has begun', async () => {
    await using executor = await queue();
    const abort = new AbortController();
    const answer = executor.run([fakeJob(0)], { signal: abort.signal });
    await vi.waitFor(async () => expect(await counts()).toMatchObject({ waiting: 1 }));
    abort.abort();
    await expect(answer).rejects.toMatchObject({ code: 'ERR_ACCEL_ABORTED' });
    expect(await counts()).toMatchObject({ waiting: 0 });
  });

  test('a broker that forgets everything gets the batches again', async () => {
    await using executor = await queue();
    const answer = executor.run([fakeJob(0)]);
    await vi.waitFor(async () => expect(await counts()).toMatchObject({ waiting: 1 }));
    await redis.restart();
    startWorker();
    expect(predictions(await answer)[0]).toMatch(/^task_64\/0/);
  });

  test('workers and the coordinator are killed at random: nothing is lost, nothing is there twice', async () => {
    const count = 240;
    const coordinate = (): ChildProcess =>
      processes.start(['coordinate', redis.url], { ACCEL_TEST_JOBS: String(count) });
    for (let i = 0; i < 3; i++) startWorker();
    let coordinator = coordinate();
    for (let round = 0; round < 6; round++) {
      await processes.progress(8);
      if (round % 3 === 2) {
        await kill(coordinator);
        coordinator = coordinate();
      } else {
        process.kill(processes.anyWorker(), 'SIGKILL');
        startWorker();
      }
    }
    expect(await exitCode(coordinator)).toBe(0);
    const expected = Array.from({ length: count }, (_, i) => fakeJob(i).id);
    expect(processes.lines('records').sort()).toEqual(expected.sort());
    // A worker that lives to the end of a batch has not worked in vain, except for what was under way in a kill.
    expect(processes.lines('done').length).toBeLessThan(count + 6 * 3 * 4);
  });

  test('what a worker finished while there was no coordinator is picked up', async () => {
    startWorker();
    const first = processes.start(['coordinate', redis.url], { ACCEL_TEST_JOBS: '24' });
    await processes.until(() => processes.lines('done').length >= 2);
    await kill(first);
    const [recorded, begun] = [processes.lines('records').length, await counts()];
    // It had six batches in the queue at the most; the worker goes on with them.
    await vi.waitFor(
      async () => expect(await counts()).toMatchObject({ waiting: 0, active: 0 }),
      10_000,
    );
    const done = processes.lines('done').length;
    const second = processes.start(['coordinate', redis.url], { ACCEL_TEST_JOBS: '24' });
    expect(await exitCode(second)).toBe(0);
    expect(recorded).toBeLessThan(24);
    expect(begun.active).toBe(1);
    expect(done).toBe(24);
    expect(processes.lines('done')).toHaveLength(24);
    expect(processes.lines('records')).toHaveLength(24);
  });

  test('an unreachable broker and a wrong password are errors that do not print the password', async () => {
    const nowhere = queue({ url: 'redis://me:secret@127.0.0.1:1/2' });
    await expect(nowhere).rejects.toMatchObject({
      code: 'ERR_ACCEL_QUEUE',
      message: expect.stringMatching(
        /^The broker at redis:\/\/127\.0\.0\.1:1\/2 .*ECONNREFUSED/,
      ) as string,
    });
    const wrong = await queue({ url: redis.url.replace('secret', 'guess') }).catch(String);
    expect(wrong).toMatch(/does not answer: .*(WRONGPASS|invalid)/i);
    expect(wrong).not.toMatch(/guess/);
    const odd = await queue({ url: 'localhost:secret' }).catch(String);
    expect(odd).toMatch(/looks like redis:/);
    expect(odd).not.toMatch(/secret/);
  });

  async function rawQueue(): Promise<{ queue: Queue } & AsyncDisposable> {
    const queue = new Queue(queueName(FAKE_MODEL), { connection: { url: redis.url } });
    await queue.waitUntilReady();
    return { queue, [Symbol.asyncDispose]: () => queue.close() };
  }

  async function counts(): Promise<Record<string, number>> {
    await using raw = await rawQueue();
    return await raw.queue.getJobCounts('waiting', 'active', 'completed', 'failed', 'delayed');
  }

  async function active(jobs: number): Promise<void> {
    await vi.waitFor(async () => expect(await counts()).toMatchObject({ active: jobs }), 10_000);
  }
});

function predictions(outcomes: readonly Outcome[]): string[] {
  return outcomes.map((each) => ('answer' in each ? each.answer.prediction : each.failure.code));
}
