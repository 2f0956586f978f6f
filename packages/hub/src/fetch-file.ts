import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AccelError } from '@accel/kernels';
import { continues } from './download.js';
import { PartialFile } from './partial-file.js';
import { RepoLock } from './repo-lock.js';
import { openUrl, type OpenResponse, type RequestOptions } from './request.js';
import { Transient, retrying, type RetryPolicy } from './retry.js';

/** Options of {@link fetchFile}. */
export interface FetchOptions {
  /** What the file must be. Without it a download goes on after a cut connection, but not after the process ended. */
  readonly sha256?: string | undefined;
  /** Bytes that it must have. */
  readonly bytes?: number | undefined;
  /** Called as bytes arrive; `totalBytes` is undefined where the server does not say. */
  readonly onProgress?: ((progress: FetchProgress) => void) | undefined;
  /** Called once if another process downloads this file, with who it is. */
  readonly onWait?: ((owner: string) => void) | undefined;
  /** Stops with `ERR_ACCEL_ABORTED`; what was received is kept. */
  readonly signal?: AbortSignal | undefined;
  /** How often a cut connection is taken up again. Default: five times in a row without a byte. */
  readonly retry?: RetryPolicy | undefined;
  /** A connection that is silent for so many ms counts as cut. Default 30000. */
  readonly stallMs?: number | undefined;
}

/** How far a download is. */
export interface FetchProgress {
  readonly doneBytes: number;
  readonly totalBytes: number | undefined;
  /** Bytes of `doneBytes` that were there before. */
  readonly reusedBytes: number;
}

/** What {@link fetchFile} leaves behind. */
export interface FetchedFile {
  readonly bytes: number;
  /** In hexadecimal digits. */
  readonly sha256: string;
}

/**
 * Downloads one file from any http(s) address: resumed, checked, and under its name only when it is whole.
 *
 * @param path where it goes; folders are made
 * @throws AccelError `ERR_ACCEL_ARGUMENT`, `ERR_ACCEL_HUB` (not there, unreachable), `ERR_ACCEL_CHECKSUM`,
 *   `ERR_ACCEL_FILE`, `ERR_ACCEL_BUSY`, `ERR_ACCEL_ABORTED`
 */
export async function fetchFile(
  url: string,
  path: string,
  options: FetchOptions = {},
): Promise<FetchedFile> {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new AccelError('ERR_ACCEL_ARGUMENT', `"${url}" is not an http or https address.`);
  }
  const signal = options.signal ?? new AbortController().signal;
  try {
    await mkdir(dirname(path), { recursive: true });
    const lock = await RepoLock.acquire(`${path}.lock`, { signal, onWait: options.onWait });
    try {
      return await new Fetching(url, options, signal).run(path, () => lock.assertHeld());
    } finally {
      await lock.release();
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new AccelError(
      'ERR_ACCEL_ABORTED',
      `The download of ${url} was stopped.${options.sha256 === undefined ? '' : ' What was received is kept: pull again to go on.'}`,
      { cause: error },
    );
  }
}

/** One download, over as many requests as it takes. */
class Fetching {
  readonly #url: string;
  readonly #options: FetchOptions;
  readonly #request: Omit<RequestOptions, 'headers'>;
  /** ETag or date of what the first bytes belong to, for servers whose file we have no hash of. */
  #validator: string | undefined;
  #total: number | undefined;

