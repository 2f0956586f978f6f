import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { errorWith } from '@accel/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findModel, hubCacheDir } from '../src/index.js';

const COMMIT = 'c5f1a2b3d4e5f60718293a4b5c6d7e8f90a1b2c3';
const REPO = 'acme/tiny-1B';

let cacheDir: string;
beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'accel-find-'));
});
afterEach(async () => {
  await rm(cacheDir, { recursive: true, force: true });
});

/** Writes a snapshot as huggingface_hub lays it out. Contents of `undefined` are links to nothing. */
async function snapshot(
  files: Readonly<Record<string, string | undefined>>,
  {
    repo = REPO,
    commit = COMMIT,
    ref = 'main',
  }: { repo?: string; commit?: string; ref?: string } = {},
): Promise<string> {
  const folder = join(cacheDir, `models--${repo.replace('/', '--')}`);
  const path = join(folder, 'snapshots', commit);
  await mkdir(join(folder, 'blobs'), { recursive: true });
  await mkdir(path, { recursive: true });
  for (const [index, [name, content]] of Object.entries(files).entries()) {
    const blob = join(folder, 'blobs', String(index).padStart(40, '0'));
    if (content !== undefined) await writeFile(blob, content);
    const link = join(path, name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(relative(dirname(link), blob), link);
  }
  const file = join(folder, 'refs', ref);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, commit);
  return path;
}

