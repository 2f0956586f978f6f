import type { ChildProcess } from 'node:child_process';
import process from 'node:process';
import { AccelError, full } from '@accel/core';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { exitCode, fakeJob, kill, ScaleProcesses } from '../testing/scale.js';
import { deviceGroups } from './groups.js';
import { processPool, type PoolOptions } from './pool.js';
import { outcomesSchema } from './schemas.js';
import type { Executor, Job, Outcome } from './types.js';
import { jobsSchema, packError, packJob, unpackError, workOrderSchema } from './wire.js';

let processes: ScaleProcesses;
beforeAll(async () => {
  processes = await ScaleProcesses.build();
});
afterEach(() => processes.clear());
afterAll(() => processes.end());

const methods = [{ name: 'full', policy: full }];

function pool(options: Partial<PoolOptions> = {}): Executor {
  return processPool({ workers: [worker(), worker()], methods, batchSize: 4, ...options });
}

function worker(env: Record<string, string> = {}): PoolOptions['workers'][number] {
  return {
    command: process.execPath,
    args: [processes.script, 'ipc'],
    env: { ...processes.env, ...env },
  };
}

function predictions(outcomes: readonly Outcome[]): string[] {
  return outcomes.map((each) => ('answer' in each ? each.answer.prediction : each.failure.code));
}

describe('the wire', () => {
  const ids = fc.int32Array({ maxLength: 20 });
  const anyJob: fc.Arbitrary<Job> = fc.record({
    id: fc.string(),
    method: fc.string(),
    prompt: fc.record(
      {
        turns: fc.array(
          fc.record(
            {
              text: fc.string(),
              ids,
              answer: fc.nat(),
              user: fc.string(),
              answerPrefix: fc.string(),
            },
            { requiredKeys: ['text', 'ids', 'answer'] },
          ),
        ),
        stopIds: fc.array(fc.nat()),
        stop: fc.array(fc.string()),
        target: ids,
      },
      { requiredKeys: ['turns', 'stopIds', 'stop'] },
    ),
  });

  test('jobs arrive as they were sent', () => {
    fc.assert(
      fc.property(fc.array(anyJob, { maxLength: 3 }), (jobs) => {
        const sent = JSON.stringify(jobs.map(packJob));
        expect(jobsSchema.parse(JSON.parse(sent))).toEqual(jobs);
      }),
    );
  });

  test('a window into a larger array is sent without the rest', () => {
    const job = fakeJob(0);
    const target = Int32Array.of(9, 8, 7, 6).subarray(1, 3);
    const [arrived] = jobsSchema.parse([packJob({ ...job, prompt: { ...job.prompt, target } })]);
    expect(arrived?.prompt.target).toEqual(Int32Array.of(8, 7));
  });

  test('what is no job, order or outcome is refused', () => {
    const job = packJob(fakeJob(0));
    const cut = {
      ...job,
      prompt: { ...job.prompt, target: Buffer.from('abcde').toString('base64') },
    };
    expect(() => jobsSchema.parse([cut])).toThrow('5 bytes are not 32-bit token ids');
    expect(jobsSchema.safeParse([{ ...job, prompt: 'x' }]).success).toBe(false);
    expect(workOrderSchema.safeParse({ methods: [{}], batchSize: 1, strict: false }).success).toBe(
      false,
    );
    expect(outcomesSchema.safeParse([{ answer: { prediction: 'x' } }]).success).toBe(false);
    expect(outcomesSchema.safeParse([{ failure: { code: 'oops', message: '' } }]).success).toBe(
      false,
    );
  });

  test('errors keep their code; what is no AccelError is a defect', () => {
    const error = unpackError(packError(new AccelError('ERR_ACCEL_STRICT', 'never acted')));
    expect(AccelError.isInstance(error) && error.code).toBe('ERR_ACCEL_STRICT');
    expect(packError(new TypeError('x'))).toEqual({ code: 'ERR_ACCEL_INTERNAL', message: 'x' });
  });
});

