import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { AccelError } from '@accel/kernels';

const READ_BYTES = 1 << 20;

/**
 * The beginning of a blob on disk and the hash of its bytes so far, so that the whole is checked when the last byte
 * comes in, whichever process wrote the first ones.
 */
export class PartialFile {
  readonly #path: string;
  readonly #expected: string;
  readonly #size: number;
  #file: FileHandle;
  #hash: Hash;
  #bytes = 0;
  #inherited = 0;

  private constructor(path: string, expected: string, size: number, file: FileHandle) {
    this.#path = path;
    this.#expected = expected;
    this.#size = size;
    this.#file = file;
    this.#hash = startHash(expected, size);
  }

  /**
   * Opens what an earlier download left, or begins.
   * @param path `blobs/<hash>.incomplete`
   * @param expected hash of the whole: SHA-256 (64 digits) or git's blob hash (40)
   * @param size bytes of the whole
   */
  static async open(
    path: string,
    expected: string,
    size: number,
    signal: AbortSignal,
  ): Promise<PartialFile> {
    const partial = new PartialFile(path, expected, size, await openFile(path));
    try {
      await partial.#readBack(signal);
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
    this.#hash = startHash(this.#expected, this.#size);
    this.#bytes = 0;
    this.#inherited = 0;
  }

  /** True when the bytes are those that were promised. Call it once, after the last byte. */
  matches(): boolean {
    return this.#bytes === this.#size && this.#hash.digest('hex') === this.#expected;
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
    if (there?.ino !== mine.ino || mine.size !== this.#size) {
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
    if (size > this.#size) return this.restart();
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
function startHash(expected: string, size: number): Hash {
  if (expected.length === 64) return createHash('sha256');
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
