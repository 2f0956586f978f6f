import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorWith } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { Workbench, noise } from './workbench.js';

const REPO = 'acme/secret';
const MODEL = {
  'config.json': { content: '{}' },
  'model.safetensors': { content: noise(1000), lfs: true },
};

async function benchWithModel(): Promise<Workbench> {
  const bench = await Workbench.open();
  bench.hub.commit(REPO, MODEL);
  bench.hub.tokens.add('hf_right');
  return bench;
}

describe('the token', () => {
  it('goes to the Hub and not to where large files are', async () => {
    await using bench = await benchWithModel();
    await bench.pull(REPO, { token: 'hf_right' });
    const sent = (server: string): Set<string | undefined> =>
      new Set(
        bench.hub.requests
          .filter((request) => request.server === server)
          .map(({ authorization }) => authorization),
      );
    expect(sent('hub')).toEqual(new Set(['Bearer hf_right']));
    expect(sent('cdn')).toEqual(new Set([undefined]));
  });

  it('does not follow a list that goes on elsewhere', async () => {
    await using bench = await benchWithModel();
    await using other = await benchWithModel();
    bench.hub.fault = ({ path }) =>
      path.includes('/tree/')
        ? {
            status: 200,
            body: '[]',
            headers: { link: `<${other.hub.url}${path}>; rel="next"` },
          }
        : undefined;
    await bench.pull(REPO, { token: 'hf_right' });
    expect(other.hub.requests.map(({ authorization }) => authorization)).toEqual([undefined]);
  });

  it('comes from HF_TOKEN, then from the file of hf auth login', async () => {
    await using bench = await benchWithModel();
    bench.hub.restrict(REPO, 'private');
    const home = join(bench.cacheDir, 'home');
    await mkdir(home);
    await writeFile(join(home, 'token'), 'hf_right\n');
    const sent = async (env: Record<string, string>): Promise<string | undefined> => {
      bench.hub.requests.length = 0;
      await bench.pull(REPO, { env }).catch(() => undefined);
      return bench.hub.requests[0]?.authorization;
    };
    expect(await sent({ HF_HOME: home })).toBe('Bearer hf_right');
    expect(await sent({ HF_HOME: home, HF_TOKEN: ' hf_other ' })).toBe('Bearer hf_other');
    expect(await sent({ HF_HOME: '/nowhere', HF_TOKEN_PATH: join(home, 'token') })).toBe(
      'Bearer hf_right',
    );
    expect(await sent({ HF_HOME: home, HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' })).toBeUndefined();
    expect(await sent({ HF_HOME: '/nowhere' })).toBeUndefined();
  });
});

describe('a refusal says what to do', () => {
  it('for a gated model', async () => {
    await using bench = await benchWithModel();
    bench.hub.restrict(REPO, 'gated');
    await expect(bench.pull(REPO)).rejects.toThrow(
      errorWith(
        'ERR_ACCEL_HUB',
        /gated: .*Accept the terms at http.*\/acme\/secret, then set HF_TOKEN/,
      ),
    );
    expect((await bench.pull(REPO, { token: 'hf_right' })).files).toHaveLength(2);
    bench.hub.fault = ({ path }) =>
      path.includes('/resolve/')
        ? { status: 403, headers: { 'x-error-code': 'GatedRepo' } }
        : undefined;
    bench.hub.commit(REPO, { ...MODEL, 'a.json': { content: '1' } });
    await expect(bench.pull(REPO, { token: 'hf_right' })).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', /your token has no access\. Ask for it at/),
    );
  });

  it.each([
    [
      'a private or missing model',
      REPO,
      {},
      /There is no model acme\/secret .* or it is private.*HF_TOKEN/,
    ],
    ['one that the token may not read', 'acme/other', { token: 'hf_right' }, /your token may read/],
    ['a token that is not known', REPO, { token: 'hf_wrong' }, /does not know your token/],
    ['a revision', REPO, { token: 'hf_right', revision: 'v9' }, /no such revision/],
    ['a commit', REPO, { token: 'hf_right', revision: '0'.repeat(40) }, /no such revision/],
  ])('for %s', async (_what, repo, options, message) => {
    await using bench = await benchWithModel();
    bench.hub.restrict(REPO, 'private');
    await expect(bench.pull(repo, options)).rejects.toThrow(errorWith('ERR_ACCEL_HUB', message));
  });

  it.each([
    [403, {}, /refuses acme\/secret/],
    [404, { 'x-error-code': 'EntryNotFound' }, /is not at/],
    [451, { 'x-error-message': 'Unavailable' }, /answered 451 \(Unavailable\)/],
  ])('with status %d', async (status, headers, message) => {
    await using bench = await benchWithModel();
    bench.hub.fault = ({ path }) => (path.includes('/resolve/') ? { status, headers } : undefined);
    await expect(bench.pull(REPO, { concurrency: 1 })).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', message),
    );
    expect(bench.hub.requests.filter(({ path }) => path.includes('/resolve/'))).toHaveLength(1);
  });
});

describe('trouble that passes', () => {
  it.each([408, 429, 500, 503])('is waited out: %d', async (status) => {
    await using bench = await benchWithModel();
    const seen = new Set<string>();
    // Each address fails once.
    bench.hub.fault = ({ path }) => {
      if (seen.has(path)) return undefined;
      seen.add(path);
      return { status, headers: { 'retry-after': '0.01' } };
    };
    expect((await bench.pull(REPO)).files).toHaveLength(2);
  });

  it('is waited out so many times', async () => {
    await using bench = await benchWithModel();
    bench.hub.fault = () => ({ status: 503 });
    await expect(bench.pull(REPO)).rejects.toThrow(errorWith('ERR_ACCEL_HUB', 'answered 503'));
    expect(bench.hub.requests).toHaveLength(3);
  });

  it('is not waited out for hours', async () => {
    await using bench = await benchWithModel();
    bench.hub.fault = () => ({ status: 429, headers: { 'retry-after': '3600' } });
    await expect(bench.pull(REPO)).rejects.toThrow(errorWith('ERR_ACCEL_HUB', 'too many requests'));
    expect(bench.hub.requests).toHaveLength(1);
  });

  it('may be that nobody is there', async () => {
    await using bench = await benchWithModel();
    const endpoint = bench.hub.url;
    await bench.hub.close();
    await expect(bench.pull(REPO, { endpoint })).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', /Cannot download from http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED/),
    );
  });
});

