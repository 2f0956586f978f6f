import { existsSync } from 'node:fs';
import {
  mkdir,
  readFile,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { errorWith, type FakeFile } from '@accel/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PullProgress } from '../src/index.js';
import { Workbench, noise, sha256 } from './workbench.js';

const REPO = 'acme/tiny-1B';
const WEIGHTS = noise(300_000);
const SHA256 = sha256(WEIGHTS);

const MODEL: Record<string, FakeFile> = {
  'config.json': { content: '{"model_type": "llama"}' },
  'model.safetensors': { content: WEIGHTS, lfs: true },
  'tokenizer.json': { content: noise(20_000, 2), lfs: true },
  'chat_template.jinja': { content: '{{ messages }}' },
  'README.md': { content: '# Tiny' },
  'consolidated.safetensors': { content: noise(1000, 3), lfs: true },
  'onnx/model.onnx': { content: noise(1000, 4), lfs: true },
  'original/params.json': { content: '{}' },
};
const WANTED = ['config.json', 'model.safetensors', 'tokenizer.json', 'chat_template.jinja'];

describe('pull', () => {
  it('downloads what loadModel needs, in the layout of Hugging Face', async () => {
    await using bench = await Workbench.open();
    const commit = bench.hub.commit(REPO, MODEL);
    const result = await bench.pull(REPO);
    const repo = join(bench.cacheDir, 'models--acme--tiny-1B');
    expect(result.path).toBe(join(repo, 'snapshots', commit));
    expect(result.commit).toBe(commit);
    expect(result.files).toEqual(WANTED);
    expect(result.downloadedBytes).toBe(result.totalBytes);
    expect((await readdir(result.path)).sort()).toEqual([...WANTED].sort());
    expect(await readFile(join(repo, 'refs/main'), 'utf8')).toBe(commit);
    expect(await readlink(join(result.path, 'model.safetensors'))).toBe(`../../blobs/${SHA256}`);
    // `git hash-object` of this file.
    expect(await readlink(join(result.path, 'chat_template.jinja'))).toBe(
      '../../blobs/9d2e33818ac6130a1e5e8a4ee766bd943c70541d',
    );
    for (const file of WANTED) {
      expect(sha256(await readFile(join(result.path, file)))).toBe(sha256(MODEL[file]?.content));
    }
    expect((await readdir(join(repo, 'blobs'))).filter((name) => /\W/.test(name))).toEqual([]);
    expect(await readdir(join(bench.cacheDir, '.locks/models--acme--tiny-1B'))).toEqual([]);
  });

  it('downloads nothing when everything is there', async () => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, MODEL);
    const first = await bench.pull(REPO);
    bench.hub.requests.length = 0;
    const second = await bench.pull(REPO);
    expect(second).toEqual({ ...first, downloadedBytes: 0 });
    expect(bench.hub.downloads()).toEqual([]);
  });

  it('shares contents between revisions', async () => {
    await using bench = await Workbench.open();
    const old = bench.hub.commit(REPO, MODEL);
    await bench.pull(REPO);
    bench.hub.requests.length = 0;
    const now = bench.hub.commit(REPO, { ...MODEL, 'config.json': { content: '{"new": true}' } });
    const { path, downloadedBytes } = await bench.pull(REPO);
    expect(now).not.toBe(old);
    expect(path.endsWith(now)).toBe(true);
    expect(bench.hub.downloads().map(({ file }) => file)).toEqual(['config.json']);
    expect(downloadedBytes).toBe('{"new": true}'.length);
    expect(sha256(await readFile(join(path, 'model.safetensors')))).toBe(SHA256);
    expect(existsSync(join(path, '../', old, 'config.json'))).toBe(true);
  });

  it('takes a revision from the name, an option, or a commit', async () => {
    await using bench = await Workbench.open();
    const main = bench.hub.commit(REPO, MODEL);
    const pr = bench.hub.commit(REPO, { ...MODEL, 'config.json': { content: '1' } }, 'refs/pr/1');
    expect((await bench.pull(`${REPO}@refs/pr/1`)).commit).toBe(pr);
    expect((await bench.pull(REPO, { revision: 'refs/pr/1' })).commit).toBe(pr);
    const refs = join(bench.cacheDir, 'models--acme--tiny-1B/refs');
    expect(await readFile(join(refs, 'refs/pr/1'), 'utf8')).toBe(pr);
    expect((await bench.pull(REPO, { revision: main })).commit).toBe(main);
    expect(await readdir(refs)).toEqual(['refs']);
  });

  it('reads lists of files page by page', async () => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, MODEL);
    bench.hub.pageSize = 2;
    expect((await bench.pull(REPO)).files).toEqual(WANTED);
    expect(bench.hub.requests.filter(({ path }) => path.includes('/tree/'))).toHaveLength(4);
  });

  it('stores equal files once and fetches them once', async () => {
    await using bench = await Workbench.open();
    const copy = { content: WEIGHTS, lfs: true };
    bench.hub.commit(REPO, { ...MODEL, 'a.safetensors': copy, 'b.safetensors': copy });
    const { path } = await bench.pull(REPO);
    expect(bench.hub.downloads().filter(({ server }) => server === 'cdn')).toHaveLength(2);
    expect(await readlink(join(path, 'b.safetensors'))).toBe(`../../blobs/${SHA256}`);
  });

  it('takes and leaves out files by pattern, in folders too', async () => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, MODEL);
    const onnx = await bench.pull(REPO, { include: ['*.onnx', 'original/'] });
    expect(onnx.files).toEqual(['onnx/model.onnx', 'original/params.json']);
    expect(await readlink(join(onnx.path, 'original/params.json'))).toMatch(/^(\.\.\/){3}blobs\//);
    const { files } = await bench.pull(REPO, { exclude: ['*.jinja', 'token*'] });
    expect(files).toEqual(['config.json', 'model.safetensors']);
  });

  it('tells how far it is, in bytes', async () => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, MODEL);
    const told: PullProgress[] = [];
    const { totalBytes } = await bench.pull(REPO, {
      onProgress: (progress) => told.push(progress),
    });
    const last = told.at(-1);
    expect(last).toMatchObject({ doneBytes: totalBytes, totalBytes, reusedBytes: 0 });
    const weights = told.filter(({ file }) => file === 'model.safetensors');
    expect(weights.at(-1)).toMatchObject({ fileBytes: 300_000, fileSize: 300_000 });
    expect(weights.length).toBeGreaterThan(2);
    for (const [index, { doneBytes }] of told.entries()) {
      expect(doneBytes).toBeGreaterThanOrEqual(told[index - 1]?.doneBytes ?? 0);
    }
    told.length = 0;
    await bench.pull(REPO, { onProgress: (progress) => told.push(progress) });
    expect(told.at(-1)).toMatchObject({ doneBytes: totalBytes, reusedBytes: totalBytes });
  });

  it('works for any sizes and any number of files at a time', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 70_000 }), { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 9 }),
        fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
        async (sizes, concurrency, lfs) => {
          await using bench = await Workbench.open();
          const files = sizes.map((size, index): [string, FakeFile] => [
            `${index}.safetensors`,
            { content: noise(size, index % 3), lfs: lfs[index] ?? false },
          ]);
          bench.hub.commit(REPO, Object.fromEntries(files));
          const { path } = await bench.pull(REPO, { concurrency });
          for (const [name, { content }] of files) {
            expect(sha256(await readFile(join(path, name)))).toBe(sha256(content));
          }
        },
      ),
      { numRuns: 25 },
    );
  });
});