  constructor(url: string, options: FetchOptions, signal: AbortSignal) {
    this.#url = url;
    this.#options = options;
    this.#total = options.bytes;
    this.#request = {
      signal,
      stallMs: options.stallMs ?? 30_000,
      advice: 'Check the network and the address',
      refusal: (response) => refused(response, url),
    };
  }

  async run(path: string, assertLocked: () => void): Promise<FetchedFile> {
    const { sha256: hash, bytes: size } = this.#options;
    const { signal } = this.#request;
    const incomplete = `${path}.incomplete`;
    const partial = await PartialFile.open(incomplete, { hash, size }, signal);
    try {
      await this.#receiveAll(partial);
      if (!partial.matches() && partial.inherited > 0) {
        await partial.restart();
        await this.#receiveAll(partial);
      }
      if (!partial.matches()) {
        await rm(incomplete, { force: true });
        throw this.#damaged(partial.bytes);
      }
      assertLocked();
      await partial.finish(path);
      return { bytes: partial.bytes, sha256: partial.digest() };
    } finally {
      await partial.close();
    }
  }

  async #receiveAll(partial: PartialFile): Promise<void> {
    const { signal } = this.#request;
    await retrying(
      () => this.#receive(partial),
      this.#options.retry ?? {},
      signal,
      () => partial.bytes,
    );
  }

  /** One request for the bytes that are missing. */
  async #receive(partial: PartialFile): Promise<void> {
    this.#tell(partial);
    if (partial.bytes > 0 && partial.bytes === this.#total) return;
    const hashed = this.#options.sha256 !== undefined;
    if (partial.bytes > 0 && !hashed && this.#validator === undefined) await partial.restart();
    const from = partial.bytes;
    using response = await openUrl(this.#url, {
      ...this.#request,
      headers: {
        ...(from > 0 && { range: `bytes=${from}-` }),
        ...(from > 0 && !hashed && { 'if-range': this.#validator ?? '' }),
      },
    });
    if (from > 0 && !continues(response, from)) {
      await partial.restart();
      if (response.status !== 200) throw new Transient(this.#cut(partial), 0);
    }
    this.#learn(response, partial);
    for await (const chunk of response.chunks()) {
      await partial.append(chunk);
      this.#tell(partial);
      if (partial.bytes > (this.#total ?? Infinity)) {
        await partial.restart();
        throw this.#damaged(partial.bytes);
      }
    }
    if (partial.bytes < (this.#total ?? 0)) throw new Transient(this.#cut(partial));
  }

  /** What the headers say about the whole. A weak ETag does not stand for the same bytes. */
  #learn({ headers }: OpenResponse, partial: PartialFile): void {
    const etag = headers.get('etag');
    this.#validator =
      etag !== null && !etag.startsWith('W/') ? etag : (headers.get('last-modified') ?? undefined);
    const length = headers.get('content-length');
    if (length === null) return;
    const total = partial.bytes + Number(length);
    // More tries would not make it the file that is wanted.
    if (total !== (this.#options.bytes ?? total)) throw this.#damaged(total);
    this.#total = total;
  }

  #tell({ bytes, inherited }: PartialFile): void {
    this.#options.onProgress?.({
      doneBytes: bytes,
      totalBytes: this.#total,
      reusedBytes: inherited,
    });
  }

  #cut({ bytes }: PartialFile): AccelError {
    return new AccelError(
      'ERR_ACCEL_HUB',
      `The connection ended after ${bytes} of ${this.#total ?? 'unknown'} bytes of ${this.#url}. Pull again.`,
    );
  }

  #damaged(bytes: number): AccelError {
    const { sha256, bytes: size } = this.#options;
    const expected = [
      ...(size === undefined ? [] : [`${size} bytes`]),
      ...(sha256 === undefined ? [] : [`SHA-256 ${sha256}`]),
    ].join(', ');
    return new AccelError(
      'ERR_ACCEL_CHECKSUM',
      `${this.#url} has something else (${bytes} bytes) than was expected (${expected}). It was not kept. Pull again; if it happens again, the file has changed or a proxy changes it.`,
    );
  }
}

/** What a status of 400 or above means. */
function refused(response: Response, url: string): Error {
  const { status } = response;
  const why =
    status === 404 || status === 410
      ? `There is nothing at ${url} (any more; status ${status}). Check the address.`
      : `${url} answered with status ${status}. Try again later, or get the file another way.`;
  const failure = new AccelError('ERR_ACCEL_HUB', why);
  if (status !== 408 && status !== 429 && status < 500) return failure;
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return new Transient(failure, seconds > 0 ? seconds * 1000 : undefined);
}
