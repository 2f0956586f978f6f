import { mkdir, statfs } from 'node:fs/promises';
import { AccelError } from '@accel/kernels';
import { CachedRepo, sizeOf } from './cached-repo.js';
import { HubClient } from './client.js';
import { downloadFiles, type Download } from './download.js';
import { hubCacheDir, hubEndpoint, hubToken, isOffline, type Environment } from './environment.js';
import { findFiles, findModel } from './find.js';
import { formatBytes } from './format.js';
import { listFiles, resolveCommit, type RemoteFile } from './listing.js';
import { Meter, type PullProgress } from './meter.js';
import { COMMIT, checkRevision, isDataset, parseModelName } from './names.js';
import { inParallel } from './parallel.js';
import { RepoLock } from './repo-lock.js';
import type { RetryPolicy } from './retry.js';
import { selectFiles, type Selection } from './select.js';

/** Options of {@link pull}. */
export interface PullOptions extends Selection {
  /** Branch, tag or commit. Default: the one in the name (`org/name@revision`), else `main`. */
  readonly revision?: string;
  /** Access token; `false` sends none. Default: `HF_TOKEN`, else what `hf auth login` saved. */
  readonly token?: string | false;
  /** Address of the Hub. Default: `HF_ENDPOINT`, else https://huggingface.co. */
  readonly endpoint?: string;
  /** Folder of the cache. Default: {@link hubCacheDir}. */
  readonly cacheDir?: string;
  /** Files that are downloaded at the same time. Default 4. */
  readonly concurrency?: number;
  /** Called as bytes arrive. */
  readonly onProgress?: (progress: PullProgress) => void;
  /** Called once if another process pulls this model, with who it is; `pull` then waits for it. */
  readonly onWait?: (owner: string) => void;
  /** Stops with `ERR_ACCEL_ABORTED`; what was received is kept for the next time. */
  readonly signal?: AbortSignal;
  /** How often a cut connection is taken up again. Default: five times in a row without a byte. */
  readonly retry?: RetryPolicy;
  /** A connection that is silent for so many ms counts as cut. Default 30000. */
  readonly stallMs?: number;
  /** Where `HF_…` variables are read. Default `process.env`. */
  readonly env?: Environment;
}

/** What {@link pull} leaves behind. */
export interface PullResult {
  /** Folder with the model's files: `…/snapshots/<commit>`. */
  readonly path: string;
  /** The commit that the revision stands for. */
  readonly commit: string;
  /** Paths of the wanted files below `path`. */
  readonly files: readonly string[];
  /** Bytes of these files. */
  readonly totalBytes: number;
  /** Bytes that came over the network and were kept. */
  readonly downloadedBytes: number;
}

/**
 * Downloads a model from the Hugging Face Hub into the cache that Hugging Face's libraries share, so that each finds
 * what another one fetched. Contents that are there are not fetched again; an interrupted download goes on where it
 * stopped; everything is checked against the hashes that the Hub lists. With `HF_HUB_OFFLINE=1` only looks. A data set
 * is pulled the same way, as `datasets/org/name`.
 * @param model `org/name` or `org/name@revision`
 * @throws AccelError `ERR_ACCEL_ARGUMENT`, `ERR_ACCEL_HUB` (not there, no access, unreachable), `ERR_ACCEL_CHECKSUM`,
 *   `ERR_ACCEL_FILE`, `ERR_ACCEL_BUSY`, `ERR_ACCEL_ABORTED`
 * @example
 * const { path } = await pull('Qwen/Qwen3-0.6B');
 * using model = await loadModel(path);
 */
export async function pull(model: string, options: PullOptions = {}): Promise<PullResult> {
  const { env = process.env } = options;
  const target = readTarget(model, options, env);
  if (isOffline(env)) return findOffline(target, options);
  // One signal for the user's wish to stop and for the first failure, which stops the other files.
  const stop = new AbortController();
  const onAbort = (): void => stop.abort();
  options.signal?.addEventListener('abort', onAbort);
  try {
    options.signal?.throwIfAborted();
    const client = new HubClient({
      endpoint: target.endpoint,
      token: options.token === false ? undefined : (options.token ?? (await hubToken(env))),
      signal: stop.signal,
      stallMs: options.stallMs ?? 30_000,
      retry: options.retry ?? {},
    });
    return await pullInto(client, target, options, stop);
  } catch (error) {
    if (options.signal?.aborted !== true) throw error;
    throw new AccelError(
      'ERR_ACCEL_ABORTED',
      `The download of ${target.repo} was stopped. What was received is kept: pull again to go on.`,
      { cause: error },
    );
  } finally {
    options.signal?.removeEventListener('abort', onAbort);
  }
}

