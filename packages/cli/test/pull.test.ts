import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needlePath } from '@accel/needle';
import { FakeHub, type FakeFile } from '@accel/testkit';
import { zipSync } from 'fflate';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { accel, type Outcome } from './fake-io.js';

const REPO = 'acme/needle';

let hub: FakeHub;
let cacheDir: string;
let needle: Record<string, FakeFile>;
beforeEach(async () => {
  hub = await FakeHub.start();
  cacheDir = await mkdtemp(join(tmpdir(), 'accel-pull-'));
  needle = {};
  for (const file of await readdir(needlePath)) {
    const content = await readFile(join(needlePath, file));
    needle[file] = { content, lfs: file.endsWith('.safetensors') };
  }
});
afterEach(async () => {
  await hub.close();
  await rm(cacheDir, { recursive: true, force: true });
});

function pull(words: string[], options: Parameters<typeof accel>[1] = {}): Promise<Outcome> {
  return accel(['pull', ...words, '--endpoint', hub.url, '--cache_dir', cacheDir], {
    ...options,
    env: { HF_HOME: cacheDir },
  });
}

describe('accel pull', () => {
  it('prints the folder, and --model-path finds the model by its name', async () => {
    const commit = hub.commit(REPO, needle);
    const { exitCode, stdout, stderr } = await pull([REPO]);
    expect(stderr).toMatch(/3 files, 1\d\.\d MiB, 1\d\.\d MiB downloaded in \d/);
    expect(exitCode).toBe(0);
    expect(stdout).toBe(`${join(cacheDir, 'models--acme--needle/snapshots', commit)}\n`);
    const again = await pull([REPO]);
    expect(again.stdout).toBe(stdout);
    expect(again.stderr).toContain('all there already');

    const env = { HF_HUB_CACHE: cacheDir };
    const words = ['generate', 'The grass is', '--max-tokens', '4', '--json', '--model-path'];
    const byName = await accel([...words, REPO], { env });
    expect(byName.stderr).toBe('');
    const result = JSON.parse(byName.stdout) as { model: string; tokens: number[] };
    expect(result.model).toBe(REPO);
    const embedded = await accel(words.slice(0, -1));
    expect(result.tokens).toEqual((JSON.parse(embedded.stdout) as { tokens: number[] }).tokens);
    const inspected = await accel(['inspect', REPO, '--json'], { env });
    expect(inspected.exitCode).toBe(0);
  });

  it('takes a folder before a name', async () => {
    const folder = join(cacheDir, 'acme', 'needle');
    await cp(needlePath, folder, { recursive: true });
    const { exitCode } = await accel([
      'generate',
      'a',
      '--max-tokens',
      '1',
      '--model-path',
      folder,
    ]);
    expect(exitCode).toBe(0);
  });

  it('draws a bar on a terminal', async () => {
    hub.commit(REPO, needle);
    // Long enough for the bar to be drawn: what takes less than a moment stays silent.
    hub.fault = ({ server }) => (server === 'cdn' ? { slowMs: 60 } : undefined);
    const { stderr } = await pull([REPO], { tty: true });
    expect(stderr).toMatch(/pulling █+░+ +\d+ % {2}[\d.]+ MiB of 1\d\.\d MiB.*model\.safetensors/);
  });

  it('keeps what it has at Ctrl-C and says so', async () => {
    hub.commit(REPO, needle);
    const stop = new AbortController();
    hub.fault = ({ server }) => {
      if (server !== 'cdn') return undefined;
      setTimeout(() => stop.abort(), 300);
      return { hangAfter: 1_000_000 };
    };
    const { exitCode, stdout, stderr } = await pull([REPO], { signal: stop.signal });
    expect(exitCode).toBe(130);
    expect(stdout).toBe('');
    expect(stderr).toBe(
      'What was received is kept; the same command goes on from there.\nstopped\n',
    );
    hub.fault = undefined;
    hub.requests.length = 0;
    expect((await pull([REPO])).exitCode).toBe(0);
    expect(hub.downloads('model.safetensors').map(({ range }) => range)).toEqual([
      expect.stringMatching(/^bytes=\d+-$/),
    ]);
  });

  it('chooses files and revisions', async () => {
    hub.commit(REPO, { 'a-Q4_K_M.gguf': { content: 'x', lfs: true } }, 'gguf');
    const refused = await pull([REPO, '--revision', 'gguf']);
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toMatch(/^error ERR_ACCEL_HUB: .*--file a-Q4_K_M\.gguf/);
    const { exitCode, stdout } = await pull([`${REPO}@gguf`, '--file', '*Q4_K_M*']);
    expect(exitCode).toBe(0);
    expect(await readdir(stdout.trim())).toEqual(['a-Q4_K_M.gguf']);
  });

  it('and every command say how to get a model that is not there', async () => {
    const missing = await pull([REPO]);
    expect(missing.stderr).toMatch(/^error ERR_ACCEL_HUB: There is no model acme\/needle/);
    const env = { HF_HUB_CACHE: cacheDir };
    const { exitCode, stderr } = await accel(['generate', 'a', '--model-path', REPO], { env });
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(
      /^error ERR_ACCEL_FILE: .* Download it with: accel pull acme\/needle\n$/,
    );
  });
});

describe('accel data', () => {
  const record = { input: 'q', context: 'c', answers: ['a'], length: 3, dataset: 'qasper' };

  function data(words: string[]): Promise<Outcome> {
    return accel(['data', ...words], { env: { HOME: cacheDir, HF_ENDPOINT: hub.url } });
  }

  it('pulls, lists and finds a set', async () => {
    const zip = zipSync({
      'data/qasper.jsonl': Buffer.from(`${JSON.stringify({ ...record, language: 'en' })}\n`),
    });
    hub.commit('datasets/THUDM/LongBench', { 'data.zip': { content: zip, lfs: true } });
    const folder = join(cacheDir, '.cache/accel/data/longbench');
    const before = await data(['list']);
    expect(before.stdout).toMatch(/^longbench .* MIT.* accel data pull longbench$/m);
    expect(before.stdout).toMatch(/^essays .* accel data pull essays --from <file>$/m);
    const absent = await data(['path', 'longbench']);
    expect(absent.stderr).toMatch(/longbench is not in .*Get it with: accel data pull longbench/);
    expect(absent.exitCode).toBe(1);

    const pulled = await data(['pull', 'longbench']);
    expect(pulled.stderr).toMatch(/^longbench: 1 file, \d+ B; licence: MIT/);
    expect(pulled).toMatchObject({ exitCode: 0, stdout: `${join(folder, '.')}\n` });
    expect((await data(['path', 'longbench'])).stdout).toBe(pulled.stdout);
    expect((await data(['pull', 'longbench'])).stderr).toContain('there already');
    const listed = JSON.parse((await data(['list', '--json'])).stdout) as { path: string | null }[];
    expect(listed.map(({ path }) => path).filter((path) => path !== null)).toEqual([folder]);
  });

  it('imports a file, and says what it does not know', async () => {
    const file = join(cacheDir, 'PaulGrahamEssays.json');
    await writeFile(file, '{"text": "Essays."}');
    const { stdout, exitCode } = await data(['pull', 'essays', '--from', file]);
    expect(exitCode).toBe(0);
    expect(await readFile(stdout.trim(), 'utf8')).toBe('{"text": "Essays."}');
    expect((await data(['pull', 'sqaud'])).stderr).toContain('Did you mean squad?');
    expect((await data(['pull', 'squad', 'essays', '--from', file])).stderr).toContain('only that');
    expect((await data(['pull'])).stderr).toContain('accel data pull --help');
  });
});
