import { createHash } from 'node:crypto';
import { realpath, mkdir } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AccelError } from '@accel/core';

/**
 * Keeps two processes of a machine from writing into one run: a socket named after the folder. The kernel gives the name
 * back when its process ends, however it ends, so that nothing stale is left after a kill -9.
 *
 * Elsewhere than on Linux sockets are files that outlive a crash, so there the lock is not taken.
 *
 * @returns lets others in
 * @throws AccelError ERR_ACCEL_BUSY
 */
export async function lockRun(folder: string): Promise<() => Promise<void>> {
  await mkdir(folder, { recursive: true });
  if (process.platform !== 'linux') return () => Promise.resolve();
  const name = createHash('sha256')
    .update(await realpath(folder))
    .digest('hex')
    .slice(0, 32);
  const server = createServer();
  await listen(server, `\0${join(tmpdir(), `accel-run-${name}`)}`, folder);
  server.unref();
  return () => new Promise((resolve) => server.close(() => resolve()));
}

function listen(server: Server, path: string, folder: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const busy = new AccelError(
        'ERR_ACCEL_BUSY',
        `Another process is writing the run in ${folder}. Wait for it, or choose another output folder.`,
      );
      reject(error.code === 'EADDRINUSE' ? busy : error);
    });
    server.listen(path, resolve);
  });
}