describe('arguments', () => {
  it.each([
    '',
    'a/b/c',
    '../x',
    'a/..',
    'a--b/c',
    'a/b.git',
    '/a/b',
    'a b/c',
    '-a/b',
    'a/b@',
    'a/b@../c',
    'a\u0000/b',
  ])('%j is no model', async (name) => {
    await using bench = await Workbench.open();
    await expect(bench.pull(name)).rejects.toThrow(
      errorWith('ERR_ACCEL_ARGUMENT', 'not the name of a model'),
    );
  });

  it.each(['..', 'a/../b', '/a', 'a b', 'a\\b', 'a~1', ''])(
    '%j is no revision',
    async (revision) => {
      await using bench = await Workbench.open();
      await expect(bench.pull(REPO, { revision })).rejects.toThrow(
        errorWith('ERR_ACCEL_ARGUMENT', 'not a revision'),
      );
    },
  );

  it.each([0, -1, 1.5, Number.NaN])('%d files at a time is none', async (concurrency) => {
    await using bench = await Workbench.open();
    await expect(bench.pull(REPO, { concurrency })).rejects.toThrow(
      errorWith('ERR_ACCEL_ARGUMENT', 'concurrency is'),
    );
  });

  it.each(['huggingface.co', 'ftp://x', 'file:///etc'])('%j is no endpoint', async (endpoint) => {
    await using bench = await Workbench.open();
    await expect(bench.pull(REPO, { endpoint })).rejects.toThrow(
      errorWith('ERR_ACCEL_ARGUMENT', "Hub's address"),
    );
  });
});

describe('HF_HUB_OFFLINE', () => {
  const env = { HF_HUB_OFFLINE: '1' };

  it('uses what is there and asks nobody', async () => {
    await using bench = await benchWithModel();
    const { path, commit, totalBytes } = await bench.pull(REPO);
    bench.hub.requests.length = 0;
    const found = await bench.pull(REPO, { env });
    expect(found).toEqual({
      path,
      commit,
      files: ['config.json', 'model.safetensors'],
      totalBytes,
      downloadedBytes: 0,
    });
    expect((await bench.pull(REPO, { env, include: ['*.json'] })).files).toEqual(['config.json']);
    expect(bench.hub.requests).toEqual([]);
  });

  it('says what is missing', async () => {
    await using bench = await benchWithModel();
    await expect(bench.pull(REPO, { env })).rejects.toThrow(
      errorWith('ERR_ACCEL_FILE', 'has no model of this name'),
    );
    await bench.pull(REPO);
    await expect(bench.pull(REPO, { env, include: ['*.gguf'] })).rejects.toThrow(
      errorWith('ERR_ACCEL_HUB', /forbids the network, and the cache .* does not have \*\.gguf/),
    );
  });
});
