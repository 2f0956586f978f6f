import { mkdtemp, readFile, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorWith } from '@accel/testkit';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RepoLock } from '../src/repo-lock.js';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-lock-'));
  path = join(folder, 'accel.lock');
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const { signal } = new AbortController();
const QUICK = { signal, beatMs: 20, staleMs: 400 };

describe('RepoLock', () => {
  it('lets one in at a time', async () => {
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 6 }, async () => {
        const lock = await RepoLock.acquire(path, QUICK);
        most = Math.max(most, (inside += 1));
        await sleep(10);
        inside -= 1;
        await lock.release();
      }),
    );
    expect(most).toBe(1);
    expect(await readdir(folder)).toEqual([]);
  });

  it('takes over a lock that stands still, once', async () => {
    await writeFile(path, 'process 1 on elsewhere (00)');
    // A clock that is ahead does not keep the lock alive.
    const future = new Date(Date.now() + 3_600_000);
    await utimes(path, future, future);
    const waited: string[] = [];
    const began = performance.now();
    let inside = 0;
    await Promise.all(
      Array.from({ length: 3 }, async () => {
        const onWait = (owner: string): unknown => waited.push(owner);
        const lock = await RepoLock.acquire(path, { ...QUICK, onWait });
        expect((inside += 1)).toBe(1);
        await sleep(50);
        inside -= 1;
        lock.assertHeld();
        await lock.release();
      }),
    );
    expect(performance.now() - began).toBeGreaterThan(QUICK.staleMs);
    expect(waited[0]).toBe('process 1 on elsewhere');
    expect(await readdir(folder)).toEqual([]);
  });

  it('stays with an owner that lives', async () => {
    const lock = await RepoLock.acquire(path, QUICK);
    const stop = new AbortController();
    const second = RepoLock.acquire(path, { ...QUICK, signal: stop.signal });
    await sleep(3 * QUICK.staleMs);
    stop.abort();
    await expect(second).rejects.toThrow('aborted');
    lock.assertHeld();
    await lock.release();
  });

  it('tells an owner that lost it', async () => {
    const lock = await RepoLock.acquire(path, QUICK);
    await writeFile(path, 'another');
    await vi.waitFor(() => {
      expect(() => lock.assertHeld()).toThrow(
        errorWith('ERR_ACCEL_BUSY', 'took over this download'),
      );
    });
    await lock.release();
    expect(await readFile(path, 'utf8')).toBe('another');
  });
});
