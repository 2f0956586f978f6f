/**
 * The processes of the tests of pool and queue, bundled by them: `ipc` and `queue` are workers whose answers are made up,
 * `coordinate` runs jobs and writes a line a record, and goes on where it was killed.
 */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout } from 'node:timers/promises';
import { AccelError, full } from '@accel/core';
import { processPool } from '../execute/pool.js';
import { serveQueue } from '../execute/queue-worker.js';
import { queueExecutor } from '../execute/queue.js';
import type { Executor, Job, Outcome } from '../execute/types.js';
import { serveParent } from '../execute/worker.js';
import { FAKE_MODEL, fakeJob } from './scale.js';

/** Everything that a process leaves behind for the test is here. */
const folder = process.env.ACCEL_TEST_FOLDER ?? '.';
const [, script = '', role, url = ''] = process.argv;

switch (role) {
  case 'ipc':
    announce();
    if (process.env.ACCEL_TEST_FAIL === 'start') throw new Error('no luck');
    await serveParent(({ methods }) => {
      if (methods.some(({ name }) => name === 'missing')) {
        throw new AccelError('ERR_ACCEL_METHOD_UNKNOWN', 'There is no method called "missing".');
      }
      return Promise.resolve(fakeExecutor());
    });
    break;
  case 'queue': {
    announce();
    const [finish, stop] = [new AbortController(), new AbortController()];
    process.once('SIGTERM', () => finish.abort());
    process.once('SIGINT', () => stop.abort());
    await serveQueue({
      url,
      model: { ...FAKE_MODEL, files: process.env.ACCEL_TEST_FILES ?? FAKE_MODEL.files },
      open: () => Promise.resolve(fakeExecutor()),
      finish: finish.signal,
      stop: stop.signal,
      lockSeconds: 1,
    });
    break;
  }
  case 'coordinate':
    await coordinate();
    break;
  default:
    throw new Error(`no role ${String(role)}`);
}

/** So that the test knows whom it can kill. */
function announce(): void {
  writeFileSync(join(folder, `worker-${process.pid}`), '');
}

function fakeExecutor(): Executor {
  return {
    slots: 1,
    batchSize: 4,
    async run(jobs, { signal, onPrefilled } = {}) {
      const outcomes: Outcome[] = [];
      for (const job of jobs) {
        await act(job, signal);
        onPrefilled?.(job.id, 0.5);
        outcomes.push(answerOf(job));
        appendFileSync(join(folder, 'done'), `${job.id}\n`);
      }
      return outcomes;
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** What a job does is in its text. */
async function act({ id, prompt }: Job, signal: AbortSignal | undefined): Promise<void> {
  const text = prompt.turns[0]?.text ?? '';
  await setTimeout(Number(/slow (\d+)/.exec(text)?.[1] ?? 2), undefined, signal && { signal });
  if (text.includes('deadly')) process.kill(process.pid, 'SIGKILL');
  if (text.includes('strict')) {
    throw new AccelError('ERR_ACCEL_STRICT', 'snapkv never acted.');
  }
  if (text.includes('defect')) throw new TypeError(`defect in ${id}`);
}

function answerOf({ id, prompt }: Job): Outcome {
  if (prompt.turns[0]?.text.includes('large') === true) {
    return { failure: { code: 'ERR_ACCEL_OUT_OF_MEMORY', message: 'too large' } };
  }
  const ids = prompt.turns.flatMap((turn) => [...turn.ids]);
  return {
    answer: {
      prediction: `${id}: ${ids.join(' ')}`,
      promptTokens: ids.length,
      newTokens: 1,
      finish: 'eos',
      prefillSeconds: 0.5,
      decodeTokens: 0,
      decodeSeconds: 0,
    },
  };
}

/** A run as the real one is: a batch in each slot, one writer, and records that are there are not made again. */
async function coordinate(): Promise<void> {
  const file = join(folder, 'records');
  const there = existsSync(file) ? readFileSync(file, 'utf8').split('\n') : [];
  const count = Number(process.env.ACCEL_TEST_JOBS);
  const missing = Array.from({ length: count }, (_, i) => fakeJob(i, 'slow 5')).filter(
    ({ id }) => !there.includes(id),
  );
  const methods = [{ name: 'full', policy: full }];
  const worker = { command: process.execPath, args: [script, 'ipc'] };
  await using executor =
    url === ''
      ? processPool({ workers: [worker, worker], methods, batchSize: 4, retries: 50 })
      : await queueExecutor({
          url,
          run: 'run 1',
          model: FAKE_MODEL,
          methods,
          batchSize: 4,
          retries: 50,
          inFlight: 6,
        });
  await Promise.all(
    Array.from({ length: executor.slots }, async () => {
      for (let jobs = missing.splice(0, 4); jobs.length > 0; jobs = missing.splice(0, 4)) {
        const outcomes = await executor.run(jobs);
        const lines = jobs.flatMap(({ id }, i) => ('answer' in (outcomes[i] ?? {}) ? id : []));
        appendFileSync(file, lines.map((line) => `${line}\n`).join(''));
      }
    }),
  );
}