interface Target {
  readonly repo: string;
  readonly revision: string;
  readonly endpoint: string;
  readonly cacheDir: string;
  readonly concurrency: number;
}

function readTarget(model: string, options: PullOptions, env: Environment): Target {
  const name = parseModelName(model);
  if (name === undefined || name.file !== undefined) {
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `"${model}" is not the name of a model on the Hub. Give org/name or org/name@revision, and single files with --file (option include).`,
    );
  }
  const { concurrency = 4 } = options;
  if (!Number.isSafeInteger(concurrency) || concurrency < 1) {
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `concurrency is ${concurrency}; give a whole number above 0.`,
    );
  }
  const revision = options.revision ?? name.revision ?? 'main';
  checkRevision(revision);
  return {
    repo: name.repo,
    revision,
    endpoint: hubEndpoint(options.endpoint, env),
    cacheDir: options.cacheDir ?? hubCacheDir(env),
    concurrency,
  };
}

async function pullInto(
  client: HubClient,
  { repo, revision, cacheDir, concurrency }: Target,
  options: PullOptions,
  stop: AbortController,
): Promise<PullResult> {
  const cache = new CachedRepo(cacheDir, repo);
  const commit = COMMIT.test(revision) ? revision : await resolveCommit(client, repo, revision);
  const files = selectFiles(await listFiles(client, repo, commit), options, repo);
  const meter = new Meter(files, options.onProgress);
  const missing: RemoteFile[] = [];
  for (const file of files) {
    if (await cache.has(commit, file.path, file.size)) meter.set(file, file.size, file.size);
    else missing.push(file);
  }
  if (missing.length > 0) {
    const { signal } = stop;
    const lock = await RepoLock.acquire(cache.lockFile, { signal, onWait: options.onWait });
    try {
      await requireSpace(cache, missing);
      const assertLocked = (): void => lock.assertHeld();
      const download: Download = { client, cache, commit, meter, assertLocked };
      await inParallel(sameContents(missing), concurrency, stop, (group) =>
        downloadFiles(download, group),
      );
    } finally {
      await lock.release();
    }
  }
  // Last, so that a branch never stands for a snapshot that is not there yet.
  await cache.writeRef(revision, commit);
  return {
    path: cache.snapshot(commit),
    commit,
    files: files.map(({ path }) => path),
    totalBytes: files.reduce((sum, { size }) => sum + size, 0),
    downloadedBytes: meter.downloadedBytes,
  };
}

/** What the cache has, for a machine without a network. */
async function findOffline(
  { repo, revision, cacheDir }: Target,
  { include }: PullOptions,
): Promise<PullResult> {
  const cache = new CachedRepo(cacheDir, repo);
  const found =
    include === undefined && !isDataset(repo)
      ? await findModel(`${repo}@${revision}`, { cacheDir })
      : undefined;
  const commit = await cache.commitOf(revision);
  const files = commit === undefined ? [] : await findFiles(cache.snapshot(commit), include);
  if (commit === undefined || (found === undefined && files.length === 0)) {
    throw new AccelError(
      'ERR_ACCEL_HUB',
      `HF_HUB_OFFLINE forbids the network, and the cache (${cacheDir}) does not have ${(include ?? ['files']).join(', ')} of ${repo} at ${revision}. Unset it to download.`,
    );
  }
  const path = cache.snapshot(commit);
  const totalBytes = files.reduce((sum, { size }) => sum + size, 0);
  return { path, commit, files: files.map((file) => file.path), totalBytes, downloadedBytes: 0 };
}

type Group = [RemoteFile, ...RemoteFile[]];

/** Files in groups of equal contents: each is one blob, which is downloaded once. */
function sameContents(files: readonly RemoteFile[]): Group[] {
  const groups = new Map<string, Group>();
  for (const file of files) {
    const group = groups.get(file.hash);
    if (group === undefined) groups.set(file.hash, [file]);
    else group.push(file);
  }
  return [...groups.values()];
}

/** A full disk after an hour is worse than an error now. */
async function requireSpace(cache: CachedRepo, missing: readonly RemoteFile[]): Promise<void> {
  await mkdir(cache.blobs, { recursive: true });
  let needed = 0;
  for (const [{ hash, size }] of sameContents(missing)) {
    const there = (await sizeOf(cache.blob(hash))) ?? (await sizeOf(cache.incomplete(hash))) ?? 0;
    needed += Math.max(0, size - there);
  }
  const { bavail, bsize } = await statfs(cache.folder);
  if (needed <= bavail * bsize) return;
  throw new AccelError(
    'ERR_ACCEL_FILE',
    `${cache.repo} needs ${formatBytes(needed)} more in ${cache.folder}, and ${formatBytes(bavail * bsize)} are free. Make room, or choose another folder with HF_HUB_CACHE.`,
  );
}