describe('a model without safetensors', () => {
  const GGUF = { content: noise(100), lfs: true };

  it('asks which GGUF file, and takes one', async () => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, {
      'm-Q4_K_M.gguf': GGUF,
      'm-Q8_0.gguf': GGUF,
      'config.json': { content: '{}' },
    });
    await expect(bench.pull(REPO)).rejects.toThrow(
      errorWith(
        'ERR_ACCEL_HUB',
        /as GGUF only[\s\S]*--file m-Q4_K_M\.gguf[\s\S]*m-Q8_0\.gguf \(100 B\)/,
      ),
    );
    expect((await bench.pull(REPO, { include: ['*Q8_0*'] })).files).toEqual(['m-Q8_0.gguf']);
  });

  it('says so', async () => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, { 'pytorch_model.bin': { content: 'x', lfs: true } });
    await expect(bench.pull(REPO)).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', /no safetensors weights[\s\S]*pytorch_model\.bin/),
    );
    await expect(bench.pull(REPO, { include: ['*.gguf'] })).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', /No file of acme\/tiny-1B matches \*\.gguf/),
    );
  });
});

describe('what a server could do', () => {
  it.each([
    '../../evil.json',
    '/etc/evil.json',
    'a/../../evil.json',
    'C:evil.json',
    'a\\..\\evil.json',
    'a//b.json',
    'evil\u0000.json',
  ])('a file called %j is refused before anything is written', async (name) => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, { ...MODEL, [name]: { content: 'evil' } });
    await expect(bench.pull(REPO)).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', /could lead out of the model's folder/),
    );
    expect(await readdir(bench.cacheDir)).toEqual([]);
  });

  it.each([
    [{ sha: '../../..' }, '/revision/'],
    [{ sha: null }, '/revision/'],
    [[{ type: 'file', path: 'config.json', size: 1, oid: '../evil' }], '/tree/'],
    [[{ type: 'file', path: 'config.json', size: -1, oid: '0'.repeat(40) }], '/tree/'],
    ['<html>', '/tree/'],
  ])('%j is not an answer', async (body, where) => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, MODEL);
    bench.hub.fault = ({ path }) =>
      path.includes(where) ? { status: 200, body: JSON.stringify(body) } : undefined;
    await expect(bench.pull(REPO)).rejects.toThrow(errorWith('ERR_ACCEL_HUB', /not the Hub's API/));
    expect(await readdir(bench.cacheDir)).toEqual([]);
  });

  it('a link in the place of a partial file is not followed', async () => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, MODEL);
    const victim = join(bench.cacheDir, 'victim');
    await writeFile(victim, 'precious');
    const blobs = join(bench.cacheDir, 'models--acme--tiny-1B/blobs');
    await mkdir(blobs, { recursive: true });
    await symlink(victim, join(blobs, `${SHA256}.incomplete`));
    await expect(bench.pull(REPO)).rejects.toThrow(errorWith('ERR_ACCEL_FILE', /Cannot write/));
    expect(await readFile(victim, 'utf8')).toBe('precious');
  });

  it('a link in the place of a folder is not followed', async () => {
    await using bench = await Workbench.open();
    const commit = bench.hub.commit(REPO, MODEL);
    const elsewhere = join(bench.cacheDir, 'elsewhere');
    const snapshot = join(bench.cacheDir, 'models--acme--tiny-1B/snapshots', commit);
    await mkdir(elsewhere);
    await mkdir(snapshot, { recursive: true });
    await symlink(elsewhere, join(snapshot, 'onnx'));
    await expect(bench.pull(REPO, { include: ['onnx/*'] })).rejects.toThrow(
      errorWith('ERR_ACCEL_FILE', /leads out of the snapshot/),
    );
    expect(await readdir(elsewhere)).toEqual([]);
  });

  it('a model larger than the disk is not begun', async () => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, MODEL);
    const size = 2 ** 52;
    const entry = { type: 'file', path: 'model.safetensors', oid: '0'.repeat(40), size };
    bench.hub.fault = ({ path }) =>
      path.includes('/tree/') ? { status: 200, body: JSON.stringify([entry]) } : undefined;
    await expect(bench.pull(REPO)).rejects.toThrow(
      errorWith('ERR_ACCEL_FILE', /needs 4096\.0 TiB more in .* are free/),
    );
    expect(bench.hub.downloads()).toEqual([]);
  });
});

describe('what is in the cache already', () => {
  it('a blob of another size than listed is fetched again', async () => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, MODEL);
    const { path } = await bench.pull(REPO);
    const blob = join(path, '../../blobs', SHA256);
    await writeFile(blob, 'short');
    await bench.pull(REPO);
    expect((await stat(blob)).size).toBe(WEIGHTS.length);
  });

  it('a file where Python could not make a link is taken as it is', async () => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, MODEL);
    const { path } = await bench.pull(REPO);
    const file = join(path, 'model.safetensors');
    await rm(file);
    await rename(join(path, '../../blobs', SHA256), file);
    bench.hub.requests.length = 0;
    await bench.pull(REPO);
    expect(bench.hub.downloads()).toEqual([]);
  });

  it('a link to contents that are gone is put right', async () => {
    await using bench = await Workbench.open();
    bench.hub.commit(REPO, MODEL);
    const { path } = await bench.pull(REPO);
    await rm(join(path, '../../blobs', SHA256));
    await bench.pull(REPO);
    expect(sha256(await readFile(join(path, 'model.safetensors')))).toBe(SHA256);
  });
});
