import { randomUUID } from 'node:crypto';
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { AccelError } from '@accel/kernels';

/** A file that gets its name when it is complete. Until then it is a neighbour with a name of its own. */
export class NewFile {
  readonly #path: string;
  readonly #temporary: string;
  readonly #file: FileHandle;

  private constructor(path: string, temporary: string, file: FileHandle) {
    this.#path = path;
    this.#temporary = temporary;
    this.#file = file;
  }

  /** @throws AccelError `ERR_ACCEL_FILE` */
  static async create(path: string): Promise<NewFile> {
    const temporary = `${path}.${randomUUID()}.tmp`;
    return new NewFile(path, temporary, await attempt('write', path, open(temporary, 'wx')));
  }

  /** Appends bytes, or overwrites those from `at` on. */
  async write(bytes: Uint8Array, at?: number): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const place = at === undefined ? null : at + done;
      const writing = this.#file.write(bytes, done, bytes.length - done, place);
      done += (await attempt('write', this.#path, writing)).bytesWritten;
    }
  }

  /** Puts the file in its place, over one that is there. */
  async finish(): Promise<void> {
    await attempt('write', this.#path, this.#file.sync());
    await attempt('write', this.#path, this.#file.close());
    await attempt('write', this.#path, rename(this.#temporary, this.#path));
  }

  /** Removes what was written. */
  async discard(): Promise<void> {
    await this.#file.close().catch(() => undefined);
    await rm(this.#temporary, { force: true }).catch(() => undefined);
  }
}

/** A file that is read from its beginning to its end. */
export class OldFile {
  readonly path: string;
  readonly size: number;
  readonly #file: FileHandle;
  #position = 0;

  private constructor(path: string, size: number, file: FileHandle) {
    this.path = path;
    this.size = size;
    this.#file = file;
  }

  /** @throws AccelError `ERR_ACCEL_FILE` when there is no such regular file or it cannot be read */
  static async open(path: string): Promise<OldFile> {
    // Before it is opened, which for a pipe would wait.
    if (!(await attempt('read', path, stat(path))).isFile()) {
      throw new AccelError('ERR_ACCEL_FILE', `Cannot read ${path}: it is not a regular file.`);
    }
    const file = await attempt('read', path, open(path, 'r'));
    const { size } = await attempt('read', path, file.stat());
    return new OldFile(path, size, file);
  }

  /** Bytes that have not been read yet. */
  get rest(): number {
    return this.size - this.#position;
  }

  /** The next bytes; there must be as many. */
  async read(length: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const reading = this.#file.read(bytes, done, length - done, this.#position);
      const { bytesRead } = await attempt('read', this.path, reading);
      if (bytesRead === 0) throw damaged(this.path, 'became shorter while it was read');
      done += bytesRead;
      this.#position += bytesRead;
    }
    return bytes;
  }

  async close(): Promise<void> {
    await this.#file.close().catch(() => undefined);
  }
}

/** What is wrong with a file that holds a saved sequence, or should. */
export function damaged(path: string, problem: string, cause?: unknown): AccelError {
  return unusable(path, `${problem}. The file is damaged or incomplete`, cause);
}

/** Why a sound file cannot be used here. */
export function unusable(path: string, problem: string, cause?: unknown): AccelError {
  return new AccelError(
    'ERR_ACCEL_SAVED_SEQUENCE',
    `${path} ${problem}. Process the prompt again instead.`,
    cause === undefined ? undefined : { cause },
  );
}

async function attempt<T>(what: 'read' | 'write', path: string, action: Promise<T>): Promise<T> {
  try {
    return await action;
  } catch (error) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `Cannot ${what} ${path}: ${(error as Error).message}. Check the path, its permissions and free space.`,
      { cause: error },
    );
  }
}
