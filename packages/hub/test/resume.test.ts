import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorWith, type FakeFault, type FakeRequest } from '@accel/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Workbench, noise, sha256 } from './workbench.js';

const REPO = 'acme/tiny-1B';
const WEIGHTS = noise(300_000);
const SHA256 = sha256(WEIGHTS);
const MODEL = {
  'config.json': { content: '{}' },
  'model.safetensors': { content: WEIGHTS, lfs: true },
};

async function benchWithModel(): Promise<Workbench & { partial: string; blob: string }> {
  const bench = await Workbench.open();
  bench.hub.commit(REPO, MODEL);
  const blobs = join(bench.cacheDir, 'models--acme--tiny-1B/blobs');
  await mkdir(blobs, { recursive: true });
  const blob = join(blobs, SHA256);
  return Object.assign(bench, { blob, partial: `${blob}.incomplete` });
}

/** Faults for the requests to the storage of large files, in order; none after the last. */
function onStorage(
  ...faults: (FakeFault | undefined)[]
): (request: FakeRequest) => FakeFault | undefined {
  return ({ server }) => (server === 'cdn' ? faults.shift() : undefined);
}

function ranges(bench: Workbench): (string | undefined)[] {
  return bench.hub.downloads('model.safetensors').map(({ range }) => range);
}

/** SHA-256 of the weights that a pull brought. */
async function weights(path: string): Promise<string> {
  return sha256(await readFile(join(path, 'model.safetensors')));
}

describe('a cut connection', () => {
  it('is taken up where it broke, as often as bytes arrive', async () => {
    await using bench = await benchWithModel();
    bench.hub.fault = onStorage(...Array.from({ length: 5 }, () => ({ cutAfter: 50_000 })));
    const { path } = await bench.pull(REPO, { retry: { attempts: 2, delayMs: 1 } });
    expect(await weights(path)).toBe(SHA256);
    const [first, ...rest] = ranges(bench);
    expect(first).toBeUndefined();
    expect(rest).toHaveLength(5);
    for (const range of rest) expect(range).toMatch(/^bytes=\d+-$/);
    expect(existsSync(bench.partial)).toBe(false);
  });

  it('gives up after some tries that bring nothing, and leaves what it has', async () => {
    await using bench = await benchWithModel();
    let request = 0;
    bench.hub.fault = ({ server }) =>
      server === 'cdn' ? { cutAfter: request++ === 0 ? 100_000 : 0 } : undefined;
    await expect(bench.pull(REPO)).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', 'what was received is kept'),
    );
    expect(ranges(bench)).toHaveLength(4);
    const { size } = await stat(bench.partial);
    expect(size).toBeGreaterThan(0);
    bench.hub.fault = undefined;
    bench.hub.requests.length = 0;
    const { path, downloadedBytes } = await bench.pull(REPO);
    expect(ranges(bench)).toEqual([`bytes=${size}-`]);
    expect(downloadedBytes).toBe(WEIGHTS.length - size);
    expect(await weights(path)).toBe(SHA256);
  });

  it('and a silent one', async () => {
    await using bench = await benchWithModel();
    bench.hub.fault = onStorage({ hangAfter: 65_536 });
    const { path } = await bench.pull(REPO, { stallMs: 200 });
    expect(ranges(bench)).toEqual([undefined, 'bytes=65536-']);
    expect(await weights(path)).toBe(SHA256);
  });

  it('is taken up by another process, from any byte', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: WEIGHTS.length }), async (length) => {
        await using bench = await benchWithModel();
        await writeFile(bench.partial, WEIGHTS.subarray(0, length));
        const { path } = await bench.pull(REPO);
        expect(await weights(path)).toBe(SHA256);
        const expected = length === 0 ? [undefined] : [`bytes=${length}-`];
        expect(ranges(bench)).toEqual(length === WEIGHTS.length ? [] : expected);
      }),
      { numRuns: 20, examples: [[0], [1], [WEIGHTS.length - 1], [WEIGHTS.length]] },
    );
  });
});

