import type { RemoteFile } from './listing.js';

/** How far a pull is. */
export interface PullProgress {
  /** The file that moved. */
  readonly file: string;
  /** Its bytes on disk. They fall back to 0 when a server cannot continue in the middle. */
  readonly fileBytes: number;
  /** Its bytes in all. */
  readonly fileSize: number;
  /** Bytes on disk of all wanted files. */
  readonly doneBytes: number;
  /** Bytes in all of all wanted files. */
  readonly totalBytes: number;
  /** Bytes of `doneBytes` that were there before this pull. */
  readonly reusedBytes: number;
}

/** Counts bytes over the files of one pull. */
export class Meter {
  readonly #report: ((progress: PullProgress) => void) | undefined;
  readonly #files = new Map<string, { bytes: number; reused: number }>();
  readonly #totalBytes: number;
  #doneBytes = 0;
  #reusedBytes = 0;

  constructor(files: readonly RemoteFile[], report?: (progress: PullProgress) => void) {
    this.#totalBytes = files.reduce((sum, file) => sum + file.size, 0);
    this.#report = report;
  }

  /** Bytes that this pull received and kept. */
  get downloadedBytes(): number {
    return this.#doneBytes - this.#reusedBytes;
  }

  /** Tells where a file is: `bytes` on disk, `reused` of them from before. */
  set(file: RemoteFile, bytes: number, reused: number): void {
    const before = this.#files.get(file.path) ?? { bytes: 0, reused: 0 };
    this.#files.set(file.path, { bytes, reused });
    this.#doneBytes += bytes - before.bytes;
    this.#reusedBytes += reused - before.reused;
    this.#report?.({
      file: file.path,
      fileBytes: bytes,
      fileSize: file.size,
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      reusedBytes: this.#reusedBytes,
    });
  }
}
