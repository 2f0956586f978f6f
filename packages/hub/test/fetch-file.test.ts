import { readFile, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errorWith } from '@accel/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fetchFile, pull, type FetchOptions, type FetchProgress } from '../src/index.js';
import { Workbench, noise, sha256 } from './workbench.js';

const CONTENT = noise(50_000);
const SHA256 = sha256(CONTENT);

/** A server with one file, and where it goes. */
async function withFile(content: Uint8Array = CONTENT) {
  const bench = await Workbench.open();
  bench.hub.commit('org/files', { 'file.bin': { content } });
  const url = `${bench.hub.url}/org/files/resolve/main/file.bin`;
  const path = join(bench.cacheDir, 'deep', 'file.bin');
  return {
    hub: bench.hub,
    url,
    path,
    fetch: (options: FetchOptions = {}) =>
      fetchFile(url, path, { retry: { attempts: 3, delayMs: 1 }, ...options }),
    [Symbol.asyncDispose]: () => bench[Symbol.asyncDispose](),
  };
}

describe('fetchFile', () => {
  it('downloads from any address, and leaves the file alone in its folder', async () => {
    await using server = await withFile();
    const progress: FetchProgress[] = [];
    const fetched = await server.fetch({ onProgress: (step) => progress.push(step) });
    expect(fetched).toEqual({ bytes: CONTENT.length, sha256: SHA256 });
    expect(sha256(await readFile(server.path))).toBe(SHA256);
    expect(await readdir(dirname(server.path))).toEqual(['file.bin']);
    expect(progress.at(-1)).toEqual({ doneBytes: 50_000, totalBytes: 50_000, reusedBytes: 0 });
  });

  it('goes on from any byte after a cut, whether or not the hash is known', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 30_000 }), { maxLength: 3 }),
        fc.boolean(),
        fc.boolean(),
        async (cuts, known, ignoreRange) => {
          await using server = await withFile();
          const left = [...cuts];
          server.hub.fault = (request) => {
            if (!request.path.includes('resolve-cache')) return undefined;
            const cutAfter = left.shift();
            return { ...(cutAfter !== undefined && { cutAfter }), ignoreRange };
          };
          const options = known ? { sha256: SHA256, bytes: CONTENT.length } : {};
          const retry = { attempts: 5, delayMs: 1 };
          expect((await server.fetch({ ...options, retry })).sha256).toBe(SHA256);
        },
      ),
      { numRuns: 12 },
    );
  });

  it('goes on where another process stopped, if the hash tells what it left', async () => {
    await using server = await withFile();
    await server.fetch();
    for (const known of [true, false]) {
      await writeFile(`${server.path}.incomplete`, CONTENT.subarray(0, 20_000));
      server.hub.requests.length = 0;
      const steps: FetchProgress[] = [];
      await server.fetch({
        ...(known && { sha256: SHA256 }),
        onProgress: (step) => steps.push(step),
      });
      expect(server.hub.requests.at(-1)?.range).toBe(known ? 'bytes=20000-' : undefined);
      expect(steps.at(-1)?.reusedBytes).toBe(known ? 20_000 : 0);
    }
    // What is left may be damaged.
    await writeFile(`${server.path}.incomplete`, noise(20_000, 7));
    expect((await server.fetch({ sha256: SHA256 })).sha256).toBe(SHA256);
  });

  it('refuses other contents and other sizes', async () => {
    await using server = await withFile();
    await expect(server.fetch({ sha256: sha256('other') })).rejects.toThrow(
      errorWith('ERR_ACCEL_CHECKSUM', /50000 bytes\) than was expected \(SHA-256/),
    );
    await expect(server.fetch({ bytes: 49_000 })).rejects.toThrow(errorWith('ERR_ACCEL_CHECKSUM'));
    await expect(server.fetch({ bytes: 51_000 })).rejects.toThrow(errorWith('ERR_ACCEL_CHECKSUM'));
    expect(await readdir(dirname(server.path))).not.toContain('file.bin');
  });

  it('says what is wrong with the address or the server', async () => {
    await using server = await withFile();
    const { url, path } = server;
    await expect(fetchFile('ftp://x/y', path)).rejects.toThrow(errorWith('ERR_ACCEL_ARGUMENT'));
    await expect(fetchFile(`${url}.txt`, path)).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', /There is nothing at .*file\.bin\.txt .*404/),
    );
    server.hub.fault = () => ({ status: 503 });
    await expect(server.fetch()).rejects.toThrow(errorWith('ERR_ACCEL_HUB', /status 503/));
    const retry = { attempts: 1 };
    await expect(fetchFile('http://127.0.0.1:9/x', path, { retry })).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', /Cannot download from http:\/\/127\.0\.0\.1:9.*the address/),
    );
  });

  it('stops', async () => {
    await using server = await withFile();
    server.hub.fault = () => ({ hangAfter: 10_000 });
    const stop = new AbortController();
    const pending = server.fetch({
      signal: stop.signal,
      sha256: SHA256,
      onProgress: ({ doneBytes }) => {
        if (doneBytes >= 10_000) stop.abort();
      },
    });
    await expect(pending).rejects.toThrow(errorWith('ERR_ACCEL_ABORTED', /pull again to go on/));
    server.hub.fault = undefined;
    await server.fetch({ sha256: SHA256 });
    expect(server.hub.requests.at(-1)?.range).toBe('bytes=10000-');
  });
});

describe('pull of a data set', () => {
  it('takes the files that are asked for into the folder of the data set', async () => {
    await using bench = await Workbench.open();
    const repo = 'datasets/org/set';
    const commit = bench.hub.commit(repo, {
      'data.zip': { content: CONTENT, lfs: true },
      'README.md': { content: 'about' },
    });
    const { path, files } = await bench.pull(repo, { include: ['data.zip'] });
    expect(path).toBe(join(bench.cacheDir, 'datasets--org--set', 'snapshots', commit));
    expect(files).toEqual(['data.zip']);
    expect(sha256(await readFile(join(path, 'data.zip')))).toBe(SHA256);
    expect((await bench.pull(repo)).files).toEqual(['data.zip', 'README.md']);
    const env = { HF_HUB_OFFLINE: '1' };
    expect((await bench.pull(repo, { env })).path).toBe(path);
    const elsewhere = { endpoint: bench.hub.url, cacheDir: bench.cacheDir, env: {} };
    await expect(pull('datasets/org/none', elsewhere)).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', /There is no data set datasets\/org\/none/),
    );
  });
});