describe('groups of devices', () => {
  const cuda = (devices: number[], gpNum: string): (string | undefined)[] =>
    deviceGroups(devices, gpNum, { env: {} }).places.map(({ env }) => env.CUDA_VISIBLE_DEVICES);

  test('n GPUs a model, n models a GPU, dealt round robin', () => {
    expect(cuda([0, 1, 3], '1')).toEqual(['0', '1', '3']);
    expect(cuda([0, 1, 2, 3], '2')).toEqual(['0,2', '1,3']);
    expect(cuda([0, 1], '1/2')).toEqual(['0', '1', '0', '1']);
    expect(deviceGroups([0, 1], '1/2', { env: {} }).places.map((place) => place.sharedBy)).toEqual([
      2, 2, 2, 2,
    ]);
  });

  test('GPUs that stay idle are named', () => {
    expect(deviceGroups([0, 1, 2, 3], '2', { env: {} }).warnings.join()).toMatch(/2, 3 stay idle/);
    expect(deviceGroups([0, 1], '1', { env: {} }).warnings).toEqual([]);
  });

  test('numbers count within CUDA_VISIBLE_DEVICES', () => {
    const env = { CUDA_VISIBLE_DEVICES: '4, GPU-abc' };
    expect(deviceGroups([1], '1', { env }).places[0]?.env).toEqual({
      CUDA_VISIBLE_DEVICES: 'GPU-abc',
    });
    expect(() => deviceGroups([2], '1', { env })).toThrow(/GPU 2 .* shows 2/);
    expect(() => deviceGroups([0], '1', { env: { CUDA_VISIBLE_DEVICES: '' } })).toThrow(/shows 0/);
  });

  test('CPU workers divide the threads', () => {
    const threads = (gpNum: string, env = {}): unknown[] =>
      deviceGroups('cpu', gpNum, { env, cores: 6 }).places.map((place) => place.env);
    expect(threads('1')).toEqual([{}]);
    expect(threads('1/2')).toEqual([{ ACCEL_THREADS: '3' }, { ACCEL_THREADS: '3' }]);
    expect(threads('1/2', { ACCEL_THREADS: '2' })).toEqual([
      { ACCEL_THREADS: '1' },
      { ACCEL_THREADS: '1' },
    ]);
    expect(threads('1/8')[0]).toEqual({ ACCEL_THREADS: '1' });
  });

  test.each([
    [[0, 1, 2], '2', /3 GPUs .* cannot be divided evenly into groups of 2/],
    [[0], '0', /gp_num is "0"/],
    [[0], '2/1', /gp_num is "2\/1"/],
    [[0, 0], '1', /GPU 0 is given twice/],
    [[], '1', /give GPU numbers/],
    ['cpu' as const, '2', /one CPU/],
  ])('%j with %s is an error', (devices, gpNum, message) => {
    expect(() => deviceGroups(devices, gpNum, { env: {} })).toThrow(message);
  });
});