const INDEX = JSON.stringify({
  weight_map: { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' },
});
const WHOLE = { 'config.json': '{}', 'model.safetensors': 'x', 'tokenizer.json': '{}' };

describe('findModel', () => {
  it('takes a path that exists as it is', async () => {
    expect(await findModel(cacheDir, { cacheDir })).toBe(cacheDir);
    const here = relative(process.cwd(), import.meta.filename);
    expect(await findModel(here, { cacheDir })).toBe(here);
  });

  it('finds what Python downloaded', async () => {
    const path = await snapshot(WHOLE);
    expect(await findModel(REPO, { cacheDir })).toBe(path);
    expect(await findModel(`${REPO}@main`, { cacheDir })).toBe(path);
    expect(await findModel(`${REPO}@${COMMIT}`, { cacheDir })).toBe(path);
    expect(await findModel(REPO, { env: { HF_HUB_CACHE: cacheDir } })).toBe(path);
    const pr = await snapshot(WHOLE, { commit: COMMIT.replace('c', 'd'), ref: 'refs/pr/1' });
    expect(await findModel(`${REPO}@refs/pr/1`, { cacheDir })).toBe(pr);
    const old = await snapshot(WHOLE, { repo: 'gpt2' });
    expect(await findModel('gpt2', { cacheDir })).toBe(old);
    const sharded = await snapshot(
      {
        'config.json': '{}',
        'model.safetensors.index.json': INDEX,
        'model-00001-of-00002.safetensors': 'x',
        'model-00002-of-00002.safetensors': 'x',
      },
      { repo: 'acme/big' },
    );
    expect(await findModel('acme/big', { cacheDir })).toBe(sharded);
  });

  it('finds GGUF files: the one, the named one, the first part', async () => {
    const one = await snapshot({ 'm.gguf': 'x', 'README.md': 'x' });
    expect(await findModel(REPO, { cacheDir })).toBe(join(one, 'm.gguf'));
    const two = await snapshot({ 'Q4/m.gguf': 'x', 'Q8/m.gguf': 'x' }, { repo: 'a/two' });
    expect(await findModel('a/two/Q8/m.gguf', { cacheDir })).toBe(join(two, 'Q8/m.gguf'));
    expect(await findModel('a/two/Q8/m.gguf@main', { cacheDir })).toBe(join(two, 'Q8/m.gguf'));
    await expect(findModel('a/two@main', { cacheDir })).rejects.toThrow(
      errorWith('ERR_ACCEL_FILE', 'a/two/Q4/m.gguf@main\n  a/two/Q8/m.gguf@main'),
    );
    await expect(findModel('a/two/Q2/m.gguf', { cacheDir })).rejects.toThrow(
      errorWith('ERR_ACCEL_FILE', 'accel pull a/two --file Q2/m.gguf'),
    );
    const parts = { 'm-00001-of-00002.gguf': 'x', 'm-00002-of-00002.gguf': 'x' };
    const split = await snapshot(parts, { repo: 'a/split' });
    expect(await findModel('a/split', { cacheDir })).toBe(join(split, 'm-00001-of-00002.gguf'));
    await snapshot({ ...parts, 'm-00001-of-00002.gguf': undefined }, { repo: 'a/half' });
    await expect(findModel('a/half', { cacheDir })).rejects.toThrow(
      errorWith(
        'ERR_ACCEL_FILE',
        "1 of 2 parts of m.gguf are there. Download the rest with: accel pull a/half --file 'm-*.gguf'",
      ),
    );
  });

  it.each([
    [{ 'config.json': '{}' }, 'model.safetensors of'],
    [{ ...WHOLE, 'config.json': undefined }, 'config.json of'],
    [{ ...WHOLE, 'model.safetensors': undefined }, 'model.safetensors of'],
    [
      {
        'config.json': '{}',
        'model.safetensors.index.json': INDEX,
        'model-00001-of-00002.safetensors': 'x',
        'model-00002-of-00002.safetensors': undefined,
      },
      'model-00002-of-00002.safetensors of',
    ],
  ])('says what %j lacks', async (files, lacks) => {
    await snapshot(files);
    await expect(findModel(REPO, { cacheDir })).rejects.toThrow(
      errorWith('ERR_ACCEL_FILE', `not whole: ${lacks}`),
    );
    await expect(findModel(REPO, { cacheDir })).rejects.toThrow('accel pull acme/tiny-1B');
  });

  it.each([
    ['acme/none', 'no model of this name. Download it with: accel pull acme/none'],
    ['acme/none@v1', 'accel pull acme/none --revision v1'],
    ['ACME/Tiny-1b', 'Did you mean acme/tiny-1B?'],
    ['tiny-1B', 'Did you mean acme/tiny-1B?'],
    [`${REPO}@v9`, 'at main, not at v9'],
    ['./nothing', 'There is no file or folder ./nothing. Check the path.'],
    ['/nothing/at/all', 'There is no file or folder'],
  ])('%s is not there', async (name, message) => {
    await snapshot(WHOLE);
    await expect(findModel(name, { cacheDir })).rejects.toThrow(
      errorWith('ERR_ACCEL_FILE', message),
    );
  });

  it.each([
    '../models--acme--tiny-1B',
    'acme/..',
    'a/b@../../main',
    'acme/tiny-1B/../../x',
    'acme/tiny-1B@refs/../main',
  ])('%s does not lead anywhere', async (name) => {
    await snapshot(WHOLE);
    await expect(findModel(name, { cacheDir })).rejects.toThrow(
      errorWith('ERR_ACCEL_FILE', 'There is no file or folder'),
    );
  });

  it('does not follow a damaged reference or index', async () => {
    const path = await snapshot(WHOLE);
    await writeFile(join(path, '../../refs/main'), '../../../../etc');
    await expect(findModel(REPO, { cacheDir })).rejects.toThrow(
      errorWith('ERR_ACCEL_FILE', 'should hold the hash of a commit'),
    );
    const index = JSON.stringify({ weight_map: { a: '../../../../../etc/passwd' } });
    await snapshot(
      { 'config.json': '{}', 'model.safetensors.index.json': index },
      { repo: 'a/evil' },
    );
    await expect(findModel('a/evil', { cacheDir })).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', 'could lead out'),
    );
  });
});

describe('hubCacheDir', () => {
  it.each([
    [{ HOME: '/home/me' }, '/home/me/.cache/huggingface/hub'],
    [{ HOME: '/home/me', XDG_CACHE_HOME: '/x' }, '/x/huggingface/hub'],
    [{ XDG_CACHE_HOME: '/x', HF_HOME: '/hf' }, '/hf/hub'],
    [{ HF_HOME: '/hf', HUGGINGFACE_HUB_CACHE: '/old' }, '/old'],
    [{ HF_HOME: '/hf', HUGGINGFACE_HUB_CACHE: '/old', HF_HUB_CACHE: '/new' }, '/new'],
    [{ HOME: '/home/me', HF_HOME: '~/hf' }, '/home/me/hf/hub'],
    [{ DISK: '/data', HF_HUB_CACHE: '$DISK/hub' }, '/data/hub'],
    [{ DISK: '/data', HF_HUB_CACHE: '${DISK}/$NONE/hub' }, '/data/$NONE/hub'],
  ])('with %j is %s', (env, folder) => {
    expect(hubCacheDir(env)).toBe(folder);
  });
});