describe('a server that does not continue', () => {
  it('sends all of it', async () => {
    await using bench = await benchWithModel();
    await writeFile(bench.partial, WEIGHTS.subarray(0, 100_000));
    bench.hub.fault = onStorage({ ignoreRange: true });
    const { path, downloadedBytes } = await bench.pull(REPO);
    expect(ranges(bench)).toEqual(['bytes=100000-']);
    expect(downloadedBytes).toBe(WEIGHTS.length + '{}'.length);
    expect(await weights(path)).toBe(SHA256);
  });

  it.each([
    ['refuses the range', { status: 416 }],
    [
      'sends another part',
      { status: 206, headers: { 'content-range': 'bytes 5-9/300000' }, body: 'other' },
    ],
  ])('%s', async (_how, fault) => {
    await using bench = await benchWithModel();
    await writeFile(bench.partial, WEIGHTS.subarray(0, 100_000));
    bench.hub.fault = onStorage(fault);
    const { path } = await bench.pull(REPO);
    expect(ranges(bench)).toEqual(['bytes=100000-', undefined]);
    expect(await weights(path)).toBe(SHA256);
  });
});

describe('a checksum', () => {
  it.each(['model.safetensors', 'config.json'])('that %s does not have', async (file) => {
    await using bench = await benchWithModel();
    bench.hub.fault = (request) =>
      request.file === file && !request.path.includes('/resolve/') ? { corrupt: true } : undefined;
    // One after the other: a file that is stopped by another one's failure keeps what it has.
    await expect(bench.pull(REPO, { concurrency: 1 })).rejects.toThrow(
      errorWith('ERR_ACCEL_CHECKSUM', `${file} was received, but its contents are not those`),
    );
    const left = file === 'config.json' ? [] : [expect.stringMatching(/^[0-9a-f]{40}$/)];
    expect(await readdir(join(bench.blob, '..'))).toEqual(left);
    expect(existsSync(join(bench.cacheDir, 'models--acme--tiny-1B/refs/main'))).toBe(false);
    bench.hub.fault = undefined;
    expect(await weights((await bench.pull(REPO)).path)).toBe(SHA256);
  });

  it('covers the part that was there before, which is then fetched again', async () => {
    await using bench = await benchWithModel();
    // Zeros where bytes should be: what a power cut leaves.
    await writeFile(bench.partial, Buffer.alloc(100_000));
    const { path } = await bench.pull(REPO);
    expect(ranges(bench)).toEqual(['bytes=100000-', undefined]);
    expect(await weights(path)).toBe(SHA256);
  });

  it('is not needed to see that there is too much', async () => {
    await using bench = await benchWithModel();
    bench.hub.fault = onStorage({ extra: 10 });
    await expect(bench.pull(REPO)).rejects.toThrow(
      errorWith('ERR_ACCEL_CHECKSUM', 'more for model.safetensors than the 300000 bytes'),
    );
    await writeFile(bench.partial, Buffer.alloc(WEIGHTS.length + 1));
    bench.hub.fault = undefined;
    expect(await weights((await bench.pull(REPO)).path)).toBe(SHA256);
  });
});

describe('stopping', () => {
  it('keeps what was received', async () => {
    await using bench = await benchWithModel();
    const stop = new AbortController();
    bench.hub.fault = onStorage({ hangAfter: 65_536 });
    const pulled = bench.pull(REPO, {
      signal: stop.signal,
      onProgress: ({ file, fileBytes }) => {
        if (file === 'model.safetensors' && fileBytes >= 65_536) stop.abort();
      },
    });
    await expect(pulled).rejects.toThrow(errorWith('ERR_ACCEL_ABORTED', 'pull again to go on'));
    expect((await stat(bench.partial)).size).toBe(65_536);
    expect(await readdir(join(bench.cacheDir, '.locks/models--acme--tiny-1B'))).toEqual([]);
    bench.hub.requests.length = 0;
    expect(await weights((await bench.pull(REPO)).path)).toBe(SHA256);
    expect(ranges(bench)).toEqual(['bytes=65536-']);
  });

  it('before it begins', async () => {
    await using bench = await benchWithModel();
    const pulled = bench.pull(REPO, { signal: AbortSignal.abort() });
    await expect(pulled).rejects.toThrow(errorWith('ERR_ACCEL_ABORTED'));
    expect(bench.hub.requests).toEqual([]);
  });
});

describe('two pulls at the same time', () => {
  it('download once', async () => {
    await using bench = await benchWithModel();
    const waited: string[] = [];
    const options = { onWait: (owner: string) => waited.push(owner) };
    const results = await Promise.all([bench.pull(REPO, options), bench.pull(REPO, options)]);
    expect(results.map(({ downloadedBytes }) => downloadedBytes).sort((a, b) => a - b)).toEqual([
      0,
      WEIGHTS.length + '{}'.length,
    ]);
    expect(waited).toEqual([expect.stringContaining(`process ${process.pid} on `)]);
    expect(ranges(bench)).toEqual([undefined]);
    expect(await weights(results[0].path)).toBe(SHA256);
  });
});
