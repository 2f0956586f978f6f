import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AccelError } from '@accel/kernels';

/** Options of {@link RepoLock.acquire}. */
export interface LockOptions {
  readonly signal: AbortSignal;
  /** Called once when another process holds the lock, with who it is. */
  readonly onWait?: ((owner: string) => void) | undefined;
  /** How often the owner shows that it lives, in ms. Default 2000. */
  readonly beatMs?: number;
  /** How long a lock must stand still before it counts as left behind, in ms. Default 15000. */
  readonly staleMs?: number;
}

/**
 * A lock between processes, also of several machines that share the cache: a file that its owner touches every two
 * seconds. Node has no `flock`; a lock file that nobody touches any more was left by a process that was killed.
 *
 * It saves work and is not what keeps files right: contents are written at their place under a name made of their
 * hash, checked, and renamed.
 */
export class RepoLock {
  readonly #path: string;
  readonly #owner: string;
  readonly #timer: NodeJS.Timeout;
  #lost = false;

  private constructor(path: string, owner: string, beatMs: number) {
    this.#path = path;
    this.#owner = owner;
    this.#timer = setInterval(() => void this.#beat(), beatMs);
    this.#timer.unref();
  }

  /** Waits for the lock. */
  static async acquire(path: string, options: LockOptions): Promise<RepoLock> {
    const { beatMs = 2000, staleMs = 15_000, signal, onWait } = options;
    const owner = `process ${process.pid} on ${hostname()} (${randomBytes(8).toString('hex')})`;
    await mkdir(dirname(path), { recursive: true });
    let told = false;
    // The owner's clock may differ from ours, so what counts is that we saw no change, by our own clock.
    let seen = '';
    let since = performance.now();
    for (;;) {
      try {
        await writeFile(path, owner, { flag: 'wx' });
        return new RepoLock(path, owner, beatMs);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      if (!told) {
        told = true;
        onWait?.(((await read(path)) ?? 'another process').replace(/ \([0-9a-f]+\)$/, ''));
      }
      const now = await fingerprint(path);
      if (now !== seen) [seen, since] = [now, performance.now()];
      else if (performance.now() - since > staleMs) await breakLock(path, seen);
      await sleep(Math.min(beatMs, 500), undefined, { signal });
    }
  }

  /** @throws AccelError `ERR_ACCEL_BUSY` when the lock was taken over, as after a long sleep of the machine */
  assertHeld(): void {
    if (!this.#lost) return;
    throw new AccelError(
      'ERR_ACCEL_BUSY',
      'Another process took over this download while this one stood still. Pull again when it is done.',
    );
  }

  /** Lets others in. */
  async release(): Promise<void> {
    clearInterval(this.#timer);
    if ((await read(this.#path)) === this.#owner) await rm(this.#path, { force: true });
  }

  async #beat(): Promise<void> {
    if ((await read(this.#path)) !== this.#owner) {
      this.#lost = true;
      return;
    }
    const now = new Date();
    // A failure shows at the next beat, if the file is gone.
    await utimes(this.#path, now, now).catch(() => undefined);
  }
}

async function read(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined);
}

async function fingerprint(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  return found === undefined ? '' : `${found.ino} ${found.mtimeNs}`;
}

/** Removes a lock that stood still, unless another waiter was faster and it is a new one. */
async function breakLock(path: string, seen: string): Promise<void> {
  const aside = `${path}.${randomBytes(4).toString('hex')}`;
  if ((await fingerprint(path)) !== seen) return;
  await rename(path, aside).catch(() => undefined);
  const taken = await fingerprint(aside);
  // Between the look and the rename a new owner can have come: it gets its lock back.
  if (taken !== '' && taken !== seen) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}
