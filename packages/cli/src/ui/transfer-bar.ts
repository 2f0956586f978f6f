import { formatBytes } from '../format.js';
import type { Io } from '../io.js';
import { colorsFor } from './colors.js';
import { Progress } from './progress.js';

/** How far a download is. */
export interface Transfer {
  /** The file that moves. */
  readonly file: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** Bytes of `doneBytes` that were there before. */
  readonly reusedBytes: number;
}

/** A bar over the bytes of a download, with the file that moves beside it. Draws nothing for short ones. */
export class TransferBar {
  readonly #io: Io;
  readonly #label: string;
  #bar: Progress | undefined;
  #reused = 0;

  constructor(io: Io, label: string) {
    this.#io = io;
    this.#label = label;
  }

  update({ file, doneBytes, totalBytes, reusedBytes }: Transfer): void {
    this.#bar ??= new Progress(this.#io.stderr, {
      label: this.#label,
      total: totalBytes,
      colors: colorsFor(this.#io.stderr, this.#io.env),
      delayMs: 300,
      format: (done, total) => `${formatBytes(done)} of ${formatBytes(total)}`,
    });
    // Time to go is estimated from what comes over the network, not from what was there.
    if (reusedBytes > this.#reused) {
      this.#bar.replayed(reusedBytes - this.#reused);
      this.#reused = reusedBytes;
    }
    this.#bar.update(doneBytes, file);
  }

  close(): void {
    this.#bar?.close();
  }
}
