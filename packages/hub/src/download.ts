import { rm } from 'node:fs/promises';
import { AccelError } from '@accel/kernels';
import { sizeOf, type CachedRepo } from './cached-repo.js';
import type { HubClient } from './client.js';
import { fileUrl, type RemoteFile } from './listing.js';
import type { Meter } from './meter.js';
import { PartialFile } from './partial-file.js';
import { Transient, retrying } from './retry.js';

/** Where files come from, where they go, and what is told on the way. */
export interface Download {
  readonly client: HubClient;
  readonly cache: CachedRepo;
  readonly commit: string;
  readonly meter: Meter;
  /** Throws when another process has taken the repository over. */
  readonly assertLocked: () => void;
}

/**
 * Brings files with the same contents into the snapshot. The contents are looked for in the cache first, continued if
 * an earlier download was interrupted, and checked against the hash before they get the name of a blob.
 * @param files at least one; all have the same hash
 * @throws AccelError `ERR_ACCEL_CHECKSUM` when the contents are not those that the Hub listed, `ERR_ACCEL_HUB`,
 *   `ERR_ACCEL_FILE`
 */
export async function downloadFiles(
  download: Download,
  files: readonly [RemoteFile, ...RemoteFile[]],
): Promise<void> {
  const { cache, commit, meter } = download;
  const [first, ...copies] = files;
  const blob = cache.blob(first.hash);
  if ((await sizeOf(blob)) === first.size) {
    meter.set(first, first.size, first.size);
  } else {
    // Of another size than its name's: not what it says it is.
    await rm(blob, { force: true });
    await fetchBlob(download, first);
  }
  for (const copy of copies) meter.set(copy, copy.size, copy.size);
  for (const file of files) await cache.link(commit, file.path, file.hash);
}

async function fetchBlob(download: Download, file: RemoteFile): Promise<void> {
  const { client, cache, assertLocked } = download;
  const { signal } = client.options;
  const path = cache.incomplete(file.hash);
  const partial = await PartialFile.open(path, file, signal);
  try {
    await receiveAll(download, file, partial);
    let whole = partial.matches();
    if (!whole && partial.inherited > 0) {
      // What an earlier process left may be damaged, by a power cut for one. All of it once more, then.
      await partial.restart();
      await receiveAll(download, file, partial);
      whole = partial.matches();
    }
    if (!whole) {
      await rm(path, { force: true });
      throw damaged(file);
    }
    assertLocked();
    await partial.finish(cache.blob(file.hash));
  } finally {
    await partial.close();
  }
}

function damaged({ path, hash }: RemoteFile): AccelError {
  const kind = hash.length === 64 ? 'SHA-256' : 'git hash';
  return new AccelError(
    'ERR_ACCEL_CHECKSUM',
    `${path} was received, but its contents are not those that the Hub lists (${kind} ${hash}). It was deleted. Pull again; if it happens again, a proxy or mirror changes files.`,
  );
}

async function receiveAll(
  download: Download,
  file: RemoteFile,
  partial: PartialFile,
): Promise<void> {
  const { retry, signal } = download.client.options;
  await retrying(
    () => receive(download, file, partial),
    retry,
    signal,
    () => partial.bytes,
  );
}

/** One request for the bytes that are missing. */
async function receive(
  { client, cache: { repo }, commit, meter }: Download,
  file: RemoteFile,
  partial: PartialFile,
): Promise<void> {
  const told = (): void => meter.set(file, partial.bytes, partial.inherited);
  told();
  if (partial.bytes === file.size) return;
  const url = fileUrl(client.options.endpoint, repo, commit, file.path);
  const from = partial.bytes;
  // No If-Range: the partial file is named by the hash of the whole, so it cannot belong to other contents; and the
  // storage behind a redirection has ETags of its own, with which the condition would never hold.
  using response = await client.open(url, repo, from > 0 ? { range: `bytes=${from}-` } : {});
  if (from > 0 && !continues(response, from)) {
    await partial.restart();
    if (response.status !== 200) throw new Transient(cut(file, 0), 0);
  }
  for await (const chunk of response.chunks()) {
    if (partial.bytes + chunk.length > file.size) {
      await partial.restart();
      throw new AccelError(
        'ERR_ACCEL_CHECKSUM',
        `${new URL(url).origin} sends more for ${file.path} than the ${file.size} bytes that it lists. Pull again; if it happens again, a proxy or mirror changes files.`,
      );
    }
    await partial.append(chunk);
    told();
  }
  if (partial.bytes < file.size) throw new Transient(cut(file, partial.bytes));
}

/** True when the answer is the part that was asked for; a server may also send all (200) or refuse the range (416). */
export function continues(
  { status, headers }: { status: number; headers: Headers },
  from: number,
): boolean {
  return (
    status === 206 && Number(/^bytes (\d+)-/.exec(headers.get('content-range') ?? '')?.[1]) === from
  );
}

function cut(file: RemoteFile, bytes: number): AccelError {
  return new AccelError(
    'ERR_ACCEL_HUB',
    `The connection ended after ${bytes} of ${file.size} bytes of ${file.path}. Pull again: what was received is kept.`,
  );
}
