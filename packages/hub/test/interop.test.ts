/** Hugging Face's own JavaScript library as a second opinion, on the server of these tests and on the cache. */
import { listFiles, modelInfo, scanCacheDir, type ListFileEntry } from '@huggingface/hub';
import { describe, expect, it } from 'vitest';
import { Workbench, noise } from './workbench.js';

const REPO = 'acme/tiny-1B';
const MODEL = {
  'config.json': { content: '{}' },
  'sub/notes.txt': { content: 'x' },
  'model.safetensors': { content: noise(5000), lfs: true },
};

describe('@huggingface/hub', () => {
  it('understands the server that these tests run against', async () => {
    await using bench = await Workbench.open();
    const commit = bench.hub.commit(REPO, MODEL);
    bench.hub.pageSize = 1;
    const hubUrl = bench.hub.url;
    const info = await modelInfo({
      name: REPO,
      revision: 'main',
      hubUrl,
      additionalFields: ['sha'],
    });
    expect(info.sha).toBe(commit);
    const files: ListFileEntry[] = [];
    for await (const file of listFiles({ repo: REPO, hubUrl, recursive: true })) files.push(file);
    expect(files.filter(({ type }) => type === 'file').map(({ path }) => path)).toEqual(
      Object.keys(MODEL),
    );
    expect(files.find(({ path }) => path === 'model.safetensors')?.lfs?.size).toBe(5000);
  });

  it('finds what pull stored', async () => {
    await using bench = await Workbench.open();
    const commit = bench.hub.commit(REPO, MODEL);
    const { path } = await bench.pull(REPO, { include: ['*'] });
    const { repos, warnings } = await scanCacheDir(bench.cacheDir);
    expect(warnings).toEqual([]);
    expect(repos).toHaveLength(1);
    expect(repos[0]?.id).toEqual({ name: REPO, type: 'model' });
    const [revision] = repos[0]?.revisions ?? [];
    expect(revision).toMatchObject({ commitOid: commit, path, refs: ['main'] });
    // It does not look into folders.
    expect(revision?.files.map(({ blob }) => blob.size)).toEqual([2, 5000]);
  });
});
