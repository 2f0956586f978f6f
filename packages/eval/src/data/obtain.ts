import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fetchFile, pull, type RetryPolicy } from '@accel/hub';
import { fileError, messageOf } from '../errors.js';
import type { Environment } from './locate.js';
import { sha256Of, type DataManifest } from './manifest.js';
import type { DataOrigin } from './sets.js';

/** How far the download of one file is. */
export interface DataProgress {
  /** Address of the file. */
  readonly from: string;
  readonly doneBytes: number;
  /** Undefined where the server does not say. */
  readonly totalBytes: number | undefined;
  /** Bytes of `doneBytes` that were there before. */
  readonly reusedBytes: number;
}

/** How files are obtained. */
interface ObtainOptions {
  readonly env: Environment;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: DataProgress) => void) | undefined;
  readonly retry?: RetryPolicy | undefined;
}

/** A file that is here now. */
export interface Obtained {
  /** File or folder. */
  readonly path: string;
  readonly source: DataManifest['sources'][number];
}

/**
 * Brings an origin onto this machine: downloads from http(s), pulls from the Hugging Face Hub into its cache
 * (`datasets/<org>/<name>/<file>`, with `HF_ENDPOINT`, `HF_TOKEN`), or takes what is there at an absolute path.
 *
 * @param downloads folder for what comes over http
 * @throws AccelError ERR_ACCEL_FILE, ERR_ACCEL_HUB, ERR_ACCEL_CHECKSUM, ERR_ACCEL_ABORTED
 */
export async function obtain(
  origin: DataOrigin,
  downloads: string,
  options: ObtainOptions,
): Promise<Obtained> {
  const { from, sha256, bytes } = origin;
  const { env, signal, retry } = options;
  if (/^https?:\/\//.test(from)) {
    // Named by the address, so that an interrupted download is found again and two files of one name do not meet.
    const folder = createHash('sha256').update(from).digest('hex').slice(0, 16);
    const path = join(downloads, folder, basename(new URL(from).pathname) || 'file');
    const fetched = await fetchFile(from, path, {
      sha256,
      bytes,
      signal,
      retry,
      onProgress: (progress) => options.onProgress?.({ from, ...progress }),
    });
    return { path, source: { from, sha256: fetched.sha256 } };
  }
  const [, repo, file] = /^(datasets\/[^/]+\/[^/]+)\/(.+)$/.exec(from) ?? [];
  if (repo !== undefined && file !== undefined) {
    const pulled = await pull(repo, {
      include: [file],
      env,
      ...(signal !== undefined && { signal }),
      ...(retry !== undefined && { retry }),
      onProgress: ({ doneBytes, totalBytes, reusedBytes }) =>
        options.onProgress?.({ from, doneBytes, totalBytes, reusedBytes }),
    });
    const path = join(pulled.path, file);
    return { path, source: { from: `${from}@${pulled.commit}`, sha256: await sha256Of(path) } };
  }
  return { path: from, source: { from, sha256: await sha256OfFile(from) } };
}

/** Undefined for a folder. */
async function sha256OfFile(path: string): Promise<string | undefined> {
  try {
    return (await stat(path)).isFile() ? await sha256Of(path) : undefined;
  } catch (error) {
    throw fileError(`Cannot read ${path}: ${messageOf(error)}. Check --from.`, error);
  }
}
