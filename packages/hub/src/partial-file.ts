import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { AccelError } from '@accel/kernels';

const READ_BYTES = 1 << 20;

/** What is known of a file before it is here. */
interface Expected {
  /** SHA-256 (64 digits) or git's blob hash (40) of the whole, which needs the size too. */
  readonly hash?: string | undefined;
  /** Bytes of the whole. */
  readonly size?: number | undefined;
}

/**
 * The beginning of a file on disk and the hash of its bytes so far, so that the whole is checked when the last byte
 * comes in, whichever process wrote the first ones.
 */
export class PartialFile {
  readonly #path: string;
  readonly #expected: Expected;
  #file: FileHandle;
  #hash: Hash;
  #digest: string | undefined;
  #bytes = 0;
  #inherited = 0;

  private constructor(path: string, expected: Expected, file: FileHandle) {
    this.#path = path;
    this.#expected = expected;
    this.#file = file;
    this.#hash = startHash(expected);
  }

  /**
   * Opens what an earlier download left, or begins. Without a hash nobody could tell what it left, so it begins anew.
   * @param path such as `blobs/<hash>.incomplete`
   */
  static async open(path: string, expected: Expected, signal: AbortSignal): Promise<PartialFile> {
    const partial = new PartialFile(path, expected, await openFile(path));
    try {
      await (expected.hash === undefined ? partial.restart() : partial.#readBack(signal));
    } catch (error) {
      await partial.close();
      throw error;
    }
    return partial;
  }

  /** Bytes so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes of {@link bytes} that were there when the file was opened. */
  get inherited(): number {
    return this.#inherited;
  }

  /** Adds what follows. */
  async append(chunk: Uint8Array): Promise<void> {
    // At a position: even if a lock failed and two processes were here, both would write the same bytes.
    for (let done = 0; done < chunk.length;) {
      const { bytesWritten } = await this.#file.write(
        chunk,
        done,
        chunk.length - done,
        this.#bytes + done,
      );
      done += bytesWritten;
    }
    this.#hash.update(chunk);
    this.#bytes += chunk.length;
  }

  /** Forgets everything and begins with a new file. */
  async restart(): Promise<void> {
    await this.#file.close();
    await rm(this.#path, { force: true });
    this.#file = await openFile(this.#path);
    this.#hash = startHash(this.#expected);
    this.#digest = undefined;
    this.#bytes = 0;
    this.#inherited = 0;
  }

  /** Hash of the bytes, after the last one: SHA-256 unless git's was expected. */
  digest(): string {
    return (this.#digest ??= this.#hash.digest('hex'));
  }

  /** True when the bytes are those that were promised, as far as anything was. Only after the last byte. */
  matches(): boolean {
    const { hash, size } = this.#expected;
    return (
      (size === undefined || this.#bytes === size) && (hash === undefined || this.digest() === hash)
    );
  }

  /**
   * Gives the whole file its name.
   * @throws AccelError `ERR_ACCEL_BUSY` when another program has put its hands on the file
   */
  async finish(blob: string): Promise<void> {
    // On disk before it has the name that says so: after a power cut a blob is whole or not there.
    await this.#file.sync();
    const mine = await this.#file.stat();
    const there = await stat(this.#path).catch(() => undefined);
    if (there?.ino !== mine.ino || mine.size !== this.#bytes) {
      throw new AccelError(
        'ERR_ACCEL_BUSY',
        `Another program is writing ${this.#path}. Wait until it is done, then pull again.`,
      );
    }
    await rename(this.#path, blob);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #readBack(signal: AbortSignal): Promise<void> {
    const { size } = await this.#file.stat();
    if (size > (this.#expected.size ?? Infinity)) return this.restart();
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, size));
    while (this.#bytes < size) {
      signal.throwIfAborted();
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, this.#bytes);
      if (bytesRead === 0) break;
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.#bytes += bytesRead;
    }
    this.#inherited = this.#bytes;
  }
}

/** Git hashes a blob behind a header; large-file storage hashes the bytes alone. */
function startHash({ hash, size }: Expected): Hash {
  if (hash?.length !== 40) return createHash('sha256');
  return createHash('sha1').update(`blob ${size}\0`);
}

async function openFile(path: string): Promise<FileHandle> {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
  try {
    // A link in this place would send the bytes into some other file.
    return await open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o666);
  } catch (error) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `Cannot write ${path}: ${(error as Error).message}. Check the cache's folder and its permissions, or choose another one with HF_HUB_CACHE.`,
      { cause: error },
    );
  }
}
