import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { missingRedis, RedisServer } from '@accel/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accel } from './fake-io.js';

const bin = resolve(import.meta.dirname, '../bin/accel.js');
const built = existsSync(resolve(import.meta.dirname, '../dist/bin.js'));

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-worker-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A small run; the methods of its policies are known to workers by their documents only. */
function evaluation(tag: string, ...options: string[]): string[] {
  const run = '--tasks niah_single_1 --lengths 1024 --limit 3 --batch-size 2 --no-report';
  const methods = ['--acceleration', 'full', 'snapkv+kivi', '--budgets', '128', '--strict'];
  const place = ['--output-dir', folder, '--save-tag', tag];
  return ['eval', ...run.split(' '), ...methods, ...place, ...options];
}

async function predictions(tag: string): Promise<Record<string, string>> {
  const lines = (await readFile(join(folder, tag, 'records.jsonl'), 'utf8')).trim().split('\n');
  const records = lines
    .slice(1)
    .map((line) => JSON.parse(line) as { id: string; prediction: string });
  return Object.fromEntries(records.map(({ id, prediction }) => [id, prediction]));
}

describe('accel worker', () => {
  it('says what it lacks', async () => {
    expect(await accel(['worker'])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining('--queue says where the work comes from') as string,
    });
  });
});

describe.skipIf(!built)('workers of the built command (needs dist, made by pnpm build)', () => {
  it('two processes give the answers of one', async () => {
    const alone = await accel(evaluation('alone'));
    expect(alone.exitCode, alone.stderr).toBe(0);
    const pool = await accel(evaluation('pool', '--device', 'cpu', '--gp_num', '1/2'));
    expect(pool.exitCode, pool.stderr).toBe(0);
    expect(Object.keys(await predictions('pool'))).toHaveLength(6);
    expect(await predictions('pool')).toEqual(await predictions('alone'));
  });

  it('tells what is wrong with the work, once and with its code', async () => {
    // A prompt of this length is no longer than its budget, so nothing is evicted.
    const idle = [
      '--acceleration',
      'snapkv',
      '--budgets',
      '4096',
      '--device',
      'cpu',
      '--gp_num',
      '1/2',
    ];
    const { exitCode, stderr } = await accel(evaluation('idle', ...idle));
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/ERR_ACCEL_STRICT/);

    const orphan = spawn(process.execPath, [bin, 'worker', '--ipc']);
    expect(await text(orphan.stderr)).toMatch(/ERR_ACCEL_CONFIG.*needs an IPC channel/);
  });

  describe.skipIf(missingRedis !== undefined)(
    `on a queue${missingRedis === undefined ? '' : ` [skipped: ${missingRedis}]`}`,
    () => {
      let redis: RedisServer;
      let worker: ChildProcess;
      beforeAll(async () => {
        redis = await RedisServer.start();
        worker = spawn(process.execPath, [bin, 'worker', '--queue', redis.url]);
      });
      afterAll(async () => {
        worker.kill('SIGKILL');
        await redis.end();
      });

      it('a worker gives the answers of one process, and ends at SIGTERM', async () => {
        let said = '';
        worker.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
        const run = await accel(evaluation('queue', '--queue', redis.url));
        expect(run.exitCode, run.stderr).toBe(0);
        expect(await predictions('queue')).toEqual(await predictions('alone'));
        worker.kill('SIGTERM');
        expect(await once(worker, 'exit')).toEqual([0, null]);
        expect(said).toMatch(/^Serving needle \(accel-eval-[0-9a-f]+-bfloat16\) from redis:/);
        expect(said + run.stderr).not.toContain('secret');
      });
    },
  );
});
