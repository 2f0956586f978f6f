import { AccelError } from '@accel/kernels';
import { z } from 'zod';
import type { HubClient } from './client.js';
import { COMMIT, checkFileName, isDataset } from './names.js';

/** A file of a repository at one commit. */
export interface RemoteFile {
  /** Path in the repository, with `/`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** SHA-256 of a file in large-file storage (64 digits), else git's hash of the blob (40 digits). */
  readonly hash: string;
}

const revisionPage = z.looseObject({ sha: z.string().regex(COMMIT) });

const size = z.int().nonnegative();
const treePage = z.array(
  z.union([
    z.looseObject({
      type: z.literal('file'),
      path: z.string(),
      size,
      oid: z.string().regex(/^[0-9a-f]{40}$/),
      lfs: z.looseObject({ oid: z.string().regex(/^[0-9a-f]{64}$/), size }).nullish(),
    }),
    z.looseObject({ type: z.enum(['directory', 'unknown']) }),
  ]),
);

/** A list that goes on forever would fill the memory; the largest models have a few thousand files. */
const MOST_FILES = 200_000;

/** The commit that a branch or tag stands for now. */
export async function resolveCommit(
  client: HubClient,
  repo: string,
  revision: string,
): Promise<string> {
  const { endpoint } = client.options;
  const url = `${apiUrl(endpoint, repo)}/revision/${encodeURIComponent(revision)}`;
  return (await client.json(url, repo, revisionPage)).page.sha;
}

/**
 * All files of a repository at a commit, with sizes and hashes.
 * @throws AccelError `ERR_ACCEL_HUB`, also when a file's name could lead out of its folder
 */
export async function listFiles(
  client: HubClient,
  repo: string,
  commit: string,
): Promise<RemoteFile[]> {
  const { endpoint } = client.options;
  const files: RemoteFile[] = [];
  let url: string | undefined = `${apiUrl(endpoint, repo)}/tree/${commit}?recursive=true`;
  while (url !== undefined) {
    const { page, next }: { page: z.infer<typeof treePage>; next: string | undefined } =
      await client.json(url, repo, treePage);
    for (const entry of page) {
      if (entry.type !== 'file') continue;
      checkFileName(entry.path, repo);
      const { oid: hash, size: bytes } = entry.lfs ?? entry;
      files.push({ path: entry.path, size: bytes, hash });
    }
    if (files.length > MOST_FILES) {
      throw new AccelError(
        'ERR_ACCEL_HUB',
        `${repo} has more than ${MOST_FILES} files, or ${endpoint} repeats itself. This is no model that can be pulled.`,
      );
    }
    url = next;
  }
  return files;
}

/** Models have a word in the API's addresses that their own do not have. */
function apiUrl(endpoint: string, repo: string): string {
  return `${endpoint}/api/${isDataset(repo) ? '' : 'models/'}${repo}`;
}

/** Where a file's contents are. */
export function fileUrl(endpoint: string, repo: string, commit: string, path: string): string {
  return `${endpoint}/${repo}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;
}