describe('a pool of processes', () => {
  test('answers in order, each batch in one process, and tells of prompts that were read', async () => {
    await using executor = pool();
    expect(executor.slots).toBe(2);
    const onPrefilled = vi.fn();
    const batches = [0, 4, 8].map((first) => [0, 1, 2, 3].map((i) => fakeJob(first + i)));
    const outcomes = await Promise.all(batches.map((jobs) => executor.run(jobs, { onPrefilled })));
    expect(predictions(outcomes.flat())).toEqual(
      batches.flat().map(({ id }, i) => `${id}: ${i} -1 2147483647`),
    );
    expect(onPrefilled).toHaveBeenCalledTimes(12);
    expect(processes.workers()).toHaveLength(2);
  });

  test('a deadly job fails alone, and everything else is answered', async () => {
    const onWarning = vi.fn();
    await using executor = pool({ retries: 1, onWarning });
    const jobs = [fakeJob(0), fakeJob(1, 'deadly'), fakeJob(2, 'large')];
    const outcomes = await executor.run(jobs);
    expect(predictions(outcomes)).toEqual([
      'task_64/0/query-aware/full: 0 -1 2147483647',
      'ERR_ACCEL_WORKER',
      'ERR_ACCEL_OUT_OF_MEMORY',
    ]);
    expect(outcomes[1]).toEqual({
      failure: {
        code: 'ERR_ACCEL_WORKER',
        message: expect.stringMatching(/lost whenever it was tried.*killed by SIGKILL/) as string,
      },
    });
    // Twice with the batch and twice alone.
    expect(onWarning).toHaveBeenCalledTimes(4);
  });

  test('what would fail every job is thrown with its code', async () => {
    await using executor = pool();
    await expect(executor.run([fakeJob(0, 'strict')])).rejects.toMatchObject({
      code: 'ERR_ACCEL_STRICT',
    });
    await using wrong = pool({ methods: [{ name: 'missing', policy: full }] });
    await expect(wrong.run([fakeJob(0)])).rejects.toMatchObject({
      code: 'ERR_ACCEL_METHOD_UNKNOWN',
    });
  });

  test('a defect of the worker is tried again in a new process, then is the failure of its job', async () => {
    await using executor = pool({ retries: 1 });
    expect(await executor.run([fakeJob(3, 'defect')])).toEqual([
      {
        failure: {
          code: 'ERR_ACCEL_WORKER',
          message: expect.stringContaining('defect in task_64/3') as string,
        },
      },
    ]);
    expect(predictions(await executor.run([fakeJob(4)]))[0]).toMatch(/^task_64\/4/);
  });

  test('a worker that cannot start is an error with what it wrote', async () => {
    await using executor = pool({ workers: [worker({ ACCEL_TEST_FAIL: 'start' })], retries: 1 });
    await expect(executor.run([fakeJob(0)])).rejects.toMatchObject({
      code: 'ERR_ACCEL_WORKER',
      message: expect.stringMatching(/died 2 times before it was ready.*no luck/s) as string,
    });
    await using absent = pool({ workers: [{ command: '/nowhere/node', args: [] }], retries: 0 });
    await expect(absent.run([fakeJob(0)])).rejects.toThrow(/cannot be started: .*ENOENT/);
  });

  test('an abort stops the workers', async () => {
    await using executor = pool();
    const abort = new AbortController();
    const running = Promise.allSettled(
      [0, 1, 2].map((i) => executor.run([fakeJob(i, 'slow 20000')], { signal: abort.signal })),
    );
    await processes.until(() => processes.workers().length === 2);
    abort.abort();
    for (const run of await running) {
      expect(run).toMatchObject({ status: 'rejected', reason: { code: 'ERR_ACCEL_ABORTED' } });
    }
    await processes.until(() => processes.workers().length === 0);
  });

  test('disposing it ends busy and idle workers', async () => {
    const executor = pool();
    await executor.run([fakeJob(0)]);
    const busy = executor.run([fakeJob(1, 'slow 20000')]);
    const idle = executor.run([fakeJob(2)]);
    await idle;
    const rejected = expect(busy).rejects.toMatchObject({ code: 'ERR_ACCEL_ABORTED' });
    await executor[Symbol.asyncDispose]();
    await rejected;
    await processes.until(() => processes.workers().length === 0);
  });

  test('workers and the coordinator are killed at random: nothing is lost, nothing is there twice', async () => {
    const count = 240;
    const coordinate = (): ChildProcess =>
      processes.start(['coordinate'], { ACCEL_TEST_JOBS: String(count) });
    let coordinator = coordinate();
    for (let round = 0; round < 6; round++) {
      await processes.progress(8);
      if (round % 3 === 2) {
        await kill(coordinator);
        await processes.until(() => processes.workers().length === 0); // they do not outlive it
        coordinator = coordinate();
      } else {
        process.kill(processes.anyWorker(), 'SIGKILL');
      }
    }
    expect(await exitCode(coordinator)).toBe(0);
    const expected = Array.from({ length: count }, (_, i) => fakeJob(i).id);
    expect(processes.lines('records').sort()).toEqual(expected.sort());
    expect(processes.workers()).toEqual([]);
  });
});
